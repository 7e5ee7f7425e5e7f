"""Finding documents that are nearly the same: MinHash signatures (Broder 1997) and locality-sensitive hashing
in bands (Indyk & Motwani 1998), vectorised over documents.

A document is the set of its runs of three units (tokens or words). The similarity of two documents is that of
Jaccard: runs in common, divided by runs in either. A copy in which one word in twenty was replaced has a
similarity of about 0.75, two unrelated documents one below 0.1.

N documents, U units of a document, H = ``HASHES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

RUN = 3
"""Units in a run. Longer ones are missed where copies differ a little, shorter ones are shared by chance."""

BANDS, ROWS = 32, 4
HASHES = BANDS * ROWS
SIMILAR = 0.6
"""Least similarity of near duplicates. A pair of this similarity is compared with probability 0.99, one of
0.75 practically always: 1 − (1 − s ** ROWS) ** BANDS. What is compared is the estimate from the signatures,
whose standard error is at most 0.044."""

_UNITS_AT_ONCE = 1 << 16  # so that the hashes of one function stay in the processor's cache
_COMPARED_WITH_ALL = 16  # documents of one bucket; in a larger one, neighbours are compared
_PAIRS_AT_ONCE = 1 << 16

Uint32Array = NDArray[np.uint32]
Uint64Array = NDArray[np.uint64]


def signatures(documents: Iterable[NDArray[np.integer]]) -> tuple[Uint32Array, NDArray[np.int64]]:
    """Return the signatures of ``documents``, and how many different runs each has.

    Args:
        documents: the units of each document, integers from 0 (U,), U at least 1.

    Returns:
        uint32 (N, H) and int64 (N,).
    """
    multipliers, offsets = _hash_functions()
    parts: list[Uint32Array] = []
    distinct: list[int] = []
    for batch in _batches(documents):
        hashes, starts = _run_hashes(batch)
        part = np.empty((len(batch), HASHES), dtype=np.uint32)
        for number in range(HASHES):
            mixed = (hashes ^ offsets[number]) * multipliers[number]
            part[:, number] = np.minimum.reduceat(mixed, starts)
        parts.append(part)
        distinct += [len(np.unique(runs)) for runs in np.split(hashes, starts[1:])]
    if not parts:
        return np.zeros((0, HASHES), dtype=np.uint32), np.zeros(0, dtype=np.int64)
    return np.concatenate(parts), np.array(distinct, dtype=np.int64)


def similar_pairs(marks: Uint32Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of documents whose estimated similarity is ``SIMILAR`` or more.

    Of more than ``_COMPARED_WITH_ALL`` documents that agree in a whole band, each is compared with the next
    one only, so that a thousand forms of one template do not give half a million pairs; ``clusters`` still
    puts them together.

    Args:
        marks: ``signatures`` (N, H).

    Returns:
        int64 (pairs, 2), the smaller number first, sorted; and the similarities, float64 (pairs,).
    """
    found = [_pairs_of_band(marks[:, start : start + ROWS]) for start in range(0, HASHES, ROWS)]
    codes = np.unique(np.concatenate([first * len(marks) + second for first, second in found]))
    pairs = np.stack(np.divmod(codes, max(len(marks), 1)), axis=1)
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        similarity[start : start + len(part)] = (marks[part[:, 0]] == marks[part[:, 1]]).mean(axis=1)
    near = similarity >= SIMILAR
    return pairs[near], similarity[near]


def clusters(pairs: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
    """Return the smallest number of each document's cluster, int64 (count,); alone: its own number.

    Args:
        pairs: which documents belong together, (pairs, 2).
        count: N.
    """
    root = np.arange(count, dtype=np.int64)
    while True:
        low = np.minimum(root[pairs[:, 0]], root[pairs[:, 1]])
        before = root.copy()
        np.minimum.at(root, pairs[:, 0], low)
        np.minimum.at(root, pairs[:, 1], low)
        root = root[root]
        if np.array_equal(root, before):
            return root


def _hash_functions() -> tuple[Uint32Array, Uint32Array]:
    """Return odd multipliers and offsets, uint32 (H,); fixed, so that an audit repeats itself."""
    generator = np.random.Generator(np.random.PCG64(0))
    multipliers, offsets = generator.integers(0, 1 << 32, size=(2, HASHES), dtype=np.uint32)
    return multipliers | np.uint32(1), offsets


def _batches(documents: Iterable[NDArray[np.integer]]) -> Iterable[list[NDArray[np.integer]]]:
    batch: list[NDArray[np.integer]] = []
    units = 0
    for document in documents:
        if batch and units + len(document) > _UNITS_AT_ONCE:
            yield batch
            batch, units = [], 0
        batch.append(document)
        units += len(document)
    if batch:
        yield batch


def _run_hashes(batch: Sequence[NDArray[np.integer]]) -> tuple[Uint32Array, NDArray[np.int64]]:
    """Return a hash for the run that begins at each unit, uint32 (units,), and where documents start.

    The last runs of a document reach over its end, into zeros; so a document of one unit has a run too.
    """
    lengths = np.array([len(document) for document in batch])
    ends = np.zeros(RUN - 1, dtype=np.uint64)
    padded = np.concatenate([part for document in batch for part in (document.astype(np.uint64) + 1, ends)])
    starts = np.cumsum(lengths) - lengths
    real = np.arange(lengths.sum()) + np.repeat(np.arange(len(batch)) * (RUN - 1), lengths)
    hashes = np.zeros(len(real), dtype=np.uint64)
    for place in range(RUN):
        hashes = _mixed(hashes ^ padded[real + place])
    return (hashes >> np.uint64(32)).astype(np.uint32), starts


def _mixed(values: Uint64Array) -> Uint64Array:
    """Return the values hashed by the finaliser of SplitMix64 (Steele et al. 2014), a bijection."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _pairs_of_band(band: Uint32Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (first, second) of the documents that agree in all rows of ``band`` (N, ROWS)."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        keys = _mixed(keys ^ column)
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    bucket = np.concatenate(([0], np.cumsum(~same)))[: len(order)]
    is_large = np.bincount(bucket, minlength=1)[bucket] > _COMPARED_WITH_ALL
    first, second = [], []
    for distance in range(1, _COMPARED_WITH_ALL):
        together = bucket[distance:] == bucket[:-distance]
        if not together.any():
            break
        if distance > 1:
            together &= ~is_large[distance:]
        first.append(order[:-distance][together])
        second.append(order[distance:][together])
    if not first:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(first), np.concatenate(second)
