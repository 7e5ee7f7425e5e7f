"""Thresholds per label beside scikit-learn's precision-recall curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from textclf_transformer.errors import CheckpointError
from textclf_transformer.evaluation.checkpoint_parts import read_thresholds
from textclf_transformer.evaluation.probabilities import (
    confidences,
    decision_probabilities,
    predicted_labels,
    probabilities,
)
from textclf_transformer.evaluation.thresholds import choose_thresholds

RANDOM = np.random.default_rng(3)
LABELS = (RANDOM.random((60, 4)) < [0.5, 0.2, 0.05, 0.9]).astype(np.int64)
# rounded, so that documents share probabilities, among them one half exactly
LOGITS = (RANDOM.normal(size=(60, 4)) + LABELS - [0.0, 2.0, 3.0, -2.0]).round(1).astype(np.float32)


def test_no_threshold_of_scikit_learn_is_better() -> None:
    thresholds = choose_thresholds(LOGITS, LABELS)
    decided = predicted_labels(LOGITS, multi_label=True, thresholds=thresholds)
    probs = probabilities(LOGITS, multi_label=True)
    best = []
    for label in range(4):
        precision, recall, _ = precision_recall_curve(LABELS[:, label], probs[:, label])
        best.append((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())
        assert f1_score(LABELS[:, label], decided[:, label]) == pytest.approx(best[label], abs=1e-12)
    at_half = f1_score(LABELS, predicted_labels(LOGITS, multi_label=True), average="macro")
    assert f1_score(LABELS, decided, average="macro") == pytest.approx(np.mean(best), abs=1e-12)
    assert np.mean(best) > at_half + 0.1


def test_one_half_is_kept_where_nothing_is_better() -> None:
    sure = np.where(LABELS == 1, 3.0, -3.0)
    sure[:, 1] += 4.0  # all above one half
    labels = LABELS.copy()
    labels[:, 2] = 0
    labels[:, 3] = 1
    thresholds = choose_thresholds(sure, labels)
    assert thresholds[0] == thresholds[2] == thresholds[3] == 0.5
    assert thresholds[1] > 0.5


def test_of_equally_good_thresholds_the_nearest_to_one_half() -> None:
    labels = np.array([[1], [0], [0], [1]])  # F1 is 2/3 for the first document alone and for all four
    for values, expected in (([2.0, 1.5, 1.0, -3.0], (0, 1)), ([5.0, 4.9, 4.8, -0.5], (3, None))):
        logits = np.array(values)[:, None]
        probs = probabilities(logits, multi_label=True)[:, 0]
        above, below = expected
        middle = (probs[above] + (0.0 if below is None else probs[below])) / 2
        assert choose_thresholds(logits, labels) == [pytest.approx(middle, rel=1e-12)]


def test_a_threshold_overrules_the_likelier_answer_and_the_confidence_says_so() -> None:
    logits = np.array([[np.log(0.3 / 0.7), np.log(0.9 / 0.1)]])
    thresholds = [0.2, 0.95]
    assert predicted_labels(logits, multi_label=True).tolist() == [[0, 1]]
    assert predicted_labels(logits, multi_label=True, thresholds=thresholds).tolist() == [[1, 0]]
    decision = decision_probabilities(logits, multi_label=True, thresholds=thresholds)
    np.testing.assert_allclose(decision, [[0.3, 0.1]])
    np.testing.assert_allclose(confidences(logits, multi_label=True, thresholds=thresholds), [0.1])
    np.testing.assert_allclose(confidences(logits, multi_label=True), [0.7])


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 1.5], [0.5, -0.1], [0.5, 1], "no"])
def test_thresholds_of_a_checkpoint_fit_its_labels(thresholds: object) -> None:
    content = {"labels": ["a", "b"], "multi_label": True, "thresholds": thresholds}
    with pytest.raises(CheckpointError, match=r"do not fit its labels; model\.ckpt: thresholds"):
        read_thresholds(content, Path("model.ckpt"))
    sound = content | {"thresholds": [0.0, 1.0]}
    assert read_thresholds(sound, Path("model.ckpt")) == (0.0, 1.0)
    assert read_thresholds({"labels": ["a", "b"]}, Path("model.ckpt")) is None
    with pytest.raises(CheckpointError, match="do not fit its labels"):
        read_thresholds(sound | {"multi_label": False}, Path("model.ckpt"))
