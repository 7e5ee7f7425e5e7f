"""Stores from memory are those that the command writes from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout

import textclf_transformer
from textclf_transformer.commands import prepare as command
from textclf_transformer.data.preparing import cut
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import ConfigError, DataError, UsageError, UserError

SPLIT = (0.8, 0.1, 0.1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("split", [None, SPLIT])
def test_a_frame_makes_the_store_that_its_file_makes(
    checkout: Checkout, split: tuple[float, ...] | None
) -> None:
    pandas = pytest.importorskip("pandas")
    lines = Path("corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) | {"id": f"d{n}", "group": str(n // 2)} for n, line in enumerate(lines)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flags = [] if split is None else ["--split", "/".join(map(str, split)), "--seed", "7"]
    checkout.run(command.main, "in.jsonl", "--out", "filed", "--tokenizer", "tokenizer", *flags)
    made = textclf_transformer.prepare(
        pandas.DataFrame(rows), "made", tokenizer="tokenizer", split=split, seed=7
    )
    assert made == Path("made") and contents(made) == contents(Path("filed")) != {}


def test_a_list_with_labels_and_without(checkout: Checkout) -> None:
    texts, labels = ["soil and seed", "ship", "rope"], ["garden", "harbour", 3]
    store = Store.open(textclf_transformer.prepare(texts, "one", tokenizer="tokenizer", labels=labels))
    assert store.label_names == ("3", "garden", "harbour")
    assert [store.text(place) for place in range(3)] == texts
    assert [store.document_id(place) for place in range(3)] == ["0", "1", "2"]
    bare = Store.open(textclf_transformer.prepare(texts, "two", tokenizer="tokenizer"))
    assert bare.labels is None and len(bare) == 3
    several = textclf_transformer.prepare(
        texts, "three", tokenizer="tokenizer", labels=[["a", "b"], [], ["b"]], multi_label=True
    )
    assert Store.open(several).labels.tolist() == [[1, 1], [0, 0], [0, 1]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([0, 1, 1]), ("0", "1")),
        (list(np.array([0, 1, 1])), ("0", "1")),
        (torch.tensor([0, 1, 1]), ("0", "1")),
        (list(torch.tensor([0, 1, 1])), ("0", "1")),
        (np.array([False, True, True]), ("false", "true")),
        (np.array(["a", "b", "b"]), ("a", "b")),
    ],
)
def test_labels_of_arrays_and_tensors(checkout: Checkout, labels: Any, names: tuple[str, ...]) -> None:
    out = textclf_transformer.prepare(["soil", "ship", "rope"], "one", tokenizer="tokenizer", labels=labels)
    store = Store.open(out)
    assert store.label_names == names
    assert store.labels is not None and store.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_numbers_of_arrays_in_lists_of_labels(checkout: Checkout, kind: Any) -> None:
    labels = [kind([np.int64(3)]), [], kind([np.int64(3), np.int64(5)])]
    texts = ["soil", "ship", "rope"]
    out = textclf_transformer.prepare(texts, "s", tokenizer="tokenizer", labels=labels, multi_label=True)
    assert Store.open(out).label_names == ("3", "5")


def test_lists_of_labels_come_back_from_a_parquet_file(checkout: Checkout) -> None:
    """pandas reads a column of lists as one of arrays."""
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    pandas.DataFrame({"text": ["soil", "ship"], "label": [["a", "b"], ["b"]]}).to_parquet("in.parquet")
    frame = pandas.read_parquet("in.parquet")
    store = Store.open(textclf_transformer.prepare(frame, "s", tokenizer="tokenizer", multi_label=True))
    assert store.label_names == ("a", "b")
    assert store.labels is not None and store.labels.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("as_column", ["object", "string", "float", "Int64", "datetime64[ns]"])
def test_what_a_frame_has_for_nothing_is_no_group_and_no_id(checkout: Checkout, as_column: str) -> None:
    """Taken for a group, NaN would bind all documents without one together, into one part of a split."""
    pandas = pytest.importorskip("pandas")
    given = ["x", None, float("nan")] if as_column == "object" else [1, None, None]
    column = pandas.Series(given).astype(as_column)
    frame = pandas.DataFrame({"text": ["soil", "ship", "rope"], "group": column, "id": column})
    store = Store.open(textclf_transformer.prepare(frame, "new", tokenizer="tokenizer"))
    assert store.group(0) is not None
    if as_column in {"float", "Int64"}:
        assert (store.group(0), store.document_id(0)) == ("1", "1")
    assert [store.group(place) for place in (1, 2)] == [None, None]
    assert [store.document_id(place) for place in (1, 2)] == ["1", "2"]


def test_a_column_that_stands_twice_is_refused(checkout: Checkout) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["soil", "ship"]], columns=["text", "text"])
    with pytest.raises(DataError, match="several columns 'text'"):
        textclf_transformer.prepare(frame, "new", tokenizer="tokenizer")


@pytest.mark.parametrize(
    ("texts", "more", "error", "words"),
    [
        ("one", {}, TypeError, "put it into a list"),
        ([], {}, DataError, "no documents"),
        (["a", " "], {}, DataError, r"empty; texts\[1\]"),
        (["a", "\u200b"], {}, DataError, r"empty; texts\[1\]"),
        (["a", 5], {}, DataError, r"texts\[1\]: text"),
        ({"text": ["a"]}, {}, DataError, "texts are no items in an order; found dict"),
        (["a", "b"], {"labels": "xy"}, DataError, "labels are no items in an order; found one string"),
        (["a", "b"], {"labels": {"x", "y"}}, DataError, "labels are no items in an order; found set"),
        (["a"], {"labels": ["x", "y"]}, DataError, "2 for 1 texts"),
        (["a"], {"labels": np.array([[0, 1]]), "multi_label": True}, DataError, r"of shape \(1, 2\)"),
        (["a"], {"labels": [["x"]]}, DataError, "label is a list"),
        (["a"], {"split": (0.5, 0.5)}, UsageError, "three shares"),
        (["a"], {"split": 0.5}, UsageError, "three shares"),
        (["a"], {"split": ("0.5", "0.3", "0.2")}, UsageError, "three shares"),
        (["a"], {"seed": -1}, ConfigError, "seed; found -1, expected an integer from 0 up"),
        (["a"], {"seed": 1.5}, ConfigError, "seed; found 1.5"),
        (["a"], {"tokenizer": None}, ConfigError, "tokenizer; found NoneType, expected the path"),
        (["a"], {"out": 5}, ConfigError, "out; found int"),
        (["a"], {"tokenizer": "nowhere"}, UserError, "nowhere"),
        (["a"], {"out": "store"}, UsageError, "store"),
    ],
)
def test_mistakes(
    checkout: Checkout, texts: Any, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = contents(Path("store"))
    with pytest.raises(error, match=words):
        textclf_transformer.prepare(texts, **{"out": "new", "tokenizer": "tokenizer", **more})
    assert not Path("new").exists() and contents(Path("store")) == before


@pytest.mark.parametrize(
    ("second", "found"), [(3, "1 document less than before"), (5, "a new one behind the last; in:4")]
)
def test_inputs_that_change_between_two_passes_are_refused(second: int, found: str) -> None:
    passes = iter([4, second, second, second])

    class Changing:
        def __iter__(self) -> Iterator[Document]:
            for place in range(next(passes)):
                yield Document("some text", None, str(place), None, f"in:{place}")

    chosen, _ = cut(Changing(), fractions=(0.5, 0.25, 0.25), seed=1, multi_label=False, source="in")
    with pytest.raises(DataError, match=f"the inputs changed while they were read; found {found}"):
        list(chosen["train"])
