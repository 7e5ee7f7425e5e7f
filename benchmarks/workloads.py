"""What the benchmarks work on: encoder shapes, made-up documents of known lengths, and what a step must
compute.

D hidden size, F width of the feed-forward networks, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer

from textclf_transformer.config import ArchitectureSection
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper
from textclf_transformer.utils import derive_seed

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In RoBERTa's order; the padding token is number 1, as Hugging Face's RoBERTa wants it."""

SEED = 42
MASK_P = 0.15
MAX_CHUNKS = 20


@dataclass(frozen=True, slots=True)
class Dropouts:
    """Drop probabilities of attention weights and of hidden states (embeddings included)."""

    attention: float
    hidden: float

    def __str__(self) -> str:
        return f"attention {self.attention:g}, hidden {self.hidden:g}"


TEMPLATE = Dropouts(attention=0.0, hidden=0.1)
"""Ours, as the templates have it."""

ROBERTA = Dropouts(attention=0.1, hidden=0.1)
"""Hugging Face's defaults."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An encoder."""

    num_layers: int
    hidden_size: int
    num_heads: int
    ffn_size: int
    vocab_size: int
    length: int = 512

    def architecture(self, dropouts: Dropouts) -> ArchitectureSection:
        """Return the section of a config that describes it."""
        return ArchitectureSection.model_validate(
            {
                "max_sequence_length": self.length,
                "embedding_dim": self.hidden_size,
                "num_layers": self.num_layers,
                "ffn_dim": self.ffn_size,
                "attention": {"num_heads": self.num_heads},
                "dropouts": {
                    "embedding": dropouts.hidden,
                    "attention": dropouts.attention,
                    "hidden": dropouts.hidden,
                },
            }
        )


ROBERTA_BASE = Shape(12, 768, 12, 3072, 50265)
FOUR_LAYERS = Shape(4, 256, 4, 1024, 50265)
SIX_LAYERS = Shape(6, 256, 4, 1024, 16000)
TOY = Shape(2, 32, 2, 64, 120, length=32)


@functools.cache
def make_tokenizer(vocab_size: int) -> WordPieceTokenizerWrapper:
    """Return a tokenizer with ``vocab_size`` made-up words, special tokens in RoBERTa's order."""
    words = [f"w{number}" for number in range(vocab_size - len(SPECIAL_TOKENS))]
    vocab = {word: number for number, word in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return WordPieceTokenizerWrapper.from_tokenizer(tokenizer)


@dataclass
class Documents:
    """Documents in memory, as ``data.documents.Documents`` wants them; tokens drawn evenly."""

    lengths: NDArray[np.int64]
    vocab: int
    labels: NDArray[np.int64] | None = None
    label_names: tuple[str, ...] | None = None
    path: str = "memory"
    tokenizer_fingerprint: str | None = None
    fingerprint: str = "memory"
    preset_chunks: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def vocab_size(self) -> int | None:
        """V."""
        return self.vocab

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Return the tokens of one document, the same at each call, or those from ``start`` to ``stop``."""
        stream = np.random.default_rng(derive_seed("benchmark", index))
        tokens = stream.integers(len(SPECIAL_TOKENS), self.vocab, size=int(self.lengths[index]))
        return tokens[start:stop]

    def verify_unchanged(self) -> None:
        """They are."""


def normal_lengths(count: int, *, mean: float, deviation: float, most: int) -> list[int]:
    """Return ``count`` lengths spread like a normal distribution, cut off at 16 and ``most``, mixed.

    They are the distribution's quantiles and not draws, so that few documents stand for many.
    """
    distribution = NormalDist(mean, deviation)
    lengths = [round(distribution.inv_cdf((rank + 0.5) / count)) for rank in range(count)]
    return _mixed([min(max(length, 16), most) for length in lengths])


def lognormal_chunk_counts(count: int, *, mean: float, most: int, sigma: float = 0.8) -> list[int]:
    """Return ``count`` numbers of chunks from 1 to ``most``, spread like a log-normal distribution, mixed.

    Quantiles again; the distribution's median is chosen so that their mean comes as near to ``mean`` as
    whole numbers allow.
    """
    scores = [NormalDist().inv_cdf((rank + 0.5) / count) for rank in range(count)]

    def counts(median: float) -> list[int]:
        return [min(max(round(median * math.exp(sigma * score)), 1), most) for score in scores]

    medians = np.linspace(1.0, most, 400)
    best = min(medians, key=lambda median: abs(sum(counts(median)) / count - mean))
    return _mixed(counts(float(best)))


def document_lengths(chunk_counts: Sequence[int], *, chunk_size: int) -> list[int]:
    """Return content tokens that make these numbers of chunks; the last chunk of each is partly full."""
    content = chunk_size - 2
    stream = np.random.default_rng(derive_seed("benchmark", "last chunk"))
    return [(count - 1) * content + int(stream.integers(content // 4, content + 1)) for count in chunk_counts]


def _mixed(values: list[int]) -> list[int]:
    order = np.random.default_rng(derive_seed("benchmark", "order")).permutation(len(values))
    return [values[index] for index in order]


def encoder_flops(shape: Shape, lengths: Sequence[int], outputs: Sequence[int]) -> float:
    """Return the operations of the matrix products of a forward pass that no exact method can leave out.

    That is: real tokens only, attention within a sequence only, and in the last layer queries, output
    projection and feed-forward network only where the output is used.

    Args:
        shape: the encoder.
        lengths: real tokens of each sequence.
        outputs: positions of each sequence whose last hidden state is used.
    """
    d, f = shape.hidden_size, shape.ffn_size
    total = 0.0
    for length, wanted in zip(lengths, outputs, strict=True):
        layer = length * 2 * (4 * d * d + 2 * d * f) + 4 * length * length * d
        last = length * 2 * 2 * d * d + wanted * (2 * (2 * d * d + 2 * d * f) + 4 * length * d)
        total += (shape.num_layers - 1) * layer + last
    return total


def mlm_step_flops(shape: Shape, lengths: Sequence[int], targets: Sequence[int]) -> float:
    """Return the operations of one training step: three forward passes' worth, head on the targets only."""
    head = sum(targets) * 2 * (shape.hidden_size**2 + shape.hidden_size * shape.vocab_size)
    return 3 * (encoder_flops(shape, lengths, targets) + head)


def chunk_flops(shape: Shape, lengths: Sequence[int], *, training: bool) -> float:
    """Return the operations for chunks of which the first position is used; the small head is not counted."""
    return (3 if training else 1) * encoder_flops(shape, lengths, [1] * len(lengths))
