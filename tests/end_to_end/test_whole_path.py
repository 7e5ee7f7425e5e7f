"""The commands from text to test scores, as a user types them."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer import utils
from textclf_transformer.commands.estimate import StepLoad
from textclf_transformer.evaluation.loaded_run import load_run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_text_to_scores(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pre = pretrained.root / "experiments" / "pretraining" / "pre"
    losses = [float(row["loss"]) for row in rows(pre / "metrics" / "train" / "metrics.csv")]
    assert losses[-1] < losses[0]
    environment = json.loads((pre / "run.json").read_text(encoding="utf-8"))["environment"]
    assert environment["torch"] == str(torch.__version__)

    folder = pretrained.finetuning("ft", "pre", "--set", "training.epochs=20")
    capsys.readouterr()
    pretrained.run(finetune.main, "ft")
    printed = capsys.readouterr()
    assert "test accuracy" in printed.out
    weights = torch.load(folder / "model.ckpt", weights_only=True)["model"].values()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("parameters: ")]
    parameters = sum(tensor.numel() for tensor in weights)
    count = f"{parameters:,}"
    assert line.endswith(f", total {count}; trained {count}") and "classifier" in line
    test_row = [row for row in rows(folder / "metrics" / "eval" / "metrics.csv") if row["split"] == "test"]
    assert len(test_row) == 1
    assert float(test_row[0]["accuracy"]) > 0.6  # a third by chance
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert report["status"] == "finished"
    assert report["parameters"] == report["trainable_parameters"] == parameters
    assert report["labels"] == ["garden", "harbour", "kitchen"]
    for name in (
        "config.yaml",
        "config.resolved.yaml",
        "model.ckpt",
        "best.ckpt",
        "tokenizer/tokenizer.json",
    ):
        assert (folder / name).is_file(), name


def test_first_loss_is_near_ln_vocabulary(checkout: Checkout) -> None:
    folder = checkout.pretraining("first", "--set", "logging.log_every=1", "--set", "training.epochs=1")
    checkout.run(pretrain.main, "first", "--quiet")
    first = float(rows(folder / "metrics" / "train" / "metrics.csv")[0]["loss"])
    tokenizer = json.loads((checkout.root / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    assert first == pytest.approx(math.log(len(tokenizer["model"]["vocab"])), rel=0.05)


def test_finished_run_is_a_no_op(pretrained: Checkout) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    before = {path: path.read_bytes() for path in folder.rglob("*.csv")} | {
        path: path.stat().st_mtime_ns for path in folder.glob("*.ckpt")
    }
    pretrained.run(pretrain.main, "pre", "--quiet")
    after = {path: path.read_bytes() for path in folder.rglob("*.csv")} | {
        path: path.stat().st_mtime_ns for path in folder.glob("*.ckpt")
    }
    assert before == after


def test_dry_run_touches_nothing(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkout.pretraining("plan")
    before = sorted(path for path in checkout.root.rglob("*"))
    capsys.readouterr()
    checkout.run(pretrain.main, "plan", "--dry-run", "--set", "training.epochs=7")
    output = capsys.readouterr().out
    assert "epochs: 7" in output
    assert "optimizer steps" in output
    assert "memory, about" in output
    assert sorted(path for path in checkout.root.rglob("*")) == before
    assert not (folder / "model.ckpt").exists()


def test_weights_come_from_pretraining(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a learning rate of next to nothing the finetuned encoder is the pretrained one
    folder = pretrained.finetuning(
        "still", "pre", "--set", "training.epochs=1", "--set", "training.learning_rate=1e-12"
    )
    pretrained.run(finetune.main, "still", "--quiet")
    source = torch.load(pretrained.root / "experiments/pretraining/pre/best.ckpt", weights_only=True)["model"]
    target = torch.load(folder / "model.ckpt", weights_only=True)["model"]
    encoder = [name for name in target if name.startswith("encoder.")]
    assert encoder
    for name in encoder:
        torch.testing.assert_close(target[name], source[name], atol=1e-6, rtol=0)


def test_set_of_pretraining_reaches_finetuning(checkout: Checkout) -> None:
    checkout.pretraining("wide")
    checkout.run(pretrain.main, "wide", "--quiet", "--set", "architecture.embedding_dim=48")
    folder = checkout.finetuning("ft", "wide", "--set", "training.epochs=1")
    checkout.run(finetune.main, "ft", "--quiet")
    state = torch.load(folder / "model.ckpt", weights_only=True)
    assert state["architecture"]["embedding_dim"] == 48


def test_chunks_read_the_whole_document(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained.finetuning("ft", "pre", "--set", "chunking.max_chunks=2", "--set", "training.epochs=1")
    capsys.readouterr()
    pretrained.run(finetune.main, "ft", "--quiet")
    output = capsys.readouterr().out
    assert "max_chunks cuts" in output
    assert "tokens are not read" in output


@pytest.mark.parametrize("pooling", ["multihead", "transformer"])
def test_head_of_the_config_is_built_and_resumed(pretrained: Checkout, pooling: str) -> None:
    head = [
        f"classification_head.pooling={pooling}",
        "classification_head.token_pooling=mean",
        "classification_head.attention_heads=4",
        "classification_head.chunk_position_embeddings=true",
        "chunking.max_chunks=7",
        "training.epochs=1",
    ]
    folder = pretrained.finetuning("ft", "pre", *[part for key in head for part in ("--set", key)])
    pretrained.run(finetune.main, "ft", "--quiet")
    state = torch.load(folder / "best.ckpt", weights_only=True)["model"]
    assert state["chunk_positions.weight"].shape == (7, 32)
    if pooling == "multihead":
        assert state["pooling.score.weight"].shape == (4, 32)
    longer = ("--set", "training.epochs=2", "--allow-changed", "training.epochs")
    pretrained.run(finetune.main, "ft", "--quiet", *longer)
    settings = load_run(folder).model.settings
    assert (settings["attention_heads"], settings["token_pooling"]) == (4, "mean")


@pytest.mark.parametrize(("token_pooling", "all_tokens"), [("cls", False), ("mean", True), ("max", True)])
def test_the_estimate_knows_which_tokens_the_last_layer_runs_for(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, token_pooling: str, all_tokens: bool
) -> None:
    loads = []
    monkeypatch.setattr(finetune, "StepLoad", lambda **given: loads.append(StepLoad(**given)) or loads[0])
    pretrained.finetuning("ft", "pre", "--set", f"classification_head.token_pooling={token_pooling}")
    pretrained.run(finetune.main, "ft", "--dry-run")
    assert (loads[0].wanted_share == 1.0) == all_tokens


def test_a_run_that_goes_on_elsewhere_says_so(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.finetuning("ft", "pre", "--set", "training.epochs=1")
    pretrained.run(finetune.main, "ft", "--quiet")
    longer = ("--set", "training.epochs=2", "--allow-changed", "training.epochs")
    monkeypatch.setattr(utils, "cpu_name", lambda: "another")
    capsys.readouterr()
    pretrained.run(finetune.main, "ft", *longer)
    shown = "".join(capsys.readouterr())
    assert re.search(r"environment\.processor: .* -> another, .*to rounding, not to the bit", shown)
