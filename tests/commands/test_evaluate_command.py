"""``textclf evaluate``: the numbers are scikit-learn's, the table has the baselines, the JSON has it all."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.in_memory import InMemoryDocuments
from end_to_end.conftest import TOPICS, Checkout, write_corpus
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score

import finetune
from textclf_transformer.commands import evaluate, evaluation_tables, predict, prepare
from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import StorageError
from textclf_transformer.evaluation import full_evaluation
from textclf_transformer.evaluation.baselines import LabelledTexts, tfidf_svm_predictions
from textclf_transformer.evaluation.calibration import expected_calibration_error, reliability
from textclf_transformer.evaluation.full_evaluation import _are_among, evaluate_run
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.paired import judge
from textclf_transformer.evaluation.report import make_report
from textclf_transformer.evaluation.report_documents import shown_documents
from textclf_transformer.evaluation.rivals import (
    FIRST_AND_LAST,
    FIRST_CHUNK,
    MAJORITY,
    SVM_TRAIN,
    fitted_baselines,
    partial_readings,
)
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

NAMES = ["garden", "harbour", "kitchen"]
ROWS = {
    "this model",
    "majority",
    "TF-IDF + linear SVM",
    "TF-IDF + linear SVM, train + val",
    "this model, first chunk only",
    "this model, first + last chunk",
}


def result_of(*arguments: str) -> dict[str, Any]:
    assert evaluate.main([*arguments, "--json", "out.json", "--quiet"]) == 0
    result: dict[str, Any] = json.loads(Path("out.json").read_text(encoding="utf-8"))
    return result


@pytest.fixture
def noisy(finetuned: Checkout) -> str:
    """Documents a fifth of which carry a wrong label, so that there are mistakes of every kind."""
    write_corpus(finetuned.root / "clean.jsonl", documents=60, seed=9)
    lines = (finetuned.root / "clean.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for place, record in enumerate(records):
        if place % 5 == 0:
            record["label"] = NAMES[(place + 1) % 3]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (finetuned.root / "noisy.jsonl").write_text(text, encoding="utf-8")
    return "noisy.jsonl"


def predictions_on(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted labels and probabilities of a file, as ``textclf predict`` gives them."""
    assert predict.main(["ft", path, "--out", "predictions.csv"]) == 0
    with Path("predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    probs = np.array([[float(row[f"prob_{name}"]) for name in NAMES] for row in rows])
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    labels = np.array([NAMES.index(json.loads(line)["label"]) for line in lines])
    return labels, np.array([NAMES.index(row["label"]) for row in rows]), probs


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


def test_the_rivals_are_what_they_are_called(finetuned: Checkout, noisy: str) -> None:
    scores = {row["name"]: row for row in result_of("ft", "--data", noisy)["scores"]}
    labels, _, _ = predictions_on(noisy)
    train = Store.open(finetuned.root / "store" / "train")
    val = Store.open(finetuned.root / "store" / "val")
    assert train.labels is not None and val.labels is not None
    assert scores["majority"]["accuracy"] == (labels == np.bincount(train.labels).argmax()).mean()
    texts = [json.loads(line)["text"] for line in Path(noisy).read_text(encoding="utf-8").splitlines()]
    fitted = LabelledTexts([train.text(i) for i in range(len(train))], train.labels)
    more = fitted + LabelledTexts([val.text(i) for i in range(len(val))], val.labels)
    for name, part in (("TF-IDF + linear SVM", fitted), ("TF-IDF + linear SVM, train + val", more)):
        assert scores[name]["accuracy"] == (tfidf_svm_predictions(part, texts) == labels).mean()


def test_reading_the_first_chunk_only_is_reading_its_text(finetuned: Checkout, noisy: str) -> None:
    run = load_run("ft")
    documents = TextDocuments.read(Corpus([Path(noisy)]), run.tokenizer, multi_label=False, path=noisy)
    readings = partial_readings(run, documents)
    capacity, stride = run.chunk_size - 2, run.stride
    for name in ("this model, first chunk only", "this model, first + last chunk"):
        expected = []
        for index in range(len(documents)):
            content = torch.from_numpy(documents.tokens(index))
            last = max(0, -(-(len(content) - capacity) // stride)) * stride
            parts = [content[:capacity]]
            if "last" in name and last:
                parts.append(content[last:])
            special = [torch.tensor([run.tokenizer.cls_token_id]), torch.tensor([run.tokenizer.sep_token_id])]
            rows = [torch.cat([special[0], part, special[1]]) for part in parts]
            width = max(map(len, rows))
            ids = torch.full((1, len(rows), width), run.tokenizer.pad_token_id)
            mask = torch.ones(1, len(rows), width, dtype=torch.bool)
            for place, row in enumerate(rows):
                ids[0, place, : len(row)], mask[0, place, : len(row)] = row, False
            with torch.inference_mode():
                logits = run.model(ids, mask)["logits"]
            expected.append(int(logits.argmax()))
        assert readings[name].tolist() == expected


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


@pytest.mark.parametrize("split", ["test", "val"])
def test_data_that_the_user_names(finetuned: Checkout, split: str) -> None:
    """The run's own documents in another form are known again: val fits nothing that is judged on val."""
    own = result_of("ft", "--split", split)
    store = Store.open(finetuned.root / "store" / split)
    lines = [
        {"id": store.document_id(i), "text": store.text(i), "label": NAMES[store.labels[i]]}  # type: ignore[index]
        for i in range(len(store))
    ]
    Path("t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for named, more in ((f"store/{split}", []), ("store", ["--split", split]), ("t.jsonl", [])):
        again = result_of("ft", "--data", named, *more)
        assert {**again, "data": ""} == {**own, "data": ""}, named
    assert result_of("ft", "--data", "store")["data"] == "store/test"
    Path("store/test").rename("held_out")
    assert result_of("ft", "--data", "store")["data"] == "store/val"


def test_a_part_of_val_is_all_that_the_temperature_is_fitted_on(finetuned: Checkout) -> None:
    store = Store.open(finetuned.root / "store" / "val")
    lines = [{"text": store.text(i), "label": NAMES[store.labels[i]]} for i in range(4)]  # type: ignore[index]
    Path("part.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = result_of("ft", "--data", "part.jsonl")
    assert "fitted on these very documents" in " ".join(result["notes"]) and len(store) > 4
    assert result["calibration"]["temperature_fitted_on"] == 4


def test_documents_are_those_of_val_if_most_of_them_are() -> None:
    def documents(*tokens: int) -> InMemoryDocuments:
        return InMemoryDocuments([np.array([token]) for token in tokens])

    val = documents(1, 2, 3, 4)
    assert _are_among(documents(2, 3, 9), val)
    assert not _are_among(documents(2, 9), val)  # a half is not most of them
    assert not _are_among(documents(1, 7, 8, 9), val)


def test_a_model_that_reads_one_chunk_has_no_rival_that_reads_two(finetuned: Checkout) -> None:
    store = Store.open(finetuned.root / "store" / "test")
    run = load_run("ft")
    assert set(partial_readings(run, store)) == {FIRST_CHUNK, FIRST_AND_LAST}
    assert set(partial_readings(replace(run, max_chunks=1), store)) == {FIRST_CHUNK}


def test_val_without_text_is_no_training_data_of_the_svm(finetuned: Checkout) -> None:
    store = Store.open(finetuned.root / "store" / "test")
    train = Store.open(finetuned.root / "store" / "train")
    assert prepare.main(["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]) == 0
    rivals = fitted_baselines(load_run("ft"), train, Store.open(Path("bare")), store)
    assert set(rivals) == {MAJORITY, SVM_TRAIN}


def test_data_without_text_have_no_svm_and_a_note_that_says_why(
    finetuned: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare.main(["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]) == 0
    run, bare = load_run("ft"), Store.open(Path("bare"))
    whole = {name: Store.open(finetuned.root / "store" / name) for name in ("train", "test")}
    for train, documents, said in (
        (whole["train"], whole["test"], 0),
        (whole["train"], bare, 1),
        (bare, whole["test"], 1),
    ):
        own = {"train": (train, None), "val": (None, "")}
        monkeypatch.setattr(full_evaluation, "try_own_split", lambda run, split, own=own: own[split])
        result = evaluate_run(run, documents)
        assert sum(note.startswith("no TF-IDF + linear SVM") for note in result["notes"]) == said
        assert any("SVM" in row["name"] for row in result["scores"]) != bool(said)


def test_documents_of_the_training_data_are_a_note(finetuned: Checkout, noisy: str) -> None:
    store = Store.open(finetuned.root / "store" / "train")
    with Path(noisy).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": store.text(0), "label": NAMES[0]}) + "\n")
    notes = result_of("ft", "--data", noisy)["notes"]
    assert "1 of the 61 documents stands in the run's training data as well" in notes


def test_other_documents_in_the_place_of_the_runs_own_are_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store split anew has trained documents in its test: the scores would be too good, without a word."""
    finetuned.finetuning("own", "pre", "--set", "training.epochs=1")
    finetuned.run(finetune.main, "own", "--quiet")
    anew = ["--split", "0.7/0.15/0.15", "--seed", "2", "--overwrite"]
    finetuned.run(prepare.main, "corpus.jsonl", "--out", "store", "--tokenizer", "tokenizer", *anew)
    capsys.readouterr()
    assert evaluate.main(["own"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "the test data were changed since the run was trained" in line and "--data" in line
    report = make_report(RunFolder.locate("finetuning", "own"), documents=1)
    assert report.result is None and any("test data were changed" in note for note in report.notes)
    result = result_of("own", "--data", "store/test")  # asked for, and with nothing that was fitted on others
    assert {row["name"] for row in result["scores"]}.isdisjoint({"majority", "TF-IDF + linear SVM"})
    assert any("train data were changed" in note for note in result["notes"])
    # a run that was told to take them has results on them
    allowed = ["--allow-changed", "fingerprints.data.test"]
    anew = ["--split", "0.7/0.15/0.15", "--seed", "1", "--overwrite"]
    finetuned.run(prepare.main, "corpus.jsonl", "--out", "store", "--tokenizer", "tokenizer", *anew)
    shutil.rmtree("store/test")
    shutil.copytree("store/val", "store/test")
    finetuned.run(finetune.main, "own", "--quiet", *allowed)
    assert result_of("own")["documents"] == len(Store.open(Path("store/val")))


def test_a_moved_run_says_what_it_cannot_compare(
    finetuned: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.move(finetuned.root / "experiments/finetuning/ft", tmp_path / "moved")
    shutil.move(finetuned.root / "store/test", tmp_path / "test")
    best = tmp_path / "moved" / "best.ckpt"
    content = load_checkpoint(best)
    for part in content["config"]["data"].values():
        part["dataset_path"] = "/on/another/machine"
    save_checkpoint(best, content)
    result = result_of("./moved", "--data", "test")
    assert {row["name"] for row in result["scores"]} == {
        "this model",
        "this model, first chunk only",
        "this model, first + last chunk",
    }
    assert result["calibration"]["temperature"] is None
    assert any("not here any more" in note for note in result["notes"])


@pytest.mark.parametrize("hidden", ["store", "header.json"])
def test_a_shared_run_whose_data_others_may_not_read(
    finetuned: Checkout, noisy: str, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    """A colleague judges the run on documents of their own; the run's lie in somebody's home."""
    names = {"stat": Path.stat, "open": Path.open}

    def refuse(self: Path, *args: Any, of: str, **more: Any) -> Any:
        if "store" in self.parts and (hidden == "store" or self.name == hidden):
            raise PermissionError(13, "Permission denied", str(self))
        return names[of](self, *args, **more)

    for name in names if hidden == "store" else ["open"]:
        monkeypatch.setattr(Path, name, partialmethod(refuse, of=name))
    notes = result_of("ft", "--data", noisy)["notes"]
    assert any("no temperature: " in note and "Permission denied" in note for note in notes)
    assert any("no majority" in note and "Permission denied" in note for note in notes)
    report = make_report(RunFolder.locate("finetuning", "ft"), documents=1)
    assert any("nothing to judge" in note and "Permission denied" in note for note in report.notes)
    assert report.findings == [] and len(report.notes) == 2


def test_a_disk_that_refuses_the_json_costs_no_numbers(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: object) -> None:
        raise StorageError("no space", where=str(path))

    monkeypatch.setattr(evaluate, "atomic_write_json", refuse)
    assert evaluate.main(["ft", "--json", "out.json", "--quiet"]) == 6
    assert "this model" in capsys.readouterr().out


def test_without_text_there_is_no_svm(finetuned: Checkout) -> None:
    prepare_arguments = ["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]
    assert prepare.main(prepare_arguments) == 0
    result = result_of("ft", "--data", "bare")
    assert "majority" in {row["name"] for row in result["scores"]}
    assert not any("SVM" in row["name"] for row in result["scores"])
    assert any("no text" in note for note in result["notes"])


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
