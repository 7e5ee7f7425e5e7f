"""Muon through the commands: trains, goes on to the bit, and is a run's own for good."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout
from torch import nn

import pretrain
from textclf_transformer.commands import plan
from textclf_transformer.commands.estimate import CostEstimate, StepLoad, estimate_cost
from textclf_transformer.model.encoder import RobertaModel

MUON = ("--set", "training.optimizer=muon")


def losses(folder: Path) -> list[float]:
    with (folder / "metrics" / "train" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_muon_learns_what_it_is_shown(checkout: Checkout) -> None:
    folder = checkout.pretraining("muon", *MUON)
    checkout.run(pretrain.main, "muon", "--quiet")
    assert losses(folder)[-1] < losses(folder)[0]
    state = torch.load(folder / "model.ckpt", weights_only=True)["optimizer"]
    assert state["encoder.layers.0.output.weight"].keys() == {"momentum_buffer"}
    assert state["encoder.embeddings.word_embeddings.weight"].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_a_run_keeps_its_optimizer(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.pretraining("muon", *MUON, "--set", "training.epochs=1")
    checkout.run(pretrain.main, "muon", "--quiet")
    changes = ("--set", "training.optimizer=adamw", "--allow-changed", "training.optimizer")
    assert pretrain.main(["muon", *changes]) == 4
    assert "training.optimizer: muon -> adamw" in capsys.readouterr().err


def test_the_plan_names_what_updates_the_weights(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.pretraining("muon")
    estimated = []

    def watch(model: nn.Module, encoder: RobertaModel, load: StepLoad, *, muon: bool) -> CostEstimate:
        estimated.append(muon)
        return estimate_cost(model, encoder, load, muon=muon)

    monkeypatch.setattr(plan, "estimate_cost", watch)
    expected = {
        "adamw": "AdamW",
        "muon": "Muon for 8 matrices of the layers (16,384 parameters), AdamW for all else",
    }
    for optimizer, line in expected.items():
        checkout.run(pretrain.main, "muon", "--dry-run", "--set", f"training.optimizer={optimizer}")
        printed = capsys.readouterr().out
        assert re.search(rf"^optimizer +{re.escape(line)}$", printed, flags=re.MULTILINE), printed
    assert estimated == [False, True]
