"""Runs in groups, from folders that are written by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from textclf_transformer.commands.compare import print_comparison
from textclf_transformer.evaluation.comparison import MISSING, Pairing, compare_records, group_runs, letters
from textclf_transformer.evaluation.comparison_page import comparison_page
from textclf_transformer.evaluation.report_run import RunRecord, read_record
from textclf_transformer.experiment import RunFolder

HEADER = "step,epoch,split,loss,learning_rate,grad_norm,tokens_seen,accuracy,f1_macro,elapsed_seconds\n"


def record(
    folder: Path,
    name: str,
    *,
    seed: int,
    test: float,
    val: tuple[float, ...] = (0.5, 0.9, 0.7),
    losses: tuple[float, ...] | None = None,
    **training: Any,
) -> RunRecord:
    root = folder / name
    (root / "metrics" / "eval").mkdir(parents=True)
    lines = [f"  {key}: {value}\n" for key, value in {"best_metric": "f1_macro", **training}.items()]
    config = f"experiment:\n  name: {name}\n  seed: {seed}\ntraining:\n{''.join(lines)}"
    (root / "config.resolved.yaml").write_text(config, encoding="utf-8")
    pairs = zip(val, losses or [1 - f1 for f1 in val], strict=True)
    rows = [f"{n},1,val,{loss},0.1,1,10,{f1 / 2},{f1},5\n" for n, (f1, loss) in enumerate(pairs, start=1)]
    rows.append(f"2,1,test,0.4,0.1,1,10,{test},{test / 2},6\n")
    (root / "metrics" / "eval" / "metrics.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    facts = {"elapsed_seconds": 60.0 * seed, "parameters": 1000}
    (root / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    return read_record(RunFolder.at(root))


def test_runs_that_differ_in_seed_are_one_setting(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "a1", seed=1, test=0.8, epochs=3),
        record(tmp_path, "b1", seed=1, test=0.6, epochs=5, dropout=0.1),
        record(tmp_path, "a2", seed=3, test=0.9, epochs=3),
    ]
    groups = group_runs(records)
    assert [[one.run.name for one in group] for group in groups] == [["a1", "a2"], ["b1"]]
    comparison = compare_records(groups)
    first, second = comparison.settings
    assert (first.name, first.runs, first.seeds, first.minutes) == ("A", ["a1", "a2"], [1, 3], 2.0)
    assert (second.name, second.parameters) == ("B", 1000)
    assert comparison.differences == {"training.dropout": [MISSING, "0.1"], "training.epochs": ["3", "5"]}
    accuracy = comparison.scores["test accuracy"]
    assert accuracy[0].mean == pytest.approx(0.85)
    assert accuracy[0].deviation == pytest.approx(0.05 * 2**0.5)
    assert (accuracy[1].values, accuracy[1].deviation) == ([0.6], None)
    assert "test learning_rate" not in comparison.scores
    json.dumps(comparison.to_dict())


def test_how_often_runs_were_evaluated_makes_settings_and_how_they_log_does_not(tmp_path: Path) -> None:
    runs = [record(tmp_path, f"run{number}", seed=number, test=0.5) for number in range(3)]
    for run, logging in zip(runs, ({}, {"log_every": 3}, {"eval_every": 5}), strict=True):
        run.config["logging"] = logging
    groups = group_runs(runs)
    assert [[one.run.name for one in group] for group in groups] == [["run0", "run1"], ["run2"]]
    assert compare_records(groups).differences == {"logging.eval_every": ["null", "5"]}


def test_a_section_that_one_run_leaves_out_differs_in_its_keys_only(tmp_path: Path) -> None:
    without = record(tmp_path, "without", seed=1, test=0.5, ema="null", emaciated="null")
    with_it = record(tmp_path, "with", seed=1, test=0.5, ema="{decay: 0.9}", emaciated=1)
    comparison = compare_records(group_runs([without, with_it]))
    assert comparison.differences == {
        "training.ema.decay": [MISSING, "0.9"],
        "training.emaciated": ["null", "1"],
    }


def test_a_key_that_an_older_version_did_not_know_had_its_default(tmp_path: Path) -> None:
    older = record(tmp_path, "older", seed=1, test=0.5)
    newer = record(tmp_path, "newer", seed=2, test=0.7, label_smoothing=0.0)
    smoothed = record(tmp_path, "smoothed", seed=2, test=0.7, label_smoothing=0.1)
    for run in (older, newer, smoothed):
        run.config["pretrained_experiment"] = {"path": "pre"}
    groups = group_runs([replace(run, kind="finetuning") for run in (older, newer, smoothed)])
    assert [[run.run.name for run in group] for group in groups] == [["older", "newer"], ["smoothed"]]
    assert compare_records(groups).differences == {"training.label_smoothing": ["0.0", "0.1"]}


def test_val_scores_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    by_f1 = record(tmp_path, "f1", seed=1, test=0.5)
    by_loss = record(tmp_path, "loss", seed=1, test=0.5, val=(0.2, 0.6, 0.4), best_metric="loss")
    comparison = compare_records([[by_f1], [by_loss]])
    assert [score.mean for score in comparison.scores["val f1_macro"]] == [0.9, 0.6]
    assert [score.mean for score in comparison.scores["val loss"]] == pytest.approx([0.1, 0.4])


def test_of_equal_evaluations_the_best_is_that_with_the_lowest_loss(tmp_path: Path) -> None:
    equal = record(tmp_path, "a", seed=1, test=0.5, val=(0.2, 0.9, 0.9, 0.9), losses=(0.1, 0.5, 0.3, 0.4))
    other = record(tmp_path, "b", seed=1, test=0.5, epochs=3)
    assert compare_records([[equal], [other]]).scores["val loss"][0].mean == pytest.approx(0.3)


def test_a_run_without_results_has_no_scores(tmp_path: Path) -> None:
    full = record(tmp_path, "full", seed=1, test=0.5)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_text("training:\n  epochs: 3\n", encoding="utf-8")
    comparison = compare_records([[full], [read_record(RunFolder.at(tmp_path / "new"))]])
    assert comparison.scores["test accuracy"][1].mean is None
    assert comparison.settings[1].minutes is None and comparison.settings[1].seeds == [None]


def test_verdicts() -> None:
    def pairing(low: float, high: float) -> str:
        values = {"difference": 0.0, "low": low, "high": high, "better": 0.5}
        return Pairing("A", "B", "test", 10, {"accuracy": values}).verdict("accuracy")

    assert pairing(0.01, 0.2) == "B is better"
    assert pairing(-0.2, -0.01) == "A is better"
    assert pairing(-0.2, 0.01) == pairing(0.0, 0.2) == "can be chance"


def test_of_many_settings_tables_have_a_row_for_each_and_charts_no_legend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = group_runs([record(tmp_path, f"run{n}", seed=1, test=0.5, epochs=n) for n in range(1, 61)])
    pages = {}
    for count in (12, 60):
        comparison = compare_records(groups[:count])
        print_comparison(comparison)
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 160
        pages[count] = comparison_page(comparison, groups[:count])
        rows = re.findall(r"<tr>.*?</tr>", pages[count], flags=re.DOTALL)
        assert max(len(re.findall(r"<t[hd]", row)) for row in rows) <= 13
        widest = re.findall(r"<svg[^>]*aria-label=\"([^\"]*)", pages[count])
        assert widest and all(len(words) < 500 for words in widest)
    assert re.search(r"(?m)^BH +60 *$", out) and re.search(r"(?m)^BH +0\.4000 +0\.5000 +0\.2500 ", out)
    assert '<th scope="row">BH</th><td>60</td>' in re.sub(r"\n", "", pages[60])
    assert len(pages[60]) < 60 * 4_000


def test_letters_do_not_run_out() -> None:
    assert [letters(place) for place in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]
