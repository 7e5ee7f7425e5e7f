"""``textclf compare`` on real runs: tables, page, JSON, paired bootstrap."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from end_to_end.conftest import Checkout

from textclf_transformer.commands import compare
from textclf_transformer.errors import DataError
from textclf_transformer.evaluation.loaded_run import LoadedRun
from textclf_transformer.evaluation.paired import Judged


def copied(
    checkout: Checkout, name: str, *, kind: str = "finetuning", source: str = "ft", **changes: str
) -> None:
    """Copy a run under another name, with other values in its resolved config."""
    runs = checkout.root / "experiments" / kind
    shutil.copytree(runs / source, runs / name)
    path = runs / name / "config.resolved.yaml"
    text = path.read_text(encoding="utf-8")
    for key, value in changes.items():
        found = re.search(rf"(?m)^\s+{key}:(.*)$", text)
        assert found is not None, key
        text = f"{text[: found.start(1)]} {value}{text[found.end(1) :]}"
    path.write_text(text, encoding="utf-8")


def test_seeds_are_grouped_and_equal_runs_are_equal(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(finetuned, "ft2", seed="7")
    copied(finetuned, "other", epochs="99")
    capsys.readouterr()
    files = ["--html", "out.html", "--json", "out.json"]
    assert compare.main(["ft", "other", "ft2", *files]) == 0
    out, err = capsys.readouterr()
    assert "ft, ft2" in out and "training.epochs" in out and "99" in out
    assert "B against A on the same 13 test documents" in out and "can be chance" in out
    assert err.count("classifying with") == 3
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert result["differences"] == {"training.epochs": ["20", "99"]}
    (pair,) = result["pairings"]
    assert pair["differences"]["accuracy"]["difference"] == 0 and pair["documents"] == 13
    report = json.loads(Path("experiments/finetuning/ft/run.json").read_text(encoding="utf-8"))
    assert result["scores"]["test accuracy"][0]["mean"] == report["test"]["accuracy"]
    page = Path("out.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert page.count("<svg") == 4 and "Content-Security-Policy" in page
    assert "training.epochs" in page and "can be chance" in page


def test_without_predictions_and_with_hostile_values(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(finetuned, "other", best_metric='"<script>alert(1)</script>[red]\\e[2J"')
    capsys.readouterr()
    assert compare.main(["ft", "other", "--no-predictions", "--html", "out.html"]) == 0
    out, err = capsys.readouterr()
    assert "against" not in out and "classifying" not in err and "\x1b" not in out and "[red]" in out
    page = Path("out.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_run_named_twice_is_no_further_seed(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(finetuned, "other", epochs="99")
    named = ["ft", "./experiments/finetuning/ft", "other"]
    capsys.readouterr()
    assert compare.main([*named, "--no-predictions", "--json", "out.json"]) == 0
    assert "note: a run that is named more than once counts once" in capsys.readouterr().out
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert [setting["runs"] for setting in result["settings"]] == [["ft"], ["other"]]
    assert result["scores"]["test accuracy"][0]["deviation"] is None


def test_pretraining_runs(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    copied(pretrained, "pre2", kind="pretraining", source="pre", mask_p="0.4")
    capsys.readouterr()
    assert compare.main(["pre", "pre2"]) == 0
    out = capsys.readouterr().out
    assert "mlm_head.mask_p" in out and "val perplexity" in out and "against" not in out


def test_a_name_of_two_runs_means_the_finetuning_run(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(finetuned, "other", epochs="99")
    copied(finetuned, "ft", kind="pretraining", source="pre")
    capsys.readouterr()
    assert compare.main(["ft", "other", "--no-predictions"]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_test_data_that_are_gone_are_a_note(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(finetuned, "other", epochs="99")

    def gone(run: LoadedRun) -> Judged:
        raise DataError("data set does not exist", where=str(run.data_paths["test"]))

    monkeypatch.setattr(compare, "judge", gone)
    capsys.readouterr()
    assert compare.main(["ft", "other"]) == 0
    out = capsys.readouterr().out
    assert "note: no paired bootstrap: " in out and "test accuracy" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ft"], "nothing to compare"),
        (["ft", "./experiments/finetuning/ft"], "nothing to compare"),
        (["ft", "pre"], "different things"),
        (["ft", "nobody"], "no such run"),
        (["ft", "pre", "--html", "no/such/out.html"], "no such folder"),
    ],
)
def test_mistakes(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    capsys.readouterr()
    assert compare.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err
