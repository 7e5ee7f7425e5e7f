"""Names, paths and links in configs and run folders lead nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from end_to_end.conftest import Checkout
from torture import hostile
from torture.refusals import refused

import finetune
import pretrain
from experiments import generate_finetuning_experiment, generate_pretraining_experiment
from textclf_transformer.commands import export, predict, prepare, report
from textclf_transformer.experiment import RunFolder


@pytest.mark.parametrize("name", hostile.NAMES)
def test_no_name_leaves_the_folder(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    generators = (generate_pretraining_experiment.main, generate_finetuning_experiment.main)
    for main, more in zip(
        (*generators, pretrain.main, finetune.main), (["--"], ["pre", "--"], [], []), strict=True
    ):
        arguments = [*more, name] if name.startswith("-") else [name, *more[:-1]]
        refused(capsys, 2, "", main, *arguments)
    if "/" not in name and name not in {".", ".."}:  # these are paths, and a path may lead anywhere
        refused(capsys, 2, "", predict.main, *(["--"] if name.startswith("-") else []), name, "corpus.jsonl")
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "place", ["../x.csv", "/tmp/x.csv", "C:\\x.csv", "a/../../x.csv", "model.ckpt/x.csv", "x"]
)
def test_no_path_in_a_config_leads_out_of_the_run(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    checkout.pretraining("pre")
    refused(capsys, 2, "logging.train_csv", pretrain.main, "pre", "--set", f"logging.train_csv={place}")


def test_links_in_the_place_of_folders_are_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finetuned.root / "experiments" / "pretraining" / "pre", elsewhere)
    (elsewhere / "precious").write_text("x", encoding="utf-8")
    run = RunFolder.locate("pretraining", "linked").root
    run.symlink_to(elsewhere)
    refused(capsys, 2, "symbolic link", pretrain.main, "linked", "--overwrite")
    out = tmp_path / "out"
    out.symlink_to(elsewhere)
    arguments = ["corpus.jsonl", "--out", out, "--tokenizer", "tokenizer", "--overwrite"]
    refused(capsys, 2, "symbolic link", prepare.main, *arguments)
    # a link inside a run is removed by --overwrite, what it points to is not
    inside = RunFolder.locate("pretraining", "pre").root / "metrics"
    shutil.rmtree(inside)
    inside.symlink_to(elsewhere)
    refused(capsys, 2, "leads out", pretrain.main, "pre")
    assert pretrain.main(["pre", "--overwrite", "--quiet"]) == 0
    assert (elsewhere / "precious").exists()
    assert not inside.is_symlink()


def test_a_run_json_of_another_meaning_is_passed_over(pretrained: Checkout) -> None:
    """It holds nothing that a run needs, so a hostile one costs its figures and no more."""
    path = pretrained.root / "experiments" / "pretraining" / "pre" / "run.json"
    for content in (
        "[" * 500_000,
        "[1, 2]",
        '{"status": "finished", "test": {"loss": 2}, "data": 5}',
        '{"environment": {"torch": "<b>"}, "data": {"<b>": {}, "train": {}}, "best": {"loss": "low"}}',
        "\x00",
    ):
        path.write_text(content, encoding="utf-8")
        assert report.main(["pre", "--quiet"]) == 0
        assert export.main(["pre", "out", "--to", "hf", "--overwrite"]) == 0
        assert "<b>" not in Path("out/README.md").read_text(encoding="utf-8")
        assert pretrain.main(["pre", "--quiet"]) == 0
        assert json.loads(path.read_text(encoding="utf-8"))["test"] is None
