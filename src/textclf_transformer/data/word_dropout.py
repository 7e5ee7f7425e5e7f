"""Word dropout: a classifier that cannot count on any single word learns from more of them.

Iyyer et al. 2015 ("Deep unordered composition rivals syntactic methods for text classification", section 3)
leave words out; here they become [MASK], which the encoder knows from its pretraining, so that lengths,
positions and batches stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.utils import derive_seed


@dataclass(frozen=True, slots=True)
class WordDropout:
    """Hides tokens of training documents, others in each epoch.

    Attributes:
        tokenizer: knows [MASK] and the special tokens, which are never hidden.
        share: of the other tokens that is hidden, 0 < share < 1; each is drawn on its own.
        seed: the run's seed.
    """

    tokenizer: TokenizerWrapper
    share: float
    seed: int

    def hide(self, chunks: Sequence[Int64Array], *, epoch: int, sample: int) -> list[Int64Array]:
        """Return the chunks of a document with some of their tokens hidden.

        What is hidden is a function of (seed, epoch, sample). A token that stands in two chunks is drawn in
        each of them.

        Args:
            chunks: int64 (tokens,) each; left as they are.
            epoch: from 0.
            sample: number of the document in its split.
        """
        tokens = torch.from_numpy(np.concatenate(chunks))
        hidden, _ = self.tokenizer.mask_input_for_mlm(
            tokens,
            torch.zeros(len(tokens), dtype=torch.bool, device="cpu"),
            mask_p=self.share,
            mask_token_p=1.0,
            random_token_p=0.0,
            generator=torch.Generator().manual_seed(derive_seed("word dropout", self.seed, epoch, sample)),
        )
        return np.split(hidden.numpy(), np.cumsum([len(chunk) for chunk in chunks])[:-1])
