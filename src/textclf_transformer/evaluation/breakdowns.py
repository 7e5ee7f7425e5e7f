"""Where a model fails: by length of the document, at which confidence, on which documents.

N documents, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from textclf_transformer.data.documents import Documents, Int64Array
from textclf_transformer.data.store_labels import SEPARATOR
from textclf_transformer.data.text_documents import document_id
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import Float64Array

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
CURVE = tuple(percent / 100 for percent in range(100, 0, -1))
WORST_MISTAKES = 10


def right_documents(labels: IntArray, predictions: IntArray) -> np.ndarray:
    """Return bool (N,): whether a document's label, or all of its labels, are right."""
    equal = labels == predictions
    return equal.all(axis=1) if equal.ndim == 2 else equal


def most_frequent(result: Mapping[str, Any], most: int) -> list[int]:
    """Return the places of the labels that a table of an evaluation's ``result`` shows: all, in their order,
    or of more than ``most`` labels those with the most documents.
    """
    classes = result["classes"]
    if len(classes) <= most:
        return list(range(len(classes)))
    return sorted(range(len(classes)), key=lambda place: -classes[place]["documents"])[:most]


def scores_by_length(
    labels: IntArray, predictions: IntArray, lengths: Int64Array, read: Int64Array, *, num_labels: int
) -> list[dict[str, Any]]:
    """Return accuracy and macro-F1 in four groups of about as many documents, from the shortest.

    Args:
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        predictions: of the shape of ``labels``.
        lengths: content tokens of each document, (N,).
        read: how many of them the model reads, (N,).
        num_labels: L.
    """
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75], method="inverted_cdf"))
    group = np.searchsorted(edges, lengths, side="left")
    right = right_documents(labels, predictions)
    rows = []
    for number in np.unique(group):
        inside = group == number
        f1 = f1_score(
            labels[inside],
            predictions[inside],
            labels=range(num_labels),
            average="macro",
            zero_division=np.nan,
        )
        rows.append(
            {
                "tokens_from": int(lengths[inside].min()),
                "tokens_to": int(lengths[inside].max()),
                "documents": int(inside.sum()),
                "truncated": int((read[inside] < lengths[inside]).sum()),
                "accuracy": float(right[inside].mean()),
                "f1_macro": None if np.isnan(f1) else float(f1),
            }
        )
    return rows


def coverage_risk(
    right: np.ndarray, confidence: Float64Array, coverages: Sequence[float]
) -> list[dict[str, Any]]:
    """Return what remains to be wrong if only the most certain documents are decided by the model.

    Documents of the same confidence count as one: all of them are decided, or none.

    Args:
        right: bool (N,).
        confidence: (N,).
        coverages: shares of documents that the model decides, falling.

    Returns:
        For each of ``coverages`` that decides other documents than the one before: ``coverage`` (share of
        documents that the model decides, at least as asked), ``documents`` (their number), ``confidence`` (of
        the least certain among them), ``accuracy`` and ``risk`` (1 − accuracy).
    """
    ordered = np.sort(confidence)[::-1]
    rows: list[dict[str, Any]] = []
    for asked in coverages:
        threshold = ordered[max(1, int(np.ceil(asked * len(ordered) - 1e-9))) - 1]
        decided = confidence >= threshold
        if rows and rows[-1]["documents"] == int(decided.sum()):
            continue
        accuracy = float(right[decided].mean())
        rows.append(
            {
                "coverage": float(decided.mean()),
                "documents": int(decided.sum()),
                "confidence": float(threshold),
                "accuracy": accuracy,
                "risk": 1.0 - accuracy,
            }
        )
    return rows


def worst_mistakes(
    documents: Documents,
    labels: IntArray,
    predictions: IntArray,
    confidence: Float64Array,
    *,
    label_names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the surest mistakes, the surest first: ``index, id, true, predicted, confidence``.

    Args:
        documents: where the ids come from.
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        predictions: of the shape of ``labels``.
        confidence: (N,).
        label_names: L names.
    """
    wrong = np.flatnonzero(~right_documents(labels, predictions))
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST_MISTAKES]
    return [
        {
            "index": int(index),
            "id": document_id(documents, int(index)),
            "true": _names(labels[index], label_names),
            "predicted": _names(predictions[index], label_names),
            "confidence": float(confidence[index]),
        }
        for index in surest
    ]


def _names(label: Any, label_names: Sequence[str]) -> str:
    if np.ndim(label) == 0:
        return label_names[int(label)]
    return SEPARATOR.join(label_names[int(place)] for place in np.flatnonzero(label))
