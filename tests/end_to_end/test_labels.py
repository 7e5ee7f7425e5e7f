"""Ordered, weighted and several labels, from the text to the scores."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import NEUTRAL, TOPICS, Checkout

import finetune
from textclf_transformer.commands import prepare

ORDER = "classification_head.ordinal_labels=[kitchen, garden, harbour]"


def scores(folder: Path, split: str) -> dict[str, float]:
    with (folder / "metrics" / "eval" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        row = [row for row in csv.DictReader(file) if row["split"] == split][-1]
    return {name: float(row[name]) for name in ("loss", "accuracy", "f1_macro")}


def test_ordinal_weighted_and_smoothed(pretrained: Checkout) -> None:
    more = ("training.class_weights=balanced", "training.label_smoothing=0.05", "training.epochs=20")
    folder = pretrained.finetuning("ft", "pre", *(part for m in (ORDER, *more) for part in ("--set", m)))
    pretrained.run(finetune.main, "ft", "--quiet")
    saved = torch.load(folder / "model.ckpt", weights_only=True)
    assert saved["labels"] == ["kitchen", "garden", "harbour"]  # not by the alphabet
    assert saved["model"]["classifier.output.bias"].shape == (2,)
    assert scores(folder, "test")["accuracy"] > 0.5  # a third by chance


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("classification_head.ordinal_labels=[kitchen, garden]", "classification_head.ordinal_labels"),
        ("classification_head.ordinal_labels=[garden, garden]", "a label stands twice"),
        ("training.class_weights=[1.0, 2.0]", "training.class_weights"),
        ("training.class_weights=often", "training.class_weights"),
        ("training.class_weights=[1.0, 2.0, -1.0]", "training.class_weights"),
        ("training.label_smoothing=1", "training.label_smoothing"),
    ],
)
def test_label_settings_that_do_not_fit(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    pretrained.finetuning("ft", "pre")
    capsys.readouterr()
    assert finetune.main(["ft", "--set", setting]) == 2
    assert message in capsys.readouterr().err


def test_several_labels_a_document(pretrained: Checkout) -> None:
    """Each topic's words say independently whether a document carries its label."""
    source = random.Random(3)
    corpus = pretrained.root / "several.jsonl"
    with corpus.open("w", encoding="utf-8") as file:
        for _ in range(150):
            labels = [topic for topic in TOPICS if source.random() < 0.5]
            words = source.choices(NEUTRAL, k=12)
            for topic in labels:
                words += source.choices(TOPICS[topic].split(), k=8)
            source.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": "|".join(labels)}) + "\n")
    split = ["--split", "0.7/0.15/0.15", "--seed", 1, "--multi-label"]
    store = pretrained.root / "several"
    pretrained.run(prepare.main, corpus, "--out", store, "--tokenizer", pretrained.root / "tokenizer", *split)
    paths = [f"data.{part}.dataset_path={store / part}" for part in ("train", "val", "test")]
    settings = [*paths, "training.epochs=25", "training.learning_rate=5e-3"]
    folder = pretrained.finetuning("ft", "pre", *(part for s in settings for part in ("--set", s)))
    pretrained.run(finetune.main, "ft", "--quiet")
    found = scores(folder, "test")
    assert found["accuracy"] > 0.3  # all three right: an eighth by chance
    assert found["f1_macro"] > 0.7
    assert found["loss"] < 0.6  # ln 2 by chance
    assert torch.load(folder / "model.ckpt", weights_only=True)["labels"] == sorted(TOPICS)
