"""Ordered, weighted and several labels, from the text to the scores."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.conftest import NEUTRAL, TOPICS, Checkout

import finetune
from textclf_transformer.commands import prepare
from textclf_transformer.data.store import Store
from textclf_transformer.errors import CheckpointError
from textclf_transformer.evaluation.full_evaluation import evaluate_run
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.predict import predict
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

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


def evaluated(checkout: Checkout) -> dict[str, Any]:
    return evaluate_run(load_run("ft"), Store.open(checkout.root / "several" / "test"), with_rivals=False)


def test_several_labels_a_document(pretrained: Checkout) -> None:
    """Each topic's words say independently whether a document carries its label."""
    source = random.Random(3)
    corpus = pretrained.root / "several.jsonl"
    with corpus.open("w", encoding="utf-8") as file:
        for _ in range(300):
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
    settings = [*paths, "training.epochs=30", "training.learning_rate=2e-3"]
    folder = pretrained.finetuning("ft", "pre", *(part for s in settings for part in ("--set", s)))
    pretrained.run(finetune.main, "ft", "--quiet")
    found = scores(folder, "test")
    assert found["accuracy"] > 0.3  # all three right: an eighth by chance
    assert found["f1_macro"] > 0.7
    assert found["loss"] < 0.6  # ln 2 by chance
    assert torch.load(folder / "model.ckpt", weights_only=True)["labels"] == sorted(TOPICS)
    best = load_checkpoint(folder / "best.ckpt")
    thresholds = best["thresholds"]
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["thresholds"] == thresholds
    assert len(thresholds) == 3 and all(0 < threshold < 1 for threshold in thresholds)
    judged = evaluated(pretrained)
    assert judged["thresholds"] == thresholds
    assert judged["scores"][0]["f1_macro"] == pytest.approx(found["f1_macro"], abs=1e-12)
    assert judged["scores"][0]["accuracy"] == pytest.approx(found["accuracy"], abs=1e-12)
    for moved, verdict in (([0.0] * 3, "|".join(sorted(TOPICS))), ([1.0] * 3, "")):
        save_checkpoint(folder / "best.ckpt", {**best, "thresholds": moved})
        rows = predict(folder, ["soil seed ship rope"])
        assert (rows[0] if isinstance(rows, list) else rows.iloc[0])["label"] == verdict
    assert evaluated(pretrained)["scores"][0]["f1_macro"] < found["f1_macro"]
    save_checkpoint(folder / "best.ckpt", {**best, "thresholds": [0.5]})
    with pytest.raises(CheckpointError, match="thresholds"):
        load_run(folder)
