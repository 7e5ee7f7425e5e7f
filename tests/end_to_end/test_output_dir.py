"""A run whose results lie on another disk is found by its name all the same, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer.commands import compare, evaluate, export, predict, report
from textclf_transformer.errors import CheckpointError
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.run_lookup import find_run


def send_results(folder: Path, output_dir: str) -> Path:
    """Write ``experiment.output_dir`` into the run's config; returns the config."""
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert text.count("output_dir: null") == 1
    config.write_text(text.replace("output_dir: null", f"output_dir: {output_dir}"), encoding="utf-8")
    return config


@pytest.fixture
def moved(finetuned: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of ``ft``, in the home folder, where its config says that they are."""
    home = finetuned.root / "home"
    monkeypatch.setenv("HOME", str(home))
    folder = finetuned.root / "experiments" / "finetuning" / "ft"
    results = home / "runs" / "ft"
    results.parent.mkdir(parents=True)
    folder.rename(results)
    folder.mkdir()
    (results / "config.yaml").rename(folder / "config.yaml")
    send_results(folder, "~/runs")
    return results


def test_each_command_finds_the_results_by_the_name(
    moved: Path, finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("ft", "experiments/finetuning/ft"):
        assert find_run(run).root == moved
    assert find_run(str(moved)).root == moved
    assert export.main(["ft", "out", "--to", "hf"]) == 0
    assert evaluate.main(["ft", "--json", "out.json"]) == 0
    assert predict.main(["ft", "corpus.jsonl", "--out", "out.csv"]) == 0
    assert report.main(["ft", "--documents", "0"]) == 0
    assert (moved / "report.html").is_file()
    finetuned.finetuning("other", "pre")
    assert compare.main(["ft", "other", "--no-predictions"]) == 0
    assert not any(line.startswith("error") for line in capsys.readouterr().err.splitlines())


def test_training_and_judging_follow_it_alike(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pretrained.root / "home"))
    folder = pretrained.finetuning("ft", "pre", "--set", "training.epochs=1")
    send_results(folder, "~/runs")
    assert find_run("ft").root == folder  # nothing is there yet
    with pytest.raises(CheckpointError, match="train it first"):
        load_run("ft")
    assert finetune.main(["ft", "--quiet"]) == 0
    assert load_run("ft").run.root == pretrained.root / "home" / "runs" / "ft"


def test_what_was_not_trained_yet_names_the_command_that_trains_it(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout.pretraining("pre")
    (checkout.root / "scratch").mkdir()
    folder.rename(checkout.root / "scratch" / "pre")
    assert export.main(["scratch/pre", "out", "--to", "hf"]) == 4
    assert "train it first: python pretrain.py pre" in capsys.readouterr().err


def test_weights_beside_the_config_are_meant_by_the_path_only(moved: Path, finetuned: Checkout) -> None:
    folder = finetuned.root / "experiments" / "finetuning" / "ft"
    (folder / "best.ckpt").write_bytes((moved / "best.ckpt").read_bytes())
    assert find_run("ft").root == moved
    assert find_run(folder).root == folder


def test_finetuning_finds_a_pretraining_run_by_its_name(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.pretraining("pre", "--set", "training.epochs=1")
    folder = checkout.finetuning("ft", "pre", "--set", "training.epochs=1")
    assert "path: pre\n" in (folder / "config.yaml").read_text(encoding="utf-8")
    send_results(checkout.root / "experiments" / "pretraining" / "pre", "scratch")
    assert pretrain.main(["pre", "--quiet"]) == 0
    assert finetune.main(["ft", "--quiet"]) == 0
