"""Which documents a run is judged on: its own, named ones, moved, changed or unreadable ones."""

from __future__ import annotations

import json
import shutil
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.in_memory import InMemoryDocuments
from end_to_end.conftest import Checkout
from evaluate_cases import NAMES, result_of

import finetune
from textclf_transformer.commands import evaluate, prepare
from textclf_transformer.data.store import Store
from textclf_transformer.evaluation.full_evaluation import _are_among
from textclf_transformer.evaluation.report import make_report
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint


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
