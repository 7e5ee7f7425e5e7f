"""DeBERTa through the commands: pretrained with the enhanced mask decoder, finetuned on long documents."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from end_to_end.conftest import Checkout

import finetune
import pretrain

DISENTANGLED = ("--set", "architecture.attention.kind=disentangled")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_disentangled_encoder_from_text_to_scores(checkout: Checkout) -> None:
    distance = ("--set", "architecture.attention.max_relative_positions=8")
    pre = checkout.pretraining("deberta", *DISENTANGLED, *distance)
    checkout.run(pretrain.main, "deberta", "--quiet")
    losses = [float(row["loss"]) for row in rows(pre / "metrics" / "train" / "metrics.csv")]
    assert losses[-1] < losses[0]
    source = torch.load(pre / "best.ckpt", weights_only=True)["model"]
    assert source["encoder.embeddings.relative_position_embeddings.weight"].shape == (16, 32)
    assert "mask_decoder.position_embeddings.weight" in source
    assert "encoder.embeddings.position_embeddings.weight" not in source

    folder = checkout.finetuning("ft", "deberta", "--set", "training.epochs=20")
    checkout.run(finetune.main, "ft", "--quiet")
    test_row = [row for row in rows(folder / "metrics" / "eval" / "metrics.csv") if row["split"] == "test"]
    assert float(test_row[0]["accuracy"]) > 0.6  # a third by chance
    saved = torch.load(folder / "model.ckpt", weights_only=True)
    assert saved["architecture"]["attention"] == {
        "kind": "disentangled",
        "num_heads": 2,
        "max_relative_positions": 8,
    }
    encoder = {name for name in saved["model"] if name.startswith("encoder.")}
    assert encoder == {name for name in source if name.startswith("encoder.")}


def test_the_mask_decoder_can_be_left_out(checkout: Checkout) -> None:
    off = ("--set", "mlm_head.enhanced_mask_decoder=false", "--set", "training.epochs=1")
    folder = checkout.pretraining("plain", *DISENTANGLED, *off)
    checkout.run(pretrain.main, "plain", "--quiet")
    state = torch.load(folder / "model.ckpt", weights_only=True)["model"]
    assert not any(name.startswith("mask_decoder.") for name in state)
