"""Classification metrics over the full label set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from textclf_transformer.errors import listed

IntArray = NDArray[np.integer]

_NAMED = 20  # labels in a warning


def label_metrics(
    labels: IntArray, predictions: IntArray, *, num_labels: int, label_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return ``accuracy`` and ``f1_macro`` of ``predictions``, as scikit-learn has them.

    The mean of F1 runs over all labels of the model, not over those that happen to stand in ``labels``: a
    label that is only predicted counts with F1 = 0. A label that is neither there nor predicted has no F1
    (0/0); it is left out of the mean, so that a small split is not marked down for what it does not hold, and
    a warning names it. Where documents carry several labels, accuracy is the share of documents with all of
    them right.

    Args:
        labels: (documents,) of 0 … L − 1, or 0/1 of (documents, L).
        predictions: of the shape of ``labels``.
        num_labels: L of the model.
        label_names: what the warning calls the labels; None: by their numbers.
    """
    f1_macro = f1_score(labels, predictions, labels=range(num_labels), average="macro", zero_division=np.nan)
    absent = _absent_labels(labels, predictions, num_labels=num_labels)
    if absent:
        names = [str(label) for label in range(num_labels)] if label_names is None else label_names
        warnings.warn(
            f"labels {listed([names[label] for label in absent], at_most=_NAMED)} are neither present nor "
            "predicted in this split; "
            f"f1_macro is the mean over the other {num_labels - len(absent)}",
            stacklevel=1,
        )
    return {"accuracy": float(accuracy_score(labels, predictions)), "f1_macro": float(f1_macro)}


def _absent_labels(labels: IntArray, predictions: IntArray, *, num_labels: int) -> list[int]:
    if labels.ndim == 2:
        occurs = (labels + predictions).any(axis=0)
    else:
        occurs = np.bincount(np.concatenate((labels, predictions)), minlength=num_labels) > 0
    return [int(label) for label in np.flatnonzero(~occurs)]
