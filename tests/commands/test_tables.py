"""Tables on a narrow terminal: whatever else gives way, a number stays whole."""

from __future__ import annotations

import io
from typing import Any

import pytest

from textclf_transformer.commands import evaluation_tables, tables
from textclf_transformer.commands.tables import add_row, new_table, results_console
from textclf_transformer.evaluation.rivals import SVM_TRAIN, SVM_TRAIN_VAL
from textclf_transformer.evaluation.scores import KAPPA, SCORE_NAMES


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_numbers_are_never_cut(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    numbers = [f"{123456 + 1111 * place:,}" for place in range(8)]
    name = "a name that goes on and on for longer than any terminal"
    table = new_table(["name"], [f"documents{place}" for place in range(8)])
    add_row(table, [name, *numbers])
    add_row(table, ["b", *(f"0.{place}846 [-0.1519, 0.6154]" for place in range(8))])
    results_console().print(table)
    shown = stream.getvalue().split()
    assert "…" not in stream.getvalue()
    assert set(numbers) | {"[-0.1519,", "0.6154]"} <= set(shown) and "documents7" in stream.getvalue()
    assert set(name.split()) <= set(shown)


def test_a_pipe_cuts_nothing_of_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    names = [f"label_with_a_long_name_{place}" for place in range(20)]  # the confusion of 20 labels
    table = new_table([""], names)
    add_row(table, [names[0], *map(str, range(1000, 1020))])
    results_console().print(table)
    assert set(names) | set(map(str, range(1000, 1020))) <= set(stream.getvalue().split())


def test_in_a_pipe_each_row_of_scores_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    scores = dict.fromkeys([*SCORE_NAMES, KAPPA], -0.0123)
    intervals = {key: [-0.1234, 0.1234] for key in scores}
    rows = [{"name": name, **scores, "intervals_95": intervals} for name in (SVM_TRAIN, SVM_TRAIN_VAL)]
    result = {"scores": rows, "documents": 20, "ordered": True, "multi_label": False}
    results_console().print(evaluation_tables._scores(result)[1])
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()[1:]] == [SVM_TRAIN, SVM_TRAIN_VAL]


def evaluated(names: list[str], *, multi_label: bool) -> dict[str, Any]:
    """Return what the tables of labels ask of an evaluation; the later a label, the more documents."""
    return {
        "labels": names,
        "multi_label": multi_label,
        "thresholds": None,
        "confusion": [[1, 2, 3, 4] for _ in names],
        "classes": [
            {"label": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "auc": None, "documents": place}
            for place, name in enumerate(names)
        ],
    }


def test_of_many_labels_a_table_shows_the_most_frequent_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    result = evaluated([f"name{place}" for place in range(5_000)], multi_label=True)
    for make in (evaluation_tables._classes, evaluation_tables._confusion):
        title, table = make(result)
        assert table.row_count == tables.MAX_LABELS_SHOWN == 50
        assert title.endswith(": the 50 with the most documents of 5,000, for all see --json")
        results_console().print(table)
    assert stream.getvalue().count("name4999 ") == 2 and "name4949 " not in stream.getvalue()
    few = evaluated(["rare", "frequent"], multi_label=True)
    assert evaluation_tables._classes(few)[0] == "labels"
    assert [str(cell) for cell in evaluation_tables._classes(few)[1].columns[0].cells] == ["rare", "frequent"]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_name_as_long_as_a_page_is_shown_by_its_ends(
    multi_label: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{place} begins " + "and goes on " * 40 + f"ends {place}" for place in range(4)]
    stream = io.StringIO()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    result = evaluated(names, multi_label=multi_label)
    for make in (evaluation_tables._classes, evaluation_tables._confusion):
        results_console().print(make(result)[1])
    shown = " ".join(stream.getvalue().split())
    assert "3 begins" in shown and "ends 3" in shown
    assert len(stream.getvalue().splitlines()) < 40
