"""A finetuning outlives the pretraining that it began from."""

from __future__ import annotations

import csv
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
from textclf_transformer.commands import finetuning_task
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def interrupted(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finetuning run that was stopped in its first evaluation of three."""
    more = ("training.epochs=3", "training.freeze=[{from_epoch: 0, train: all}]", "training.num_threads=1")
    folder = pretrained.finetuning("ft", "pre", *(part for value in more for part in ("--set", value)))
    evaluate = finetuning_task.evaluate_documents

    def stopped(*args: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*args, **more)

    monkeypatch.setattr(finetuning_task, "evaluate_documents", stopped)
    with pytest.raises(SystemExit):
        finetune.main(["ft", "--quiet"])
    monkeypatch.setattr(finetuning_task, "evaluate_documents", evaluate)
    return folder


def run_to_end(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Finish the run and return its last state and its evaluations, without what time decides."""
    assert finetune.main(["ft", "--quiet"]) == 0
    with (folder / "metrics/eval/metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]
    state = load_checkpoint(folder / "model.ckpt")
    del state["metrics"]  # lengths of files, with the digits of seconds in them
    return state, rows


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            if "second" not in str(key):
                assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def test_it_goes_on_to_the_same_bits(
    pretrained: Checkout, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = pretrained.root / "copy"
    shutil.copytree(interrupted, copy)
    state, rows = run_to_end(interrupted)
    shutil.rmtree(interrupted)
    copy.rename(interrupted)
    shutil.rmtree(pretrained.root / "experiments/pretraining/pre")
    capsys.readouterr()
    assert finetune.main(["ft", "--dry-run", "--quiet"]) == 0
    assert_same(run_to_end(interrupted), (state, rows))
    lines = capsys.readouterr().err.splitlines()
    (line,) = {
        line for line in lines if line.startswith("warning: what the run was finetuned from cannot be read")
    }
    assert not any("best.ckpt" in line for line in lines)  # it was stopped before there was one
    gone = pretrained.root / "experiments/pretraining/pre"
    found = f"(there is no such pretraining run; pretrained_experiment.path: {gone})"
    assert line.endswith(f"model.ckpt is used {found}")
    capsys.readouterr()
    assert finetune.main(["ft"]) == 0  # a finished run shows its results
    assert "left behind" not in capsys.readouterr().err  # the head is the run's own


def test_it_needs_a_checkpoint_and_no_wish_to_begin_anew(
    pretrained: Checkout, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(pretrained.root / "experiments/pretraining/pre")
    assert finetune.main(["ft", "--overwrite"]) == 2
    for path in interrupted.glob("model.ckpt*"):
        path.unlink()
    assert finetune.main(["ft"]) == 2
    assert capsys.readouterr().err.count("error: there is no such pretraining run") == 2


def test_the_code_of_its_tokenizer_runs_only_with_consent(
    pretrained: Checkout, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, mark = pretrained.root / "mine.py", pretrained.root / "mark"
    code.write_text(f"open({str(mark)!r}, 'w').close()\nclass Mine: pass\n", encoding="utf-8")
    shutil.rmtree(pretrained.root / "experiments/pretraining/pre")
    content = load_checkpoint(interrupted / "model.ckpt")
    content["tokenizer"]["wrapper_path"] = f"{code}:Mine"
    save_checkpoint(interrupted / "model.ckpt", content)
    assert finetune.main(["ft"]) == 2
    assert "--trust-code" in capsys.readouterr().err and not mark.exists()
    finetune.main(["ft", "--trust-code"])
    assert mark.exists()


def test_dropouts_that_are_allowed_to_change_do(
    pretrained: Checkout, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(pretrained.root / "experiments/pretraining/pre")
    more = ["--set", "architecture.dropouts.hidden=0.25"]
    assert finetune.main(["ft", "--quiet", *more, "--allow-changed", "architecture.dropouts.hidden"]) == 0
    state = load_checkpoint(interrupted / "model.ckpt")
    assert state["architecture"]["dropouts"]["hidden"] == 0.25
    capsys.readouterr()
    assert finetune.main(["ft", "--quiet", "--allow-changed", "architecture.dropouts.hidden"]) == 4
    assert "architecture.dropouts.hidden: null; give a number: the run had 0.25" in capsys.readouterr().err
