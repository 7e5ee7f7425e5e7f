from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from textclf_transformer.evaluation import paired
from textclf_transformer.evaluation.bootstrap import RESAMPLES, resample_weights
from textclf_transformer.evaluation.paired import Judged, judge, paired_differences
from textclf_transformer.utils import derive_seed

RNG = np.random.default_rng(8)
LABELS = RNG.integers(4, size=60)


def guesses(share: float) -> np.ndarray:
    return np.where(RNG.random(60) < share, LABELS, RNG.integers(4, size=60))


def test_differences_are_those_of_scikit_learn_on_the_resampled_documents():
    first, second = [guesses(0.5), guesses(0.6)], [guesses(0.7), guesses(0.8), guesses(0.9)]
    found = paired_differences(first, second, LABELS, num_labels=4)

    def mean(predictions: list[np.ndarray], rows: np.ndarray, score) -> float:
        return float(np.mean([score(LABELS[rows], one[rows]) for one in predictions]))

    scores = {
        "accuracy": accuracy_score,
        "f1_macro": lambda true, predicted: f1_score(true, predicted, average="macro"),
    }
    generator = np.random.Generator(np.random.PCG64(derive_seed("paired bootstrap", 0)))
    weights = np.concatenate([resample_weights(60, 50, generator) for _ in range(RESAMPLES // 50)])
    for name, score in scores.items():
        everything = np.arange(60)
        expected = mean(second, everything, score) - mean(first, everything, score)
        assert found[name]["difference"] == pytest.approx(expected)
        if name == "accuracy":
            right = [np.mean([one == LABELS for one in several], axis=0) for several in (first, second)]
            each = weights @ (right[1] - right[0]) / 60
            assert [found[name][end] for end in ("low", "high")] == pytest.approx(
                np.percentile(each, [2.5, 97.5])
            )
            assert found[name]["better"] == pytest.approx(np.mean(each > 1e-9), abs=0.01)
        some = weights[:: RESAMPLES // 100].astype(int)
        values = [
            mean(second, everything.repeat(row), score) - mean(first, everything.repeat(row), score)
            for row in some
        ]
        assert found[name]["low"] == pytest.approx(np.percentile(values, 2.5), abs=0.03)
        assert found[name]["high"] == pytest.approx(np.percentile(values, 97.5), abs=0.03)
        assert found[name]["better"] == pytest.approx(np.mean(np.array(values) > 0), abs=0.1)


def test_documents_that_both_get_wrong_widen_nothing():
    """Two models that differ on three documents have a narrow interval, however hard the others are."""
    first = guesses(0.5)
    second = first.copy()
    second[:3] = np.where(first[:3] == LABELS[:3], (LABELS[:3] + 1) % 4, LABELS[:3])
    found = paired_differences([first], [second], LABELS, num_labels=4)["accuracy"]
    assert found["high"] - found["low"] < 0.2 < 4 * np.sqrt(0.25 / 60)
    same = paired_differences([first], [first], LABELS, num_labels=4)
    assert same["accuracy"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "better": 0.0}


def test_several_labels():
    labels = (RNG.random((60, 3)) < 0.5).astype(np.int64)
    wrong = labels.copy()
    wrong[:30, 0] = 1 - wrong[:30, 0]
    found = paired_differences([wrong], [labels], labels, num_labels=3)
    assert found["accuracy"]["difference"] == 0.5 and found["accuracy"]["low"] > 0


@pytest.mark.parametrize(
    ("multi_label", "labels", "predictions"),
    [
        (False, [1, 2, 0], [2, 2, 1]),
        (True, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, 0, 1], [0, 0, 1], [0, 1, 0]]),
    ],
)
def test_labels_are_judged_in_the_order_of_their_names(monkeypatch, multi_label, labels, predictions):
    """Two runs may number the same labels in another order; a label of several has its own threshold."""
    run = SimpleNamespace(
        label_names=["c", "a", "b"],
        multi_label=multi_label,
        thresholds=(0.5, 0.9, 0.5) if multi_label else None,
        data_paths={"train": "", "val": ""},
        batches=lambda documents: documents,
        logits=lambda batches: np.array([[3.0, 2.0, -1.0], [3.0, -2.0, -1.0], [-3.0, 2.0, 2.5]]),
    )
    true = np.array([2, 0, 1])
    monkeypatch.setattr(paired, "open_run_split", lambda run, split: range(3))
    monkeypatch.setattr(
        paired, "align_labels", lambda documents, names: np.eye(3)[true] if multi_label else true
    )
    monkeypatch.setattr(paired, "document_id", lambda documents, index: f"id {index}")
    found = judge(run)
    assert (found.split, found.ids, found.label_names) == ("val", ("id 0", "id 1", "id 2"), ("a", "b", "c"))
    assert found.labels.tolist() == labels and found.predictions.tolist() == predictions


def test_same_documents():
    one = Judged("test", ("a", "b"), ("no", "yes"), np.array([0, 1]), np.array([0, 0]))
    again = Judged("test", ("a", "b"), ("no", "yes"), np.array([0, 1]), np.array([1, 1]))
    assert one.same_documents(again)
    assert not one.same_documents(Judged("test", ("a", "c"), ("no", "yes"), one.labels, one.predictions))
    assert not one.same_documents(Judged("test", ("a", "b"), ("no", "so"), one.labels, one.predictions))
    assert not one.same_documents(Judged("test", ("a", "b"), ("no", "yes"), one.labels[::-1], one.labels))


def test_documents_without_any_label_do_not_tell_models_apart():
    nothing = np.zeros((6, 3), dtype=np.int64)
    found = paired_differences([nothing], [nothing], nothing, num_labels=3)
    assert found["f1_macro"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "better": 0.0}
