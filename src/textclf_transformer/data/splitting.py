"""Cutting one set of documents into train, val and test: stratified, groups kept together, by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.errors import DataError

SPLITS = ("train", "val", "test")
WHOLE = "data"
"""Name of the only part where there are no splits."""

# What an empty part weighs beside missing all of what a group holds: enough to settle what rounding leaves.
_OF_SIZE = 0.5


def are_shares(fractions: Any) -> bool:
    """Whether these are the shares of train, val and test."""
    shares = list(fractions) if hasattr(fractions, "__len__") else []
    are_numbers = len(shares) == len(SPLITS) and all(isinstance(share, Real) for share in shares)
    return are_numbers and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-6


def stratified_split(
    labels: Sequence[Sequence[Hashable]],
    groups: Sequence[str | None],
    *,
    fractions: Sequence[float],
    seed: int,
) -> NDArray[np.int8]:
    """Return the number of each document's part: 0, 1, …

    Each part gets its fraction of every label as nearly as whole documents allow. Groups, largest first and
    in random order among equals, go one by one to the part that misses most of what the group holds; a
    document without a group is one of its own, so that without groups the counts are the fractions, rounded
    up or down. Which way, the parts' sizes decide: of many labels with few documents each, all of them would
    otherwise be rounded to the same side and leave one part without. The first of each label goes to part 0,
    train, which must know every label. (scikit-learn's StratifiedGroupKFold works alike but makes parts of
    equal size, and its ``train_test_split`` knows no groups and refuses a label that occurs once.)

    Args:
        labels: the labels of each document: one, several, or none.
        groups: the group of each document, None without one; a group is never torn apart.
        fractions: of the parts, positive, together 1.
        seed: decides which documents go where.

    Raises:
        DataError: a part would be empty.
    """
    units: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        units.setdefault(("document", index) if group is None else ("group", group), []).append(index)
    members = list(units.values())
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort([-len(members[unit]) for unit in order], kind="stable")]

    # A document without labels counts for a label of its own, None.
    counts = Counter(label for document in labels for label in (document or (None,)))
    missing = [{label: fraction * count for label, count in counts.items()} for fraction in fractions]
    # The share of its documents that each part lacks, below 0 if it has too many; the labels in part 0.
    still_empty, known = np.ones(len(fractions)), set[Hashable]()
    part_of = np.zeros(len(labels), dtype=np.int8)
    for unit in order:
        held = Counter(label for index in members[unit] for label in (labels[index] or (None,)))
        chosen = 0
        if held.keys() <= known:
            whole = sum(count * count for count in held.values())
            missed = [sum(count * part[label] for label, count in held.items()) / whole for part in missing]
            chosen = int(np.argmax(np.array(missed) + _OF_SIZE * still_empty))
        if chosen == 0:
            known |= held.keys()
        for label, count in held.items():
            missing[chosen][label] -= count
        still_empty[chosen] -= len(members[unit]) / (fractions[chosen] * len(labels))
        part_of[members[unit]] = chosen
    sizes = np.bincount(part_of, minlength=len(fractions))
    if not sizes.all():
        raise DataError(
            "too few documents or groups for the split: a part would be empty",
            found=f"parts of {', '.join(map(str, sizes))} documents",
            mend="choose other fractions, or give each split as a file of its own",
        )
    return part_of
