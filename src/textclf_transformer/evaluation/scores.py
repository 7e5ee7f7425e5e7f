"""Everything that labels and predictions say about a model, by scikit-learn, over the full label set.

N documents, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import Float64Array

SCORE_NAMES = ("accuracy", "f1_macro", "f1_micro", "f1_weighted", "mcc")
KAPPA = "quadratic_kappa"
"""A further score, of labels that have an order: Cohen's kappa with squared distances as weights (1968)."""


def label_scores(
    labels: IntArray, predictions: IntArray, *, num_labels: int, ordered: bool
) -> dict[str, float]:
    """Return the scores of ``SCORE_NAMES`` and, where labels are ordered, ``KAPPA``.

    A label that is neither there nor predicted has no F1 (0/0) and is left out of the macro mean, as in
    ``metrics.label_metrics``. The Matthews correlation coefficient of documents with several labels is that
    of all N × L decisions. Kappa is 0/0, NaN, where all labels and predictions are the same one.

    Args:
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        predictions: of the shape of ``labels``.
        num_labels: L.
        ordered: whether labels 0, 1, … are steps of a scale; then a document has one.
    """
    scores = {"accuracy": float(accuracy_score(labels, predictions))}
    for average in ("macro", "micro", "weighted"):
        value = f1_score(labels, predictions, labels=range(num_labels), average=average, zero_division=np.nan)
        scores[f"f1_{average}"] = float(value)
    is_one = len(np.union1d(labels, predictions)) == 1
    # where all are the same one scikit-learn says 0 as well, and warns of a matrix that nobody sees
    scores["mcc"] = 0.0 if is_one else float(matthews_corrcoef(labels.ravel(), predictions.ravel()))
    if ordered:
        options = {"labels": range(num_labels), "weights": "quadratic"}
        scores[KAPPA] = np.nan if is_one else float(cohen_kappa_score(labels, predictions, **options))
    return scores


def auc_by_label(labels: IntArray, probabilities: Float64Array) -> list[float | None]:
    """Return the area under the ROC curve of each label against the rest.

    None for a label that all documents carry, or none: it has no curve. The mean of the others is
    scikit-learn's one-vs-rest macro average.

    Args:
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        probabilities: (N, L).
    """
    present = one_hot(labels, num_labels=probabilities.shape[1])
    areas: list[float | None] = []
    for column, scores in zip(present.T, probabilities.T, strict=True):
        has_curve = column.any() and not column.all()
        areas.append(float(roc_auc_score(column, scores)) if has_curve else None)
    return areas


def class_table(
    labels: IntArray, predictions: IntArray, areas: list[float | None], label_names: tuple[str, ...]
) -> list[dict[str, str | float | int | None]]:
    """Return for each label its name, precision, recall, f1, auc and documents; None where one is 0/0."""
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=range(len(label_names)), zero_division=np.nan
    )
    return [
        {
            "label": name,
            "precision": defined(precision[place]),
            "recall": defined(recall[place]),
            "f1": defined(f1[place]),
            "auc": areas[place],
            "documents": int(support[place]),
        }
        for place, name in enumerate(label_names)
    ]


def confusion(labels: IntArray, predictions: IntArray, *, num_labels: int) -> list[list[int]]:
    """Return L × L counts: rows are the true labels, columns the predicted ones.

    Where documents carry several labels: for each label [true negatives, false positives, false negatives,
    true positives].
    """
    if labels.ndim == 2:
        matrix: NDArray[np.int64] = multilabel_confusion_matrix(labels, predictions).reshape(num_labels, 4)
    else:
        matrix = confusion_matrix(labels, predictions, labels=range(num_labels))
    counts: list[list[int]] = matrix.tolist()
    return counts


def one_hot(labels: IntArray, *, num_labels: int) -> NDArray[np.bool_]:
    """Return bool (N, L): which labels each document carries."""
    if labels.ndim == 2:
        return labels.astype(bool)
    return labels[:, None] == np.arange(num_labels)


def defined(value: float) -> float | None:
    """Return the number, None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
