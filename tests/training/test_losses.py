"""Weighted, smoothed, ordinal and multi-label losses against the formulas, written out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from textclf_transformer.config import FinetuningTrainingSection
from textclf_transformer.errors import ConfigError
from textclf_transformer.training.losses import balanced_class_weights, build_document_loss, label_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 1.5]])
LABELS = torch.tensor([0, 2, 1])


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_single_label_loss_is_the_formula(weights: list[float] | None, smoothing: float) -> None:
    expected = 0.0
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for index, log_probability in enumerate(log_softmax(row)):
            target = (1 - smoothing) * (index == label) + smoothing / 3
            expected -= target * (weights or [1.0] * 3)[index] * log_probability
    class_weights = None if weights is None else torch.tensor(weights)
    found = label_loss(LOGITS, LABELS, class_weights=class_weights, label_smoothing=smoothing)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert found.dtype == torch.float32


def test_multi_label_loss_is_the_mean_over_labels_of_binary_losses() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    expected = 0.0
    for row, targets in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        for value, target in zip(row, targets, strict=True):
            probability = 1 / (1 + math.exp(-value))
            expected -= math.log(probability if target else 1 - probability) / 3
    assert label_loss(LOGITS, labels).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2] * 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = balanced_class_weights(labels, num_labels=3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert float(found[torch.from_numpy(labels)].mean()) == pytest.approx(1.0)
    assert balanced_class_weights(labels, num_labels=4).tolist() == pytest.approx([*expected, 0.0])


def test_settings_that_do_not_fit_the_data_are_named() -> None:
    single, several = np.array([0, 1, 2]), np.eye(3, dtype=np.int64)
    with pytest.raises(ConfigError, match=r"training\.class_weights.*2 weights"):
        build_document_loss(FinetuningTrainingSection(class_weights=[1.0, 2.0]), single, num_labels=3)
    with pytest.raises(ConfigError, match=r"several labels.*training\.class_weights"):
        build_document_loss(FinetuningTrainingSection(class_weights="balanced"), several, num_labels=3)
    with pytest.raises(ConfigError, match=r"several labels.*training\.label_smoothing"):
        build_document_loss(FinetuningTrainingSection(label_smoothing=0.1), several, num_labels=3)
    build_document_loss(FinetuningTrainingSection(), several, num_labels=3)


class GivenLogits:
    """Stands for a classifier."""

    def classify_chunks(self, *chunks: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": LOGITS}


@pytest.mark.parametrize("weights", ["none", "balanced", [1.0, 2.0, 0.5]])
def test_the_settings_reach_the_loss(weights: Any) -> None:
    data = np.array([0, 0, 1, 2, 2, 2])
    training = FinetuningTrainingSection(class_weights=weights, label_smoothing=0.1)
    batch = SimpleNamespace(labels=LABELS, input_ids=None, attention_mask=None, chunk_counts=None)
    found = build_document_loss(training, data, num_labels=3)(GivenLogits(), batch)  # type: ignore[arg-type]
    by_hand = {"none": None, "balanced": torch.tensor([1.0, 2.0, 2 / 3])}
    class_weights = torch.tensor(weights) if isinstance(weights, list) else by_hand[weights]
    expected = label_loss(LOGITS, LABELS, class_weights=class_weights, label_smoothing=0.1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
