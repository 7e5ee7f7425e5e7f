from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    multilabel_confusion_matrix,
    roc_auc_score,
)

from textclf_transformer.evaluation.probabilities import probabilities
from textclf_transformer.evaluation.scores import auc_by_label, class_table, confusion, label_scores

NAMES = ("a", "b", "c", "d", "e")
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(120, 5)).astype(np.float32)
LABELS = np.where(RNG.random(120) < 0.5, LOGITS.argmax(1), RNG.integers(5, size=120))
SEVERAL = (RNG.random((120, 5)) < 0.4).astype(np.int64)
SEVERAL_PREDICTED = (LOGITS > 0).astype(np.int64)


def test_one_label_equals_scikit_learn():
    predicted = LOGITS.argmax(1)
    assert label_scores(LABELS, predicted, num_labels=5, ordered=False) == {
        "accuracy": accuracy_score(LABELS, predicted),
        "f1_macro": f1_score(LABELS, predicted, average="macro"),
        "f1_micro": f1_score(LABELS, predicted, average="micro"),
        "f1_weighted": f1_score(LABELS, predicted, average="weighted"),
        "mcc": matthews_corrcoef(LABELS, predicted),
    }
    assert confusion(LABELS, predicted, num_labels=5) == confusion_matrix(LABELS, predicted).tolist()


def test_ordered_labels_have_the_kappa_of_scikit_learn():
    predicted = LOGITS.argmax(1)
    scores = label_scores(LABELS, predicted, num_labels=5, ordered=True)
    assert scores["quadratic_kappa"] == cohen_kappa_score(LABELS, predicted, weights="quadratic")
    # a label between two others that nobody has still lies between them
    gap = np.array([0, 1, 4, 4, 0]), np.array([0, 4, 4, 1, 1])
    expected = cohen_kappa_score(*gap, weights="quadratic", labels=range(5))
    assert label_scores(*gap, num_labels=5, ordered=True)["quadratic_kappa"] == expected
    same = np.ones(4, dtype=np.int64)
    assert np.isnan(label_scores(same, same, num_labels=3, ordered=True)["quadratic_kappa"])


@pytest.mark.parametrize(
    "labels", [np.array([2]), np.ones((1, 5), dtype=np.int64), np.zeros((3, 5), dtype=np.int64)]
)
def test_where_all_labels_are_one_there_is_a_score_and_no_warning(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = label_scores(labels, labels, num_labels=5, ordered=False)
    with pytest.warns(UserWarning, match="A single label was found"):
        assert scores["mcc"] == matthews_corrcoef(labels.ravel(), labels.ravel())


def test_several_labels_equal_scikit_learn():
    assert label_scores(SEVERAL, SEVERAL_PREDICTED, num_labels=5, ordered=False) == {
        "accuracy": accuracy_score(SEVERAL, SEVERAL_PREDICTED),
        "f1_macro": f1_score(SEVERAL, SEVERAL_PREDICTED, average="macro"),
        "f1_micro": f1_score(SEVERAL, SEVERAL_PREDICTED, average="micro"),
        "f1_weighted": f1_score(SEVERAL, SEVERAL_PREDICTED, average="weighted"),
        "mcc": matthews_corrcoef(SEVERAL.ravel(), SEVERAL_PREDICTED.ravel()),
    }
    assert (
        confusion(SEVERAL, SEVERAL_PREDICTED, num_labels=5)
        == multilabel_confusion_matrix(SEVERAL, SEVERAL_PREDICTED).reshape(5, 4).tolist()
    )


@pytest.mark.parametrize(("labels", "several"), [(LABELS, False), (SEVERAL, True)])
def test_auc_equals_scikit_learn_one_against_the_rest(labels, several):
    probs = probabilities(LOGITS, multi_label=several)
    areas = auc_by_label(labels, probs)
    options = {} if several else {"multi_class": "ovr"}
    assert np.mean(areas) == roc_auc_score(labels, probs, average="macro", **options)
    assert areas == roc_auc_score(labels, probs, average=None, **options).tolist()


def test_a_label_that_nobody_or_everybody_has_has_no_area():
    probs = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    assert auc_by_label(np.array([0, 0]), probs) == [None, None, None]
    areas = auc_by_label(np.array([0, 1]), probs)
    assert areas == [1.0, 1.0, None]


def test_class_table_equals_the_classification_report():
    predicted = LOGITS.argmax(1)
    areas = auc_by_label(LABELS, probabilities(LOGITS, multi_label=False))
    report = classification_report(LABELS, predicted, target_names=NAMES, output_dict=True)
    for row in class_table(LABELS, predicted, areas, NAMES):
        expected = report[row["label"]]
        assert (row["precision"], row["recall"], row["f1"], row["documents"]) == (
            expected["precision"],
            expected["recall"],
            expected["f1-score"],
            expected["support"],
        )


def test_a_label_absent_from_the_split_is_shown_and_does_not_shift_the_others():
    labels, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    table = class_table(labels, predicted, [None] * 4, ("a", "b", "c", "d"))
    assert [row["f1"] for row in table] == [pytest.approx(2 / 3), None, pytest.approx(4 / 5), None]
    assert [row["documents"] for row in table] == [2, 0, 2, 0]
    assert label_scores(labels, predicted, num_labels=4, ordered=False)["f1_macro"] == f1_score(
        labels, predicted, average="macro"
    )
    assert np.array(confusion(labels, predicted, num_labels=4)).shape == (4, 4)
