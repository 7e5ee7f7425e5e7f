"""Finetuning without pretrained weights: the shape and the tokenizer alone are taken over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer.evaluation.loaded_run import load_run

RANDOM = ("--set", "pretrained_experiment.load_weights=false")
ONE_EPOCH = ("--set", "training.epochs=1")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.ckpt", weights_only=True)["model"]


@pytest.mark.parametrize("output_dir", [None, "elsewhere"])
def test_the_pretraining_need_not_be_trained(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], output_dir: str | None
) -> None:
    elsewhere = ("--set", f"experiment.output_dir={checkout.root / output_dir}") if output_dir else ()
    checkout.pretraining("shape", *elsewhere)
    capsys.readouterr()
    folder = checkout.finetuning("ft", "shape", *ONE_EPOCH, *RANDOM)
    assert "no checkpoint" not in capsys.readouterr().err
    checkout.run(finetune.main, "ft", "--quiet")
    loaded = load_run(folder)
    assert loaded.model.encoder.hidden_size == 32
    assert len(loaded.model.encoder.layers) == 2
    assert loaded.tokenizer.vocab_size == loaded.model.encoder.vocab_size

    # trained later, it changes nothing: neither the resume, nor what another run of that seed becomes
    checkout.run(pretrain.main, "shape", "--quiet", *ONE_EPOCH)
    checkout.run(finetune.main, "ft", "--quiet")
    again = checkout.finetuning("again", "shape", *ONE_EPOCH, *RANDOM)
    checkout.run(finetune.main, "again", "--quiet")
    for name, tensor in weights(folder).items():
        assert torch.equal(weights(again)[name], tensor), name


def test_the_code_of_the_tokenizer_runs_only_with_consent(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    code, mark = checkout.root / "mine.py", checkout.root / "mark"
    code.write_text(f"open({str(mark)!r}, 'w').close()\nclass Mine: pass\n", encoding="utf-8")
    checkout.pretraining("shape", "--set", f"tokenizer.wrapper_path={code}:Mine")
    checkout.finetuning("ft", "shape", *ONE_EPOCH, *RANDOM)
    capsys.readouterr()
    assert finetune.main(["ft"]) == 2
    assert "--trust-code" in capsys.readouterr().err and not mark.exists()
    finetune.main(["ft", "--trust-code"])
    assert mark.exists()


def test_who_wants_its_weights_is_told_of_the_other_way(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.pretraining("shape")
    capsys.readouterr()
    checkout.finetuning("ft", "shape")
    assert (
        "python pretrain.py shape, or set pretrained_experiment.load_weights: false"
        in capsys.readouterr().err
    )
    assert finetune.main(["ft", "--quiet"]) == 4
    error = capsys.readouterr().err
    assert "has no checkpoint" in error and "python pretrain.py shape" in error
    assert "--set pretrained_experiment.load_weights=false" in error


def test_a_shape_that_changed_in_between_is_refused_in_words(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    config = checkout.pretraining("shape") / "config.yaml"
    checkout.finetuning("ft", "shape", *ONE_EPOCH, *RANDOM)
    checkout.run(finetune.main, "ft", "--quiet")
    text = config.read_text(encoding="utf-8")
    assert text.count("num_layers: 2") == 1
    config.write_text(text.replace("num_layers: 2", "num_layers: 3"), encoding="utf-8")
    capsys.readouterr()
    assert finetune.main(["ft", "--quiet"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "encoder.num_layers: 2 -> 3; change it back in what pretrained_experiment names" in line


def test_a_run_without_the_chosen_checkpoint_still_has_its_shape(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = checkout.pretraining("shape")
    (shape / "best.ckpt").touch()
    last = ("--set", "pretrained_experiment.checkpoint=last")
    checkout.finetuning("ft", "shape", *ONE_EPOCH, *RANDOM, *last)
    checkout.run(finetune.main, "ft", "--dry-run")
    (shape / "config.yaml").unlink()
    capsys.readouterr()
    assert finetune.main(["ft", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: there is no such config file; {shape / 'config.yaml'}"


def test_a_checkpoint_given_by_its_path_must_be_there(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.pretraining("shape")
    missing = checkout.root / "no.ckpt"
    checkout.finetuning("ft", "shape", *RANDOM, "--set", f"pretrained_experiment.checkpoint={missing}")
    capsys.readouterr()
    assert finetune.main(["ft", "--quiet"]) == 4
    assert f"pretrained_experiment.checkpoint: {missing}" in capsys.readouterr().err
