"""What is to know about a data set before any training: counted in one pass over each split.

N documents of all splits together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textclf_transformer.data.audit_collecting import Collected, collect
from textclf_transformer.data.audit_drifts import Drift, find_drifts
from textclf_transformer.data.audit_input import AuditInput, Unit
from textclf_transformer.data.audit_overlaps import Copies, Overlap, find_copies, find_overlaps
from textclf_transformer.data.chunking import MOST_CHUNKS, chunk_counts, tokens_read
from textclf_transformer.data.documents import Int64Array

SHARES = (0.95, 0.99)
"""Shares of tokens and of documents for which the needed ``max_chunks`` is worked out."""


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents would be read: see ``data/chunking.py``."""

    chunk_size: int
    stride: int
    max_chunks: int


@dataclass(frozen=True, slots=True)
class Needed:
    """The ``max_chunks`` that reads a share of all documents, chunk_size and stride staying as they are.

    Attributes:
        share: 0.95, say.
        for_tokens: so that this share of all tokens is read.
        for_documents: so that this share of documents is read to the end.
    """

    share: float
    for_tokens: int
    for_documents: int


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """The numbers of one split.

    Attributes:
        name: train, val, test or data.
        path: where it was read.
        documents: with text.
        empty: documents without text, which no other number counts.
        units: tokens (or words) of all documents.
        lengths: ``shortest, p10, median, p90, p99, longest`` in units.
        histogram: documents between two neighbours of ``Audit.edges``.
        labels: documents of each label; None where no document has one.
        unlabelled: documents without a label.
        tokens_read: how many tokens stand in a chunk; None where units are words.
        documents_cut: how many documents are not read to the end; None where units are words.
        unknown_tokens: tokens that the vocabulary lacks; None where units are words.
        words: of the text, divided at spaces; None where the text is not kept.
        characters: of the text; None where it is not kept.
        oddities: name of an oddity → ids of such documents.
        repeated_ids: documents whose id stands in the split before.
        copies: documents that stand there before, exactly or nearly.
    """

    name: str
    path: str
    documents: int
    empty: int
    units: int
    lengths: dict[str, int]
    histogram: list[int]
    labels: dict[str, int] | None
    unlabelled: int
    tokens_read: int | None
    documents_cut: int | None
    unknown_tokens: int | None
    words: int | None
    characters: int | None
    oddities: dict[str, list[str]]
    repeated_ids: int
    copies: Copies


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that the audit counted; ``audit_findings.findings`` judges it.

    Attributes:
        unit: what lengths are counted in.
        splits: in the order given.
        overlaps: each pair of splits, the later one first.
        drifts: each later split against the first, where both have labels.
        conflicting: documents whose very text stands somewhere with another label.
        edges: of the histogram, in units; rising.
        chunking: None where units are words.
        needed: for each of ``SHARES``; empty where units are words.
    """

    unit: Unit
    splits: list[SplitAudit]
    overlaps: list[Overlap]
    drifts: list[Drift]
    conflicting: int
    edges: list[int]
    chunking: Chunking | None
    needed: list[Needed]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain Python, ready for JSON."""
        return asdict(self)


def audit(parts: Mapping[str, AuditInput], chunking: Chunking) -> Audit:
    """Count what there is to count.

    Args:
        parts: split name → its documents, in the same unit; the training split first.
        chunking: how documents would be read.

    Raises:
        DataError: a split holds no document, or cannot be read.
    """
    collected = {name: collect(name, part) for name, part in parts.items()}
    unit = next(iter(parts.values())).unit
    lengths = np.concatenate([part.lengths for part in collected.values()])
    edges = length_edges(lengths)
    near, copies = find_copies(collected)
    return Audit(
        unit=unit,
        splits=[
            _split(part, copies[name], edges, chunking if unit == "tokens" else None)
            for name, part in collected.items()
        ],
        overlaps=find_overlaps(collected, near),
        drifts=find_drifts(collected),
        conflicting=near.conflicting(collected),
        edges=edges.tolist(),
        chunking=chunking if unit == "tokens" else None,
        needed=needed_chunks(lengths, chunking) if unit == "tokens" else [],
    )


def length_edges(lengths: Int64Array) -> Int64Array:
    """Return edges that double every two bins, from below the shortest to above the longest length."""
    first = int(np.floor(2 * np.log2(lengths.min())))
    last = int(np.floor(2 * np.log2(lengths.max()))) + 1
    edges = np.unique(np.round(2 ** (np.arange(first, last + 1) / 2)).astype(np.int64))
    edges[0] = min(edges[0], lengths.min())
    if edges[-1] <= lengths.max():
        edges = np.append(edges[:-1] if len(edges) > 2 else edges, lengths.max() + 1)
    return edges


def needed_chunks(lengths: Int64Array, chunking: Chunking) -> list[Needed]:
    """Return what reads each of ``SHARES`` of documents of these ``lengths`` (N,)."""
    size, stride = chunking.chunk_size, chunking.stride
    counts = np.sort(chunk_counts(lengths, chunk_size=size, stride=stride, max_chunks=MOST_CHUNKS))
    results = []
    for share in SHARES:
        low, high = 1, int(counts[-1])
        while low < high:
            middle = (low + high) // 2
            read = tokens_read(lengths, chunk_size=size, stride=stride, max_chunks=middle).sum()
            low, high = (low, middle) if read >= share * lengths.sum() else (middle + 1, high)
        whole = counts[int(np.ceil(share * len(counts) - 1e-9)) - 1]
        results.append(Needed(share, for_tokens=low, for_documents=int(whole)))
    return results


def _split(part: Collected, copies: Copies, edges: Int64Array, chunking: Chunking | None) -> SplitAudit:
    lengths = part.lengths
    read = None if chunking is None else tokens_read(lengths, **asdict(chunking))
    points = np.quantile(lengths, [0.0, 0.1, 0.5, 0.9, 0.99, 1.0], method="inverted_cdf")
    labels = Counter(label for own in part.labels for label in own or ())
    unlabelled = sum(own is None for own in part.labels)
    return SplitAudit(
        name=part.name,
        path=part.path,
        documents=len(lengths),
        empty=part.empty,
        units=int(lengths.sum()),
        lengths=dict(
            zip(("shortest", "p10", "median", "p90", "p99", "longest"), points.tolist(), strict=True)
        ),
        histogram=np.histogram(lengths, bins=edges)[0].tolist(),
        labels=dict(sorted(labels.items())) if unlabelled < len(lengths) else None,
        unlabelled=unlabelled,
        tokens_read=None if read is None else int(read.sum()),
        documents_cut=None if read is None else int((read < lengths).sum()),
        unknown_tokens=part.unknown_tokens,
        words=part.words,
        characters=part.characters,
        oddities=part.oddities,
        repeated_ids=len(part.ids) - len(set(part.ids)),
        copies=copies,
    )
