from __future__ import annotations

import numpy as np
import pytest
from data.in_memory import documents_of_lengths
from sklearn.metrics import accuracy_score, f1_score

from textclf_transformer.evaluation.breakdowns import (
    COVERAGES,
    CURVE,
    coverage_risk,
    most_frequent,
    scores_by_length,
    worst_mistakes,
)

RNG = np.random.default_rng(2)
LENGTHS = RNG.integers(1, 500, size=101)
LABELS = RNG.integers(3, size=101)
PREDICTED = np.where(RNG.random(101) < 0.6, LABELS, RNG.integers(3, size=101))


def test_of_too_many_labels_the_most_frequent_are_shown():
    result = {"classes": [{"documents": count} for count in (2, 9, 4, 9)]}
    assert most_frequent(result, 4) == [0, 1, 2, 3]
    assert most_frequent(result, 3) == [1, 3, 2]


def test_groups_by_length_are_quarters_and_score_as_scikit_learn():
    rows = scores_by_length(LABELS, PREDICTED, LENGTHS, np.minimum(LENGTHS, 200), num_labels=3)
    assert [row["documents"] for row in rows] == pytest.approx([25, 25, 25, 25], abs=2)
    assert sum(row["documents"] for row in rows) == 101
    for row in rows:
        inside = (row["tokens_from"] <= LENGTHS) & (row["tokens_to"] >= LENGTHS)
        assert inside.sum() == row["documents"]
        assert row["accuracy"] == accuracy_score(LABELS[inside], PREDICTED[inside])
        assert row["f1_macro"] == f1_score(LABELS[inside], PREDICTED[inside], average="macro")
        assert row["truncated"] == (LENGTHS[inside] > 200).sum()


def test_documents_of_one_length_are_one_group():
    lengths = np.full(101, 7)
    rows = scores_by_length(LABELS, PREDICTED, lengths, lengths, num_labels=3)
    assert [(row["tokens_from"], row["tokens_to"], row["documents"]) for row in rows] == [(7, 7, 101)]


def test_coverage_and_risk_by_hand():
    right = np.array([True, False, True, False, True, True, True, True, True, True])
    confidence = np.array([0.9, 0.4, 0.8, 0.3, 0.95, 0.7, 0.75, 0.6, 0.65, 0.85])
    rows = {row["documents"]: row for row in coverage_risk(right, confidence, COVERAGES)}
    assert rows[10]["accuracy"] == 0.8 and rows[10]["coverage"] == 1.0
    assert rows[9]["risk"] == pytest.approx(1 / 9)
    assert rows[8]["risk"] == 0.0 and rows[8]["confidence"] == 0.6
    assert rows[5]["coverage"] == 0.5
    curve = coverage_risk(right, confidence, CURVE)
    assert [row["documents"] for row in curve] == list(range(10, 0, -1))
    for row in curve:
        assert row["accuracy"] == right[np.argsort(-confidence)[: row["documents"]]].mean()


def test_documents_of_one_confidence_stay_together():
    right = np.array([True, False] * 10)
    assert [row["coverage"] for row in coverage_risk(right, np.full(20, 0.5), CURVE)] == [1.0]


def test_the_surest_mistakes_come_first():
    documents = documents_of_lengths([3] * 5)
    rows = worst_mistakes(
        documents,
        np.array([0, 1, 1, 0, 1]),
        np.array([0, 0, 1, 1, 0]),
        np.array([0.99, 0.6, 0.9, 0.8, 0.7]),
        label_names=("no", "yes"),
    )
    assert [(row["id"], row["true"], row["predicted"], row["confidence"]) for row in rows] == [
        ("3", "no", "yes", 0.8),
        ("4", "yes", "no", 0.7),
        ("1", "yes", "no", 0.6),
    ]


def test_several_labels_are_all_named():
    documents = documents_of_lengths([3])
    several = np.array([[1, 1, 0]])
    row = worst_mistakes(documents, several, 1 - several, np.array([0.6]), label_names=("a", "b", "c"))[0]
    assert (row["true"], row["predicted"]) == ("a|b", "c")
