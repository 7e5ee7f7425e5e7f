"""Training commands on a run that was begun before: nothing of it is lost, replaced or changed unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout
from end_to_end.failing import fails, snapshot

import finetune
import pretrain
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.checkpointer import Checkpointer


def test_resume_never_and_overwrite(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre", "--resume", "never")
    assert code == 4
    assert "--overwrite" in line
    assert snapshot(folder) == before
    pretrained.run(pretrain.main, "pre", "--resume", "never", "--overwrite", "--quiet")


def test_overwrite_deletes_nothing_before_all_is_found(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    before = snapshot(folder)
    for wrong in ("data.train.dataset_path=nowhere", "tokenizer.vocab_dir=nowhere"):
        fails(capsys, pretrain.main, "pre", "--overwrite", "--set", wrong)
        assert snapshot(folder) == before
    capsys.readouterr()
    pretrained.run(pretrain.main, "pre", "--overwrite", "--quiet")
    assert "--overwrite leaves what the run did not write: notes.md" in capsys.readouterr().err
    assert (folder / "notes.md").exists()


def test_overwrite_begins_logs_anew_wherever_they_lie(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    csvs = {"train": "logs/train.csv", "eval": "eval.csv"}
    named = [part for kind, csv in csvs.items() for part in ("--set", f"logging.{kind}_csv={csv}")]
    folder = checkout.pretraining("pre", *named, "--set", "training.epochs=1")
    for flags in ([], ["--overwrite"]):
        checkout.run(pretrain.main, "pre", "--quiet", *flags)
        steps = [line.split(",")[0] for line in (folder / "eval.csv").read_text().splitlines()]
        assert len(steps) == 2 and (folder / "logs" / "train.csv").exists()
    assert "leaves" not in capsys.readouterr().err


def test_best_weights_of_a_finished_run_are_not_replaced_unasked(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    for name in ("model.ckpt", "model.ckpt.prev"):  # to save space: the best is what counts
        (folder / name).unlink(missing_ok=True)
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre")
    assert code == 4
    assert "best.ckpt without model.ckpt" in line and "--overwrite" in line
    assert snapshot(folder) == before
    pretrained.run(pretrain.main, "pre", "--overwrite", "--quiet")


def test_best_weights_of_an_unfinished_run_are_set_aside_when_it_begins_anew(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the first best and the first save leaves nothing to go on from."""
    folder = checkout.pretraining("pre", "--set", "training.num_threads=1")
    best, kept = folder / "best.ckpt", folder / "best.ckpt.prev"
    save_best = Checkpointer.save_best

    def killed(self: Checkpointer, state: Mapping[str, Any]) -> None:
        save_best(self, state)
        raise SystemExit(137)

    other = ["--set", "training.learning_rate=1e-3"]
    found = []
    for flags, words in (
        (other, ""),
        ([], f"begins anew; the weights are kept in {kept}"),
        ([], f"replaces it; an earlier one stays in {kept}"),
    ):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(Checkpointer, "save_best", killed)
            pretrain.main(["pre", "--quiet", *flags])
        assert words in capsys.readouterr().err
        assert not (folder / "model.ckpt").exists()
        found.append(load_checkpoint(best)["model"])
        if words:
            assert_equal(load_checkpoint(kept)["model"], found[0])
    checkout.run(pretrain.main, "pre", "--quiet")
    assert_equal(load_checkpoint(kept)["model"], found[0])
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Checkpointer, "save_best", killed)
        pretrain.main(["pre", "--quiet", "--overwrite"])
    assert not kept.exists() and "leaves what the run did not write" not in capsys.readouterr().err
    checkout.run(pretrain.main, "pre", "--quiet")
    assert not kept.exists() and "are kept in" in capsys.readouterr().err  # until the same bits were there


def assert_equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_best_that_is_gone_does_not_keep_a_run_from_its_end(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finetuned.root / "experiments" / "finetuning" / "ft"
    (folder / "best.ckpt").unlink()
    changes = [
        "training.epochs=21",
        "training.learning_rate=1e-9",
    ]  # no evaluation is better than the lost one
    flags = [
        part for change in changes for part in ("--set", change, "--allow-changed", change.split("=")[0])
    ]
    capsys.readouterr()
    finetuned.run(finetune.main, "ft", "--quiet", *flags)
    assert "is gone; the next evaluation finds others" in capsys.readouterr().err
    assert (folder / "best.ckpt").exists()
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_best_of_another_metric_is_not_compared_with(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss above 1 would be the best macro-F1 for ever."""
    name = ["other"]
    finetuned.finetuning(*name, "pre", "--set", "training.epochs=1", "--set", "training.best_metric=loss")
    finetuned.run(finetune.main, *name, "--quiet")
    capsys.readouterr()
    changes = ["training.epochs=2", "training.best_metric=accuracy"]
    flags = [
        part for change in changes for part in ("--set", change, "--allow-changed", change.split("=")[0])
    ]
    finetuned.run(finetune.main, *name, *flags)
    assert "training.best_metric changed" in capsys.readouterr().err
    report = json.loads((finetuned.root / "experiments/finetuning/other/run.json").read_text("utf-8"))
    assert report["best"]["step"] == report["step"]
    assert 0 <= report["best"]["accuracy"] <= 1


def test_a_finetuning_outlives_a_pretraining_that_goes_on(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint has all weights, so only a word is needed: perhaps the new ones were meant."""
    pretrained.finetuning("ft", "pre", "--set", "training.epochs=1")
    pretrained.run(finetune.main, "ft", "--quiet")
    more = ["--set", "training.epochs=3", "--allow-changed", "training.epochs"]
    pretrained.run(pretrain.main, "pre", "--quiet", *more)
    code, line = fails(capsys, finetune.main, "ft", *more)
    assert code == 4
    assert "add --allow-changed fingerprints.pretrained" in line
    pretrained.run(finetune.main, "ft", *more, "--allow-changed", "fingerprints.pretrained")
    assert "this run goes on with its own" in capsys.readouterr().err


def test_a_lost_config_can_be_had_from_the_resolved_one(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    (folder / "config.yaml").unlink()
    code, line = fails(capsys, pretrain.main, "pre")
    assert code == 2
    assert "config.resolved.yaml" in line and "generate_" not in line  # whose --overwrite deletes the run
    shutil.copy(folder / "config.resolved.yaml", folder / "config.yaml")
    pretrained.run(pretrain.main, "pre")
    assert "nothing left to do" in capsys.readouterr().err


def test_changed_architecture_is_refused(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre", "--set", "architecture.num_layers=1")
    assert code == 4
    assert "architecture.num_layers" in line
    assert snapshot(folder) == before


def test_more_epochs_need_the_flag(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, pretrain.main, "pre", "--set", "training.epochs=3")
    assert code == 4
    assert "--allow-changed training.epochs" in line
    pretrained.run(
        pretrain.main, "pre", "--quiet", "--set", "training.epochs=3", "--allow-changed", "training.epochs"
    )


def test_damaged_checkpoint_falls_back(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    shutil.copy(folder / "model.ckpt", folder / "model.ckpt.prev")
    content = bytearray((folder / "model.ckpt").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "model.ckpt").write_bytes(bytes(content))
    capsys.readouterr()
    pretrained.run(pretrain.main, "pre", "--quiet")
    assert "model.ckpt.prev" in capsys.readouterr().err


def test_run_in_use(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    from textclf_transformer.experiment import RunFolder, RunLock

    with RunLock(RunFolder.locate("pretraining", "pre")):
        code, line = fails(capsys, pretrain.main, "pre")
    assert code == 7
    assert "process" in line
