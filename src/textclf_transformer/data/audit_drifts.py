"""Whether labels are spread differently in two splits, and whether chance alone would have it so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from textclf_transformer.data.audit_collecting import Collected
from textclf_transformer.data.documents import Int64Array
from textclf_transformer.utils import derive_seed

Labels = Sequence[tuple[str, ...] | None]

CUTS = 1_000
"""Random cuts that a drift is compared with."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How differently two splits spread their labels.

    Attributes:
        split: the later one.
        other: the first split.
        distance: total variation distance of their shares of labels, 0 to 1: this share of the labels of one
            would have to change to match the other.
        by_chance: whether one of ``CUTS`` random cuts is at least as far apart, see ``random_distances``.
    """

    split: str
    other: str
    distance: float
    by_chance: bool


def find_drifts(collected: Mapping[str, Collected]) -> list[Drift]:
    """Compare each later split with the first one, where both have labels."""
    first, *others = collected.values()
    drifts = []
    for split in others:
        if any(first.labels) and any(split.labels):
            distance, cuts = random_distances(_dealt_out(first), _dealt_out(split), CUTS)
            # the first cut as far ends it; equal distances may be rounded apart
            drifts.append(Drift(split.name, first.name, distance, any(cut > distance - 1e-9 for cut in cuts)))
    return drifts


def _dealt_out(split: Collected) -> Labels:
    """Return the labels of what a cut leaves together: of each group, and of each document without one."""
    together: dict[str | int, list[str]] = {}
    for place, (labels, group) in enumerate(zip(split.labels, split.groups, strict=True)):
        together.setdefault(place if group is None else group, []).extend(labels or ())
    return [tuple(labels) for labels in together.values()]


def random_distances(first: Labels, second: Labels, cuts: int) -> tuple[float, Iterator[float]]:
    """Return how far apart the labels are, and how far in random cuts into parts of as many documents.

    Documents are dealt out anew, not labels: those of one document come and go together. So a permutation
    test of the two splits compares them; it holds for few documents and many labels, too.

    Args:
        first: labels of each document (or group of documents); those without any do not count. One must
            have some.
        second: those of the other split, alike.
        cuts: how many random cuts there are; always the same ones.
    """
    one, two = (Counter(own for own in part if own) for part in (first, second))
    kinds = sorted({*one, *two})  # of documents, by their labels
    places = {name: place for place, name in enumerate({name: None for own in kinds for name in own})}
    label = np.array([places[name] for own in kinds for name in own])
    kind = np.repeat(np.arange(len(kinds)), [len(own) for own in kinds])
    documents, chosen = (np.array([count[own] for own in kinds]) for count in (one + two, two))

    def distance(part: Int64Array) -> float:
        ours, theirs = (np.bincount(label, count[kind]) for count in (part, documents - part))
        return float(0.5 * np.abs(ours / ours.sum() - theirs / theirs.sum()).sum())

    generator = np.random.Generator(np.random.PCG64(derive_seed("label drift")))
    size = int(chosen.sum())
    method: Literal["count", "marginals"] = "count" if len(kinds) > size else "marginals"  # the faster one
    draws = (generator.multivariate_hypergeometric(documents, size, method=method) for _ in range(cuts))
    return distance(chosen), map(distance, draws)
