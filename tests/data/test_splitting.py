from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textclf_transformer.data.splitting import stratified_split
from textclf_transformer.errors import DataError

FRACTIONS = (0.8, 0.1, 0.1)


def test_every_label_is_divided_by_the_fractions() -> None:
    labels = [("a",)] * 100 + [("b",)] * 30 + [("c",)] * 10
    part = stratified_split(labels, [None] * 140, fractions=FRACTIONS, seed=1)
    names = np.array([label for (label,) in labels])
    counts = {name: np.bincount(part[names == name], minlength=3).tolist() for name in "abc"}
    assert counts == {"a": [80, 10, 10], "b": [24, 3, 3], "c": [8, 1, 1]}


@pytest.mark.parametrize("documents", [5, 15])
def test_rare_labels_are_shared_out_between_val_and_test(documents: int) -> None:
    """A tenth of them is half a document too much or too little; not all of them go the same way."""
    labels = [("common",)] * 200 + [(f"rare {number}",) for number in range(20)] * documents
    part = stratified_split(labels, [None] * len(labels), fractions=FRACTIONS, seed=4)
    total = np.bincount(part)
    assert total.tolist() == [len(labels) * 0.8, len(labels) * 0.1, len(labels) * 0.1]
    for rare in range(20):
        own = part[[label == f"rare {rare}" for (label,) in labels]]
        assert np.abs(np.bincount(own, minlength=3) - documents * np.array(FRACTIONS)).max() < 0.51


def test_train_knows_every_label() -> None:
    labels = [(str(number),) for number in range(30)] + [("a", "b"), ("a",), ("b",)]
    for seed in range(20):
        with_more = [*labels, *labels[-2:] * 20]
        part = stratified_split(with_more, [None] * len(with_more), fractions=(0.6, 0.2, 0.2), seed=seed)
        assert {label for index in np.flatnonzero(part == 0) for label in with_more[index]} == {
            label for document in labels for label in document
        }


def test_the_seed_decides() -> None:
    labels = [("a",), ("b",)] * 100
    groups: list[str | None] = [None] * 200
    first, again, other = (
        stratified_split(labels, groups, fractions=FRACTIONS, seed=seed) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_a_label_that_occurs_once_goes_to_train() -> None:
    labels = [("a",)] * 30 + [("rare",)]
    assert stratified_split(labels, [None] * 31, fractions=FRACTIONS, seed=3)[30] == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 12).map(str))),
        min_size=30,
        max_size=200,
    ),
    st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_a_group_is_never_torn_apart(rows: list[tuple[str, str | None]], seed: int) -> None:
    labels = [(label,) for label, _ in rows]
    groups = [group for _, group in rows]
    try:
        part = stratified_split(labels, groups, fractions=(0.6, 0.2, 0.2), seed=seed)
    except DataError:
        return  # groups too large for three parts
    for group in set(groups) - {None}:
        assert len({part[i] for i in range(len(rows)) if groups[i] == group}) == 1


def test_groups_still_give_about_the_fractions() -> None:
    random = np.random.default_rng(0)
    groups = [f"g{number}" for number in random.integers(0, 300, size=3000)]
    labels = [("ab"[int(choice)],) for choice in random.random(3000) < 0.3]
    part = stratified_split(labels, groups, fractions=FRACTIONS, seed=0)
    shares = np.bincount(part) / 3000
    assert shares == pytest.approx(FRACTIONS, abs=0.01)
    is_b = np.array([label == ("b",) for label in labels])
    assert [is_b[part == i].mean() for i in range(3)] == pytest.approx([is_b.mean()] * 3, abs=0.03)


def test_groups_of_rare_labels_are_shared_out_too() -> None:
    """Three groups of a label are too few for three parts; all of them, by size, are not."""
    groups: list[str | None] = [
        f"{rare} {number}" for rare in range(20) for number in range(3) for _ in range(5)
    ]
    labels = [(str(group).split()[0],) for group in groups] + [("common",)] * 200
    part = stratified_split(labels, groups + [None] * 200, fractions=FRACTIONS, seed=4)
    assert np.bincount(part) == pytest.approx([400, 50, 50], abs=10)


def test_the_largest_groups_are_placed_while_there_is_room() -> None:
    groups = ["one"] * 10 + ["two"] * 10 + [None] * 80
    part = stratified_split([("a",)] * 100, groups, fractions=FRACTIONS, seed=0)
    assert np.bincount(part).tolist() == [80, 10, 10]


def test_several_labels_and_none() -> None:
    labels = [("a", "b"), ("a",), ()] * 100
    part = stratified_split(labels, [None] * 300, fractions=(0.5, 0.25, 0.25), seed=0)
    with_b = np.array(["b" in own for own in labels])
    without = np.array([not own for own in labels])
    assert np.bincount(part[with_b]).tolist() == [50, 25, 25]
    assert np.bincount(part[without]).tolist() == [50, 25, 25]


def test_an_empty_part_is_an_error() -> None:
    with pytest.raises(DataError, match="a part would be empty"):
        stratified_split([("a",)] * 20, ["one"] * 20, fractions=FRACTIONS, seed=0)
