"""Which documents stand twice: within a split, in two splits, exactly or nearly; and groups in two splits.

N documents of all splits together, T different texts among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.audit_collecting import Collected
from textclf_transformer.data.documents import Int64Array
from textclf_transformer.data.near_duplicates import clusters, similar_pairs

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """Two documents that are alike.

    Attributes:
        first: id.
        second: id of the other.
        similarity: 1 for the same text; else the estimate of ``near_duplicates``.
    """

    first: str
    second: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Copies:
    """Documents of one split that could go without a text being lost.

    Attributes:
        exact: documents whose very text stands in the split before.
        near: different texts that nearly stand in it before.
        examples: pairs of near ones, the likest first.
    """

    exact: int
    near: int
    examples: list[Pair]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two splits share.

    Attributes:
        split: the one whose documents are counted, test say.
        other: the one they are looked for in, train say.
        documents: of ``split``.
        exact: how many of them stand in ``other`` word for word.
        near: how many others nearly do.
        examples: pairs, first of ``split``, second of ``other``; the likest first.
        groups: groups that have documents in both.
        group_documents: how many documents of ``split`` are in such a group.
        group_examples: names of some of them.
    """

    split: str
    other: str
    documents: int
    exact: int
    near: int
    examples: list[Pair]
    groups: int
    group_documents: int
    group_examples: list[str]


@dataclass(frozen=True, slots=True)
class Alike:
    """Which documents of all splits are alike.

    Attributes:
        text_of: split → number of each document's text, int64 (documents,); the same text, the same number.
        cluster_of_text: number of the cluster of texts that are nearly the same, int64 (T,).
        pairs: texts found to be nearly the same, int64 (pairs, 2).
        similarity: of each pair, float64 (pairs,).
        places: split → a document that has the text, int64 (T,); −1 where there is none.
    """

    text_of: dict[str, Int64Array]
    cluster_of_text: Int64Array
    pairs: Int64Array
    similarity: NDArray[np.float64]
    places: dict[str, Int64Array]

    def conflicting(self, collected: Mapping[str, Collected]) -> int:
        """Return how many labelled documents have the same text as one with other labels."""
        labels: dict[int, set[tuple[str, ...]]] = {}
        rows = [
            (text, frozenset(own))
            for name, part in collected.items()
            for text, own in zip(self.text_of[name].tolist(), part.labels, strict=True)
            if own is not None
        ]
        for text, own in rows:
            labels.setdefault(text, set()).add(tuple(sorted(own)))
        return sum(len(labels[text]) > 1 for text, _ in rows)


def find_copies(collected: Mapping[str, Collected]) -> tuple[Alike, dict[str, Copies]]:
    """Return which documents are alike, and how many of each split are copies of others of it."""
    digests = np.concatenate([part.digests for part in collected.values()])
    marks = np.concatenate([part.marks for part in collected.values()])
    _, first, text = np.unique(digests, return_index=True, return_inverse=True)
    pairs, similarity = similar_pairs(marks[first])
    bounds = np.cumsum([len(part.digests) for part in collected.values()])[:-1]
    text_of = dict(zip(collected, np.split(text.astype(np.int64), bounds), strict=True))
    places = {}
    for name, texts in text_of.items():
        places[name] = np.full(len(first), -1, dtype=np.int64)
        places[name][texts[::-1]] = np.arange(len(texts))[::-1]  # the first document of each text
    alike = Alike(text_of, clusters(pairs, count=len(first)), pairs, similarity, places)
    copies = {}
    for name, texts in text_of.items():
        different = len(np.unique(texts))
        alone = len(np.unique(alike.cluster_of_text[texts]))
        examples = _near_examples(alike, collected, name, name, EXAMPLES)
        copies[name] = Copies(exact=len(texts) - different, near=different - alone, examples=examples)
    return alike, copies


def find_overlaps(collected: Mapping[str, Collected], alike: Alike) -> list[Overlap]:
    """Return what each pair of splits shares, the later split first."""
    return [_overlap(collected, alike, later, earlier) for earlier, later in combinations(collected, 2)]


def _overlap(collected: Mapping[str, Collected], alike: Alike, split: str, other: str) -> Overlap:
    texts, others = alike.text_of[split], alike.text_of[other]
    exact = np.isin(texts, others)
    near = ~exact & np.isin(alike.cluster_of_text[texts], alike.cluster_of_text[others])
    part, rest = collected[split], collected[other]
    examples = [
        Pair(part.ids[int(index)], rest.ids[int(alike.places[other][texts[index]])], 1.0)
        for index in np.flatnonzero(exact)[:EXAMPLES]
    ]
    examples += _near_examples(alike, collected, split, other, EXAMPLES - len(examples))
    shared = {group for group in part.groups if group is not None} & set(rest.groups)
    return Overlap(
        split=split,
        other=other,
        documents=len(texts),
        exact=int(exact.sum()),
        near=int(near.sum()),
        examples=examples,
        groups=len(shared),
        group_documents=sum(group in shared for group in part.groups),
        group_examples=sorted(group for group in shared if group is not None)[:EXAMPLES],
    )


def _near_examples(
    alike: Alike, collected: Mapping[str, Collected], split: str, other: str, count: int
) -> list[Pair]:
    """Return the likest pairs of a document of ``split`` and one of ``other`` that are not the same text."""
    found: list[tuple[float, str, str]] = []
    for one, two in ((0, 1), (1, 0)):
        first = alike.places[split][alike.pairs[:, one]]
        second = alike.places[other][alike.pairs[:, two]]
        there = np.flatnonzero((first >= 0) & (second >= 0))
        best = there[np.argsort(-alike.similarity[there], kind="stable")][:count]
        found += [
            (
                float(alike.similarity[place]),
                collected[split].ids[int(first[place])],
                collected[other].ids[int(second[place])],
            )
            for place in best
        ]
        if split == other:
            break
    found.sort(key=lambda pair: -pair[0])
    return [Pair(one, two, similarity) for similarity, one, two in found[: max(count, 0)]]
