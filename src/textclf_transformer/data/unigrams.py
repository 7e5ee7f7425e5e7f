"""How much there is to know about a text without its context: the entropy of its tokens."""

from __future__ import annotations

import numpy as np

from textclf_transformer.data.documents import Documents

MOST_TOKENS = 20_000_000


def unigram_entropy(documents: Documents, *, vocab_size: int, most_tokens: int = MOST_TOKENS) -> float:
    """Return the entropy, in nats, of the tokens' frequencies.

    It is what a masked token costs a model that knows these frequencies and nothing else. Of a larger corpus
    every n-th document counts, so that about ``most_tokens`` are read.

    Raises:
        DataError: a document cannot be read.
    """
    every = max(1, round(int(documents.lengths.sum()) / most_tokens))
    counts = np.zeros(vocab_size, dtype=np.int64)
    waiting: list[np.ndarray] = []
    size = 0
    for index in range(0, len(documents), every):
        waiting.append(documents.tokens(index))
        size += len(waiting[-1])
        if size > 1 << 20:
            counts += np.bincount(np.concatenate(waiting), minlength=vocab_size)
            waiting, size = [], 0
    if waiting:
        counts += np.bincount(np.concatenate(waiting), minlength=vocab_size)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
