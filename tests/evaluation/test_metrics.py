from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from textclf_transformer.evaluation.metrics import label_metrics


def test_metrics_equal_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(7, size=(2, 200))
    assert label_metrics(labels, predictions, num_labels=7) == {
        "accuracy": accuracy_score(labels, predictions),
        "f1_macro": f1_score(labels, predictions, average="macro"),
    }


def test_metrics_by_hand():
    # label 0: 2 right, 1 missed; label 1: 1 right, 1 wrong; label 2: present, never predicted
    labels, predictions = [0, 0, 0, 1, 2], [0, 0, 1, 1, 0]
    result = label_metrics(np.array(labels), np.array(predictions), num_labels=3)
    f1 = [2 * 2 / (2 * 2 + 1 + 1), 2 * 1 / (2 * 1 + 1 + 0), 0.0]
    assert result["accuracy"] == 3 / 5
    assert result["f1_macro"] == pytest.approx(sum(f1) / 3, rel=1e-15)


def test_a_label_that_is_only_predicted_lowers_the_mean():
    labels = np.array([0, 0, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = label_metrics(labels, np.array([0, 2, 1, 1]), num_labels=3)
    assert result["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_a_label_absent_from_a_split_leaves_the_others_alone_and_is_named():
    labels, predictions = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    with pytest.warns(UserWarning, match=r"labels 1, 3 are neither present nor predicted.*other 2"):
        wide = label_metrics(labels, predictions, num_labels=4)
    assert wide["f1_macro"] == f1_score(labels, predictions, average="macro")
    assert wide["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_an_absent_label_is_called_by_its_name():
    with pytest.warns(UserWarning, match="labels tax law are neither"):
        label_metrics(
            np.array([0, 2]), np.array([0, 2]), num_labels=3, label_names=["art", "tax law", "sport"]
        )
    with pytest.warns(UserWarning, match="18, 19, 20 and 179 more are"):
        label_metrics(np.array([0]), np.array([0]), num_labels=200)


def test_several_labels_equal_scikit_learn():
    labels, predictions = (np.random.default_rng(1).random((2, 100, 4)) < 0.4).astype(np.int64)
    assert label_metrics(labels, predictions, num_labels=4) == {
        "accuracy": accuracy_score(labels, predictions),
        "f1_macro": f1_score(labels, predictions, average="macro"),
    }


def test_an_absent_label_among_several_is_named():
    labels = np.array([[1, 0, 0], [1, 0, 1]])
    with pytest.warns(UserWarning, match="labels 1 are"):
        assert label_metrics(labels, labels, num_labels=3) == {"accuracy": 1.0, "f1_macro": 1.0}
