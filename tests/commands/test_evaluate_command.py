"""``textclf evaluate``: the numbers are scikit-learn's, the table has the baselines, the JSON has it all."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import TOPICS, Checkout
from evaluate_cases import NAMES, ROWS, predictions_on, result_of
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score

import finetune
from textclf_transformer.commands import evaluate, evaluation_tables, predict, prepare
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import StorageError
from textclf_transformer.evaluation.calibration import expected_calibration_error, reliability
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.paired import judge
from textclf_transformer.evaluation.report import make_report
from textclf_transformer.evaluation.report_documents import shown_documents
from textclf_transformer.experiment import RunFolder


def test_numbers_are_scikit_learns_of_what_predict_says(noisy: str) -> None:
    result = result_of("ft", "--data", noisy)
    labels, predicted, probs = predictions_on(noisy)
    assert 0 < (labels == predicted).mean() < 1
    scores = {row["name"]: row for row in result["scores"]}
    assert set(scores) == ROWS
    model = scores["this model"]
    assert model["accuracy"] == (labels == predicted).mean()
    for average in ("macro", "micro", "weighted"):
        assert model[f"f1_{average}"] == f1_score(labels, predicted, average=average)
    assert model["mcc"] == matthews_corrcoef(labels, predicted)
    assert result["auc_macro"] == roc_auc_score(labels, probs, multi_class="ovr")
    assert result["confusion"] == confusion_matrix(labels, predicted, labels=range(3)).tolist()
    assert result["loss"] == pytest.approx(-np.log(probs[range(len(labels)), labels]).mean(), rel=1e-6)
    for row in result["scores"]:
        for name, (low, high) in row["intervals_95"].items():
            assert low <= row[name] <= high
    assert sum(row["documents"] for row in result["by_length"]) == len(labels) == result["documents"]
    assert result["coverage"]["tokens_dropped"] > 0
    assert result["coverage_risk"][0]["accuracy"] == model["accuracy"]
    calibration = result["calibration"]
    assert calibration["temperature"] > 0
    after = probs ** (1 / calibration["temperature"])
    expected = reliability(np.log(after / after.sum(axis=1, keepdims=True)), labels)
    error = calibration["expected_calibration_error_after"]
    assert error == pytest.approx(expected_calibration_error(expected))
    assert error != calibration["expected_calibration_error"]
    assert result["notes"] == []
    wrong = labels != predicted
    surest = result["worst_mistakes"][0]
    assert len(result["worst_mistakes"]) == min(10, wrong.sum())
    assert surest["confidence"] == probs.max(axis=1)[wrong].max()
    assert result["coverage_curve"][0] == result["coverage_risk"][0]
    row = int(surest["id"].split(":")[1]) - 1
    assert surest["index"] == row
    assert surest["true"] == NAMES[labels[row]] and surest["predicted"] == NAMES[predicted[row]]


def test_mistakes_come_with_the_passages_that_predict_explains(
    noisy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = result_of("ft", "--data", noisy)
    assert predict.main(["ft", noisy, "--explain", "--out", "explained.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("explained.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [json.loads(line)["text"] for line in Path(noisy).read_text(encoding="utf-8").splitlines()]
    several = 0
    for mistake in result["worst_mistakes"]:
        passages = {passage["chunk"]: passage for passage in rows[mistake["index"]]["passages"]}
        most = max(passages.values(), key=lambda passage: passage["attention_weight"])
        shown = mistake["by_attention"]
        assert shown["chunk"] == most["chunk"]
        assert shown["attention_weight"] == pytest.approx(most["attention_weight"], rel=1e-2)
        assert shown["text"].split()[0] == texts[mistake["index"]][shown["start"] :].split()[0]
        assert len(shown["text"]) <= 250 and "\n" not in shown["text"]
        if len(passages) == 1:
            assert mistake["by_occlusion"] is None
            continue
        several += 1
        dropped = max(passages.values(), key=lambda passage: passage["occlusion_drop"])
        assert mistake["by_occlusion"]["chunk"] == dropped["chunk"]
    assert several > 0
    capsys.readouterr()
    assert evaluate.main(["ft", "--data", noisy, "--float32"]) == 0
    out = capsys.readouterr().out
    surest = result["worst_mistakes"][0]
    assert f"{surest['id']}: {surest['true']}, taken for {surest['predicted']}" in out
    assert "computed in float32" in out and "the log-probability falls without it" in out
    report = shown_documents(load_run("ft"), [Document(texts[surest["index"]], None, "x", None, "x")])[0]
    number = max(report.chunks, key=lambda chunk: chunk.attention).number
    assert re.search(rf"^  by attention[a-z ]*, chunk {number} \(", out, re.MULTILINE)
    after = out.partition("the chunks that counted most")[2].splitlines()[2:]
    assert all(not line or line.startswith("  ") or ", taken for " in line for line in after)


def test_tables_on_stdout(noisy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["ft", "--data", noisy]) == 0
    out, err = capsys.readouterr()
    for words in (*ROWS, "macro F1", "MCC", "confusion", "calibration", "by length", "worst mistakes"):
        assert words in out, words
    assert "max_chunks cuts" in out and "\x1b" not in out
    assert "classifying" in err


def test_a_temperature_that_makes_it_worse_is_not_praised() -> None:
    calibration = {
        "expected_calibration_error": 0.048,
        "expected_calibration_error_after": 0.269,
        "temperature": 0.05,
        "temperature_fitted_on": 1,
        "reliability": [],
    }
    title, _ = evaluation_tables._calibration({"calibration": calibration})
    assert "error 0.0480; temperature 0.050, fitted on the 1 document of val, makes it worse: 0.2690" in title
    assert "Leave the probabilities as they are; val is too small to fit it" in title
    title, _ = evaluation_tables._calibration(
        {"calibration": calibration | {"expected_calibration_error_after": 0.03}}
    )
    assert title.endswith("of val, makes it 0.0300")


def test_the_same_twice_and_on_val(finetuned: Checkout) -> None:
    first = result_of("ft")
    assert result_of("ft") == first
    val = result_of("ft", "--split", "val")
    assert val["data"].endswith("val") and val["calibration"]["expected_calibration_error_after"] is None
    assert "these very documents" in " ".join(val["notes"])
    assert {row["name"] for row in val["scores"]} == ROWS - {"TF-IDF + linear SVM, train + val"}


def test_a_disk_that_refuses_the_json_costs_no_numbers(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: object) -> None:
        raise StorageError("no space", where=str(path))

    monkeypatch.setattr(evaluate, "atomic_write_json", refuse)
    assert evaluate.main(["ft", "--json", "out.json", "--quiet"]) == 6
    assert "this model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody"], 2, "no such finetuning run"),
        (["ft", "--data", "missing.jsonl"], 3, "missing.jsonl"),
        (["ft", "--data", "unlabelled"], 3, "have no labels"),
        (["ft", "--data", "other.jsonl"], 3, "'attic'"),
        (["ft", "--data", "part"], 3, "no store of test or val in this folder; --data part; found train"),
        (["ft", "--data", "store/val", "store/test"], 3, "a token store, and no text; store/val"),
        (["ft", "--json", "nowhere/out.json"], 2, "nowhere"),
        (["ft", "--split", "train"], 2, "train"),
        (["ft", "--label-column", "topic"], 2, "--label-column says how text is read; found the run's own"),
        (
            ["ft", "--data", "store/test", "--skip-empty"],
            2,
            "--skip-empty says how text is read; found store",
        ),
        (["ft", "--data", "store", "--id-column", "no"], 2, "--id-column says how text is read; found store"),
        (["ft", "--data", "store/test", "--split", "val"], 2, "--split chooses among"),
        (["ft", "--data", "corpus.jsonl", "--split", "val"], 2, "--split chooses among"),
    ],
)
def test_mistakes(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    unlabelled = ["corpus.jsonl", "--no-labels", "--tokenizer", "tokenizer", "--out", "unlabelled"]
    assert prepare.main(unlabelled) == 0
    Path("other.jsonl").write_text('{"text": "soil", "label": "attic"}\n', encoding="utf-8")
    shutil.copytree("store/train", "part/train")
    capsys.readouterr()
    assert evaluate.main([*arguments, "--quiet"]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_names_cannot_drive_the_terminal_or_the_markup(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"id": "[red]\x1b[2J", "text": "soil", "label": name} for name in NAMES]
    Path("t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert evaluate.main(["ft", "--data", "t.jsonl", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "[red]\\x1b[2J" in out and "\x1b" not in out


def test_several_labels(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(4)
    with Path("several.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(90):
            labels = [name for name in NAMES if generator.random() < 0.4]
            words = [word for name in labels for word in TOPICS[name].split()] + ["said", "early"]
            generator.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": labels}) + "\n")
    shutil.rmtree("store")
    split = ["--split", "0.7/0.15/0.15", "--multi-label"]
    assert prepare.main(["several.jsonl", "--out", "store", "--tokenizer", "tokenizer", *split]) == 0
    pretrained.finetuning("ft", "pre", "--set", "training.epochs=30")
    pretrained.run(finetune.main, "ft", "--quiet")
    result = result_of("ft")
    assert result["multi_label"] and len(result["confusion"][0]) == 4
    scores = {row["name"]: row for row in result["scores"]}
    assert scores["this model"]["f1_macro"] > scores["majority"]["f1_macro"]
    assert not judge(replace(load_run("ft"), thresholds=(1.0,) * 3)).predictions.any()
    unlabelled = {"text": " ".join(TOPICS.values()), "label": []}
    Path("empty.jsonl").write_text(json.dumps(unlabelled) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert evaluate.main(["ft", "--data", "empty.jsonl", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "; accuracy: all labels of a document right" in out
    table = out.partition("labels, each given above")[2]
    assert "given above" in table.partition("\n")[2] and "(no label)" in out
    for name, least in zip(NAMES, result["thresholds"], strict=True):
        assert re.search(rf"{name}.* {least:.4f}\b", table)
    assert (
        "given above</th>" in make_report(RunFolder.at(Path("experiments/finetuning/ft")), documents=0).html()
    )
    assert predict.main(["ft", "several.jsonl", "--format", "jsonl", "--explain"]) == 0
    out, err = capsys.readouterr()
    told = [f"{name} {least:.3f}" for name, least in zip(NAMES, result["thresholds"], strict=True)]
    assert f"labels are given above these probabilities: {', '.join(told)}\n" in err
    for line in out.splitlines():
        row = json.loads(line)
        probs = {name: row[f"prob_{name}"] for name in NAMES}
        likely = [
            name for name, least in zip(NAMES, result["thresholds"], strict=True) if probs[name] > least
        ]
        assert row["label"] == "|".join(likely)
        decided = [prob if name in likely else 1 - prob for name, prob in probs.items()]
        assert row["confidence"] == pytest.approx(min(decided))
    assert predict.main(["ft", "empty.jsonl", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    prepare_one = ["corpus.jsonl", "--out", "one", "--tokenizer", "tokenizer"]
    assert prepare.main(prepare_one) == 0
    capsys.readouterr()
    assert evaluate.main(["ft", "--data", "one", "--quiet"]) == 3
    assert "labelled in another way" in capsys.readouterr().err
