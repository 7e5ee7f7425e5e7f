"""Whether probabilities mean what they say: reliability, expected calibration error, temperature.

N documents, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textclf_transformer.evaluation.loaded_run import FloatArray
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import (
    Float64Array,
    decision_probabilities,
    predicted_labels,
    probabilities,
)
from textclf_transformer.evaluation.scores import one_hot

BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017."""

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Bin:
    """The decisions whose confidence lies in (low, high].

    Attributes:
        low: not included.
        high: included.
        decisions: how many.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    low: float
    high: float
    decisions: int
    confidence: float
    accuracy: float


def reliability(logits: FloatArray, labels: IntArray) -> list[Bin]:
    """Return the bins that hold decisions, from the least confidence to the most.

    A decision is the label of a document or, where documents carry several, each label's yes or no, whichever
    is likelier: thresholds have no part in whether probabilities mean what they say.

    Args:
        logits: (N, L).
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
    """
    several = labels.ndim == 2
    confidence = decision_probabilities(logits, multi_label=several).ravel()
    right = (predicted_labels(logits, multi_label=several) == labels).ravel()
    edges = np.linspace(0.0, 1.0, BINS + 1)
    # (low, high], so that a confidence of exactly 1 has a bin
    place = np.searchsorted(edges, confidence, side="left") - 1
    return [
        Bin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            decisions=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for number in range(BINS)
        if (inside := place == number).any()
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Return the mean of |accuracy − confidence| over all decisions' bins (Naeini et al. 2015)."""
    gaps = sum(entry.decisions * abs(entry.accuracy - entry.confidence) for entry in bins)
    return gaps / sum(entry.decisions for entry in bins)


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """Return the temperature T by which dividing the logits makes the labels most likely (Guo et al. 2017).

    The log-likelihood is concave in 1/T, so its one zero of the slope is found by bisection. A model that is
    right everywhere has none: the bounds are 0.05 and 20.

    Args:
        logits: (N, L).
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
    """
    wide = logits.astype(np.float64)
    several = labels.ndim == 2
    true = one_hot(labels, num_labels=wide.shape[1])
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    for _ in range(60):
        middle = (low + high) / 2
        if _slope(wide, true, middle, several=several) > 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)


def _slope(logits: Float64Array, true: np.ndarray, inverse: float, *, several: bool) -> float:
    """Return the derivative of the log-likelihood by 1/T at ``inverse``."""
    expected = probabilities(logits * inverse, multi_label=several)
    return float(((true - expected) * logits).sum())
