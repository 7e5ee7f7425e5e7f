"""From which probability on a document carries a label, chosen per label on validation documents.

Macro-F1 is the mean of the labels' F1, and a label's F1 depends on its own threshold alone; so the thresholds
that are best for each label are the best for macro-F1 as well, and no search over combinations is needed
(Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure").

N documents, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.evaluation.loaded_run import FloatArray
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import DEFAULT_THRESHOLD, probabilities


def choose_thresholds(logits: FloatArray, labels: IntArray) -> list[float]:
    """Return for each label the threshold with the highest F1; a label is there if its probability is above.

    Thresholds stand in the middle between the probabilities of two documents, or at one half where that lies
    between the same two. Of equally good ones the nearest to one half is taken. A label that no document
    carries, or that all carry, keeps one half.

    Args:
        logits: (N, L).
        labels: 0/1 of (N, L).
    """
    probs = probabilities(logits, multi_label=True)
    return [_best_threshold(probs[:, label], labels[:, label] == 1) for label in range(probs.shape[1])]


def _best_threshold(probs: NDArray[np.float64], carries: NDArray[np.bool_]) -> float:
    if carries.all() or not carries.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-probs, kind="stable")
    falling, hits = probs[order], carries[order].cumsum()
    # predicting the k most probable documents, k = 1 … N; only between different probabilities can be cut
    chosen = np.arange(1, len(probs) + 1)
    f1 = 2 * hits / (chosen + carries.sum())
    below = np.append(falling[1:], 0.0)
    possible = below < falling
    thresholds = (falling + below) / 2
    thresholds[(below <= DEFAULT_THRESHOLD) & (falling > DEFAULT_THRESHOLD)] = DEFAULT_THRESHOLD
    best = possible & (f1 >= f1[possible].max())
    distances = np.where(best, np.abs(thresholds - DEFAULT_THRESHOLD), np.inf)
    return float(thresholds[distances.argmin()])
