"""Documents and a tokenizer that live in memory, for tests of what comes after the data files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_WORD = 5
VOCAB_SIZE = 1000


@dataclass
class InMemoryDocuments:
    token_arrays: list[np.ndarray]
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    path: str = "memory"
    vocab_size: int | None = VOCAB_SIZE
    tokenizer_fingerprint: str | None = None
    fingerprint: str = "memory"
    preset_chunks: bool = False

    def __post_init__(self) -> None:
        self.lengths = np.array([len(tokens) for tokens in self.token_arrays], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.token_arrays)

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.token_arrays[index][start:stop]

    def verify_unchanged(self) -> None:
        pass


def documents_of_lengths(lengths: list[int], **attributes) -> InMemoryDocuments:
    """Documents that count up from FIRST_WORD, one going on where the other ends."""
    counter = np.arange(sum(lengths), dtype=np.int64) % (VOCAB_SIZE - FIRST_WORD) + FIRST_WORD
    return InMemoryDocuments(np.split(counter, np.cumsum(lengths)[:-1]), **attributes)


class MaskingTokenizer:
    """Replaces a share of the content tokens by [MASK]; what stays is known from the labels."""

    pad_token_id, cls_token_id, sep_token_id, vocab_size = PAD, CLS, SEP, VOCAB_SIZE
    fingerprint = "a" * 64

    def mask_input_for_mlm(
        self, input_ids, attention_mask, *, mask_p, mask_token_p, random_token_p, generator
    ):
        assert input_ids.ndim == 1 and attention_mask.shape == input_ids.shape
        chosen = torch.rand(input_ids.shape, generator=generator) < mask_p
        chosen &= (input_ids >= FIRST_WORD) & ~attention_mask
        return input_ids.masked_fill(chosen, MASK), input_ids.masked_fill(~chosen, -100)
