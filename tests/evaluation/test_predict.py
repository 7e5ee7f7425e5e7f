"""From Python: a list or a DataFrame in, a DataFrame or a list of dicts out."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from typing import Any

import pandas
import pytest
from end_to_end.conftest import PREDICTION_COLUMNS, Checkout

import textclf_transformer
from textclf_transformer.errors import DataError
from textclf_transformer.evaluation.loaded_run import load_run

TEXTS = ["soil seed root", "ship rope tide once again", "oven salt early " * 60]


def test_a_list_gives_a_frame(finetuned: Checkout) -> None:
    frame = textclf_transformer.predict("ft", TEXTS)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == PREDICTION_COLUMNS
    assert frame["id"].tolist() == ["0", "1", "2"]
    probs = frame[["prob_garden", "prob_harbour", "prob_kitchen"]]
    assert probs.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert frame["confidence"].tolist() == probs.max(axis=1).tolist()
    assert [f"prob_{label}" for label in frame["label"]] == probs.idxmax(axis=1).tolist()
    assert frame["n_chunks"].tolist() == [1, 1, 4]
    assert frame["n_tokens"].tolist()[2] >= 180
    assert frame["truncated"].tolist() == [False, False, True]


@pytest.mark.parametrize("explain", [False, True])
def test_no_texts_give_a_frame_with_the_same_columns(finetuned: Checkout, explain: bool) -> None:
    frame = textclf_transformer.predict("ft", [], explain=explain)
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 0
    assert list(frame.columns) == PREDICTION_COLUMNS + ["passages"] * explain


def test_a_frame_keeps_its_index_and_ids(finetuned: Checkout) -> None:
    given = pandas.DataFrame({"text": TEXTS, "id": ["x", "y", "z"], "other": [1, 2, 3]}, index=[7, 5, 6])
    frame = textclf_transformer.predict(load_run("ft"), given, explain=True)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.index.tolist() == [7, 5, 6] and frame["id"].tolist() == ["x", "y", "z"]
    again = textclf_transformer.predict("ft", TEXTS, explain=True)
    assert isinstance(again, pandas.DataFrame)
    assert frame.drop(columns="id").to_dict("list") == again.drop(columns="id").to_dict("list")
    passage = frame["passages"].iloc[2][0]
    assert TEXTS[2][passage["start"] : passage["end"]] == passage["text"]


def test_without_pandas_there_are_dicts(finetuned: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = textclf_transformer.predict("ft", TEXTS)
    assert isinstance(frame, pandas.DataFrame)
    real_import = builtins.__import__

    def no_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.delitem(sys.modules, "pandas")
    monkeypatch.setattr(builtins, "__import__", no_pandas)
    rows = textclf_transformer.predict("ft", TEXTS)
    assert rows == frame.to_dict("records")


def test_nothing_in_nothing_out(finetuned: Checkout) -> None:
    assert len(textclf_transformer.predict("ft", [])) == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["good", ""], r"empty.*texts\[1\]"),
        (["good", "  \n"], r"empty.*texts\[1\]"),
        ([3], r"wrong type.*texts\[0\]"),
        (["half \ud800 a pair"], r"no valid character.*texts\[0\]"),
        (pandas.DataFrame({"body": ["x"]}), "no column 'text'.*'body'"),
    ],
)
def test_bad_texts_are_named(finetuned: Checkout, texts: Sequence[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        textclf_transformer.predict("ft", texts)


def test_one_string_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        textclf_transformer.predict("ft", "one text")
