from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from textclf_transformer.evaluation import bootstrap
from textclf_transformer.evaluation.bootstrap import (
    bootstrap_intervals,
    resample_weights,
    weighted_kappa,
    weighted_scores,
    without_width,
)
from textclf_transformer.evaluation.full_evaluation import _score_row
from textclf_transformer.evaluation.scores import SCORE_NAMES, label_scores, one_hot

RNG = np.random.default_rng(5)
LABELS = RNG.integers(6, size=40)
PREDICTED = np.where(RNG.random(40) < 0.6, LABELS, RNG.integers(6, size=40))
SEVERAL = (RNG.random((40, 6)) < 0.3).astype(np.int64)
SEVERAL_PREDICTED = np.where(RNG.random((40, 6)) < 0.7, SEVERAL, 1 - SEVERAL)


@pytest.mark.parametrize(("labels", "predicted"), [(LABELS, PREDICTED), (SEVERAL, SEVERAL_PREDICTED)])
def test_each_resample_has_the_scores_of_scikit_learn(labels, predicted):
    weights = resample_weights(40, 30, np.random.default_rng(0))
    assert weights.shape == (30, 40) and (weights.sum(axis=1) == 40).all()
    true, guessed = one_hot(labels, num_labels=6), one_hot(predicted, num_labels=6)
    scores = weighted_scores(weights, true, guessed, several=labels.ndim == 2)
    for number, row in enumerate(weights.astype(int)):
        expected = label_scores(
            labels.repeat(row, axis=0), predicted.repeat(row, axis=0), num_labels=6, ordered=False
        )
        for name in SCORE_NAMES:
            assert scores[name][number] == pytest.approx(expected[name], rel=1e-12), name


@pytest.mark.parametrize("guessed", [[], [0], [0, 2]])
def test_without_any_true_label_the_scores_are_scikit_learns(guessed):
    labels = np.zeros((4, 3), dtype=np.int64)
    predicted = labels.copy()
    predicted[1:3, guessed] = 1
    scores = weighted_scores(np.ones((1, 4)), labels.astype(bool), predicted.astype(bool), several=True)
    expected = label_scores(labels, predicted, num_labels=3, ordered=False)
    assert {name: values[0] for name, values in scores.items()} == pytest.approx(expected, nan_ok=True)
    intervals = bootstrap_intervals(labels, predicted, num_labels=3, ordered=False, seed=0)
    assert set(intervals) == {name for name in SCORE_NAMES if not np.isnan(expected[name])}


def test_mcc_of_a_constant_prediction_is_zero_as_in_scikit_learn():
    labels, constant = np.array([0, 1, 2, 0]), np.zeros(4, dtype=np.int64)
    scores = weighted_scores(
        np.ones((1, 4)), one_hot(labels, num_labels=3), one_hot(constant, num_labels=3), several=False
    )
    assert scores["mcc"][0] == label_scores(labels, constant, num_labels=3, ordered=False)["mcc"] == 0


@pytest.mark.parametrize("used", [6, 3])
def test_kappa_of_each_resample_is_scikit_learns(used):
    labels, predicted = LABELS % used, PREDICTED % used
    weights = resample_weights(40, 30, np.random.default_rng(0))
    kappas = weighted_kappa(weights, one_hot(labels, num_labels=6), one_hot(predicted, num_labels=6))
    for row, kappa in zip(weights.astype(int), kappas, strict=True):
        options = {"labels": range(6), "weights": "quadratic"}
        expected = cohen_kappa_score(labels.repeat(row), predicted.repeat(row), **options)
        assert kappa == pytest.approx(expected, rel=1e-12)
    intervals = bootstrap_intervals(labels, predicted, num_labels=6, ordered=True, seed=0)
    low, high = intervals["quadratic_kappa"]
    assert low < label_scores(labels, predicted, num_labels=6, ordered=True)["quadratic_kappa"] < high


def test_interval_of_accuracy_is_the_binomial_one():
    right = np.arange(400) < 300
    labels = np.zeros(400, dtype=np.int64)
    low, high = bootstrap_intervals(labels, np.where(right, 0, 1), num_labels=2, ordered=False, seed=1)[
        "accuracy"
    ]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half, abs=0.0045)
    assert high == pytest.approx(0.75 + half, abs=0.0045)


def test_the_seed_decides():
    first = bootstrap_intervals(LABELS, PREDICTED, num_labels=6, ordered=False, seed=1)
    assert first == bootstrap_intervals(LABELS, PREDICTED, num_labels=6, ordered=False, seed=1)
    assert first != bootstrap_intervals(LABELS, PREDICTED, num_labels=6, ordered=False, seed=2)
    assert set(first) == set(SCORE_NAMES)


def test_many_documents_are_resampled_a_few_times_at_once(monkeypatch):
    expected = bootstrap_intervals(LABELS, PREDICTED, num_labels=6, ordered=True, seed=1)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 7 * 40 + 1)
    sizes = [len(weights) for weights in bootstrap.resamples(40, np.random.default_rng(0))]
    assert max(sizes) == 7 and sum(sizes) == bootstrap.RESAMPLES
    assert bootstrap_intervals(LABELS, PREDICTED, num_labels=6, ordered=True, seed=1) == expected
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 39)
    assert len(next(bootstrap.resamples(40, np.random.default_rng(0)))) == 1


def test_a_score_without_a_value_has_no_interval():
    nothing = np.zeros((5, 3), dtype=np.int64)
    assert "f1_micro" not in bootstrap_intervals(nothing, nothing, num_labels=3, ordered=False, seed=0)


def test_a_row_of_the_evaluation_names_each_score_that_the_report_shows():
    nothing = np.zeros((5, 3), dtype=np.int64)
    row = _score_row("model", nothing, nothing, num_labels=3, ordered=False, seed=0)
    assert set(row["intervals_95"]) == set(SCORE_NAMES)
    assert row["intervals_95"]["f1_macro"] == row["intervals_95"]["f1_weighted"] == [None, None]
    assert row["intervals_95"]["accuracy"] == [1.0, 1.0]


@pytest.mark.parametrize("documents", [1, 20, 3_000])
def test_an_interval_without_width_comes_with_the_exact_bound(documents):
    rows = [{"accuracy": accuracy} for accuracy in (1.0, 0.5, 1.0, 0.0)]
    all_right, none_right = without_width({"scores": rows, "documents": documents})
    bound = binomtest(0, documents, alternative="less").proportion_ci(0.95, method="exact").high
    assert f"accuracy of 100 % on {documents:,} document" in all_right and " % wrong would" in all_right
    assert f"accuracy of 0 % on {documents:,} document" in none_right and " % right would" in none_right
    for line in (all_right, none_right):
        assert f"; up to {100 * bound:.3g} % " in line
    assert without_width({"scores": rows[1:2], "documents": documents}) == []
