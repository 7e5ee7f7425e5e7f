"""The one pass of the audit over a split: what is kept of each document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.audit_input import AuditInput
from textclf_transformer.data.documents import Int64Array
from textclf_transformer.data.near_duplicates import signatures
from textclf_transformer.data.oddities import ODDITIES, REPETITIVE, oddities, repetitive
from textclf_transformer.data.words import words_of
from textclf_transformer.errors import DataError


@dataclass(kw_only=True, slots=True)
class Collected:
    """What the pass over one split leaves: about 600 bytes a document beside ids and groups.

    Attributes:
        name: of the split.
        path: where it was read.
        empty: documents without text, left out.
        lengths: units of each document, int64 (documents,).
        digests: 64-bit hash of each document's units, uint64 (documents,).
        marks: MinHash signatures, uint32 (documents, H).
        ids: one for each document.
        groups: one for each document, None without.
        labels: of each document, None without.
        oddities: name → ids of the documents.
        words: None where the text is not kept.
        characters: None where the text is not kept.
        unknown_tokens: None where units are words.
    """

    name: str
    path: str
    empty: int = 0
    lengths: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    digests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    marks: NDArray[np.uint32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.uint32))
    ids: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    labels: list[tuple[str, ...] | None] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in ODDITIES})
    words: int | None = 0
    characters: int | None = 0
    unknown_tokens: int | None = 0


def collect(name: str, part: AuditInput) -> Collected:
    """Read all documents of ``part`` once.

    Raises:
        DataError: there is no document, or one cannot be read.
    """
    collected = Collected(name=name, path=part.path)
    lengths: list[int] = []
    digests: list[int] = []
    collected.marks, distinct = signatures(_units(part, collected, lengths, digests))
    if not lengths:
        raise DataError("there are no documents with text", where=part.path)
    collected.empty = part.empty
    collected.lengths = np.array(lengths, dtype=np.int64)
    collected.digests = np.array(digests, dtype=np.uint64)
    again = np.flatnonzero(repetitive(collected.lengths, distinct))
    collected.oddities[REPETITIVE] = [collected.ids[int(index)] for index in again]
    collected.oddities = {name: ids for name, ids in collected.oddities.items() if ids}
    if part.unk_token_id is None:
        collected.unknown_tokens = None
    return collected


def _units(
    part: AuditInput, collected: Collected, lengths: list[int], digests: list[int]
) -> Iterator[NDArray[np.integer]]:
    """Yield each document's units, having noted everything else about it."""
    for document in part:
        units = np.ascontiguousarray(document.units, dtype="<i8")
        lengths.append(len(units))
        digests.append(int.from_bytes(blake2b(units.data, digest_size=8).digest(), "little"))
        collected.ids.append(document.id)
        collected.groups.append(document.group)
        collected.labels.append(document.labels)
        words = len(units)
        if document.text is not None and part.unit != "words":
            words = len(words_of(document.text))
        for name in oddities(document.text, words=words):
            collected.oddities[name].append(document.id)
        if document.text is None or collected.words is None or collected.characters is None:
            collected.words = collected.characters = None
        else:
            collected.words += words
            collected.characters += len(document.text)
        if part.unk_token_id is not None and collected.unknown_tokens is not None:
            collected.unknown_tokens += int(np.count_nonzero(units == part.unk_token_id))
        yield units
