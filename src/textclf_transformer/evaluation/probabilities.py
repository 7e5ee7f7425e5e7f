"""From logits to probabilities, predicted labels and confidence, for one label a document and for several.

N documents, L labels. Everything is float64, whatever the logits are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.evaluation.loaded_run import FloatArray

Float64Array = NDArray[np.float64]

DEFAULT_THRESHOLD = 0.5
"""Above which probability a document carries a label, where nothing else was chosen for the label."""


def log_probabilities(logits: FloatArray, *, multi_label: bool) -> Float64Array:
    """Return (N, L): the logarithm of each label's probability.

    One label a document: softmax over labels. Several: a sigmoid for each label.
    """
    wide = logits.astype(np.float64)
    if multi_label:
        return -np.logaddexp(0.0, -wide)
    shifted = wide - wide.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def probabilities(logits: FloatArray, *, multi_label: bool) -> Float64Array:
    """Return (N, L): each label's probability; rows sum to 1 where a document has one label."""
    return np.exp(log_probabilities(logits, multi_label=multi_label))


def predicted_labels(
    logits: FloatArray, *, multi_label: bool, thresholds: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """Return the most probable label (N,) or, for several, 0/1 of (N, L): probability above the threshold.

    Args:
        logits: (N, L).
        multi_label: whether a document carries any number of labels.
        thresholds: L probabilities, for several labels only; None: one half for each.
    """
    if multi_label and thresholds is not None:
        return (probabilities(logits, multi_label=True) > np.array(thresholds)).astype(np.int64)
    if multi_label:
        return (logits > 0).astype(np.int64)
    return logits.argmax(axis=1).astype(np.int64)


def decision_probabilities(
    logits: FloatArray, *, multi_label: bool, thresholds: Sequence[float] | None = None
) -> Float64Array:
    """Return the probability that the model gives to what it decided; below one half where a threshold
    overrules it.

    One label a document: (N, 1), that of the predicted label. Several: (N, L), for each label the probability
    that it is there, or is not there, whichever was predicted.
    """
    if multi_label:
        there = predicted_labels(logits, multi_label=True, thresholds=thresholds) == 1
        return probabilities(np.where(there, logits, -logits), multi_label=True)
    return probabilities(logits, multi_label=False).max(axis=1, keepdims=True)


def confidences(
    logits: FloatArray, *, multi_label: bool, thresholds: Sequence[float] | None = None
) -> Float64Array:
    """Return (N,): the probability of the predicted label; for several, of the least certain decision."""
    return decision_probabilities(logits, multi_label=multi_label, thresholds=thresholds).min(axis=1)
