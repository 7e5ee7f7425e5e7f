"""``textclf report``, and the report at the end of a run, which must never fail it."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.conftest import Checkout

import finetune
from textclf_transformer.commands import report
from textclf_transformer.errors import StorageError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint


def test_page_and_pictures_go_where_asked(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["ft", "--out", "here.html", "--png", "pictures", "--documents", "1"]) == 0
    shown = capsys.readouterr()
    told = ["classifying 13 documents of test", "judging the model beside baselines"]
    told += ["looking for what decided 1 document", "auditing the data"]
    assert "here.html" in shown.out and shown.err.splitlines() == [f"{line} …" for line in told]
    page = Path("here.html").read_text(encoding="utf-8")
    assert page.count('<details class="document"') == 1
    assert report.main(["ft", "--out", "again.html", "--quiet"]) == 0
    assert capsys.readouterr().err == "" and Path("again.html").exists()
    assert {path.name for path in Path("pictures").iterdir()} >= {"loss.png", "confusion.png", "rivals.png"}


def test_a_name_means_the_finetuning_run_first(finetuned: Checkout) -> None:
    finetuned.pretraining("ft")  # not trained
    runs = finetuned.root / "experiments"
    for name, kind in (("pre", "pretraining"), ("ft", "finetuning")):
        assert report.main([name, "--documents", "0"]) == 0
        assert (runs / kind / name / "report.html").is_file()
    assert not (runs / "pretraining" / "ft" / "report.html").exists()


def test_the_config_says_how_many_documents_are_shown(finetuned: Checkout) -> None:
    run = RunFolder.locate("finetuning", "ft")
    text = run.resolved_config.read_text(encoding="utf-8")
    for said, shown in (("2", 2), ("many", 12)):
        edited = text.replace("report_documents: 12", f"report_documents: {said}")
        run.resolved_config.write_text(edited, encoding="utf-8")
        assert report.main(["ft"]) == 0
        assert run.report.read_text(encoding="utf-8").count('<details class="document"') == shown


def test_val_does_not_take_the_place_of_test_without_a_word(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.locate("finetuning", "ft")
    content = load_checkpoint(run.best_checkpoint)
    content["fingerprints"]["data"]["test"] = "of other documents"
    save_checkpoint(run.best_checkpoint, content)
    run.run_json.unlink()
    assert report.main(["ft", "--documents", "0"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "so val is judged" in line]
    assert len(warnings) == 1 and "the test data were changed since the run was trained" in warnings[0]


def test_mistakes_are_one_line(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (["nobody"], "there is no such run; "),
        (["pre", "--documents", "-1"], "--documents, found -1"),
        (["pre", "--out", "no/such/folder.html"], "no such folder to write to"),
        (["store/"], "not the folder of a run"),
    ]:
        assert report.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error.replace("; found", ", found") and error.count("\n") == 1


def test_a_run_that_cannot_be_written_to_is_sent_elsewhere(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("cannot read or write here", found="Read-only file system")

    monkeypatch.setattr("textclf_transformer.evaluation.report.atomic_write", refuse)
    assert report.main(["pre"]) == 6
    assert "Read-only file system; or write the report elsewhere: --out FILE" in capsys.readouterr().err
    assert report.main(["pre", "--out", "here.html"]) == 6
    assert "elsewhere" not in capsys.readouterr().err


def test_a_run_ends_with_its_report(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (
        pretrained.finetuning("ft", "pre", "--set", "training.epochs=1", "--set", "logging.report=true")
        / "report.html"
    )
    with monkeypatch.context() as patch:
        patch.setattr(report, "make_report", lambda *_, **__: 1 / 0)
        assert finetune.main(["ft", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert "warning: no report.html: " in error and "ZeroDivisionError" in error and "textclf report" in error
    assert not page.exists()
    assert finetune.main(["ft", "--quiet"]) == 0  # nothing is left to do but the report
    assert "Where it looked" in page.read_text(encoding="utf-8")
    made = page.stat().st_mtime_ns
    assert finetune.main(["ft", "--quiet"]) == 0
    assert page.stat().st_mtime_ns == made
