from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from textclf_transformer.errors import NonFiniteError
from textclf_transformer.evaluation.metrics import classification_metrics, label_metrics


def logits_for(predictions: list[int], num_labels: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predictions), num_labels).float() * 3 - 1


def test_metrics_equal_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 7, generator=generator)
    labels = torch.randint(7, (200,), generator=generator)
    predictions = logits.argmax(1)
    assert classification_metrics(logits, labels) == {
        "accuracy": accuracy_score(labels, predictions),
        "f1_macro": f1_score(labels, predictions, average="macro"),
    }


def test_metrics_by_hand():
    # label 0: 2 right, 1 missed; label 1: 1 right, 1 wrong; label 2: present, never predicted
    labels, predictions = [0, 0, 0, 1, 2], [0, 0, 1, 1, 0]
    result = classification_metrics(logits_for(predictions, 3), torch.tensor(labels))
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
        classification_metrics(
            logits_for([0, 2], 3), torch.tensor([0, 2]), label_names=["art", "tax law", "sport"]
        )
    with pytest.warns(UserWarning, match="18, 19, 20 and 179 more are"):
        label_metrics(np.array([0]), np.array([0]), num_labels=200)


def test_several_labels_equal_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(100, 4, generator=generator)
    labels = (torch.rand(100, 4, generator=generator) < 0.4).float()
    predictions = (logits > 0).int()
    assert classification_metrics(logits, labels) == {
        "accuracy": accuracy_score(labels, predictions),
        "f1_macro": f1_score(labels, predictions, average="macro"),
    }


def test_an_absent_label_among_several_is_named():
    labels = np.array([[1, 0, 0], [1, 0, 1]])
    with pytest.warns(UserWarning, match="labels 1 are"):
        assert label_metrics(labels, labels, num_labels=3) == {"accuracy": 1.0, "f1_macro": 1.0}


def test_half_precision_logits_are_taken():
    logits = logits_for([0, 1, 1], 2).bfloat16()
    assert classification_metrics(logits, torch.tensor([0, 1, 0]))["accuracy"] == 2 / 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_is_named(value):
    logits = torch.zeros(3, 2)
    logits[1, 0] = value
    with pytest.raises(NonFiniteError, match="document 1"):
        classification_metrics(logits, torch.tensor([0, 1, 0]))
