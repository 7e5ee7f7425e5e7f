from __future__ import annotations

import numpy as np
import pytest
import torch

from textclf_transformer.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
)

RNG = np.random.default_rng(7)


def sampled(temperature: float, *, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from them at another temperature."""
    logits = RNG.normal(scale=2, size=(20_000, 3))
    if several:
        chance = 1 / (1 + np.exp(-logits / temperature))
        return logits, (RNG.random(logits.shape) < chance).astype(np.int64)
    noise = RNG.gumbel(size=logits.shape)
    return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature, several):
    logits, labels = sampled(temperature, several=several)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_is_the_best_of_all(several):
    logits, labels = sampled(2.0, several=several)
    target = torch.from_numpy(labels)

    def loss(temperature: float) -> float:
        scaled = torch.from_numpy(logits) / temperature
        if several:
            return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, target.double()))
        return float(torch.nn.functional.cross_entropy(scaled, target))

    best = fit_temperature(logits, labels)
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))


def test_calibration_error_by_hand():
    # two documents of confidence 0.75, one right; two of 0.9, both right
    logits = np.log([[0.75, 0.25], [0.75, 0.25], [0.9, 0.1], [0.1, 0.9]])
    bins = reliability(logits, np.array([0, 1, 0, 1]))
    assert [(entry.decisions, entry.accuracy) for entry in bins] == [(2, 0.5), (2, 1.0)]
    assert [entry.confidence for entry in bins] == pytest.approx([0.75, 0.9])
    assert all(entry.low < entry.confidence <= entry.high for entry in bins)
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.25 + 2 * 0.1) / 4)


def test_a_calibrated_model_has_next_to_no_error_and_a_wrong_temperature_much():
    logits, labels = sampled(1.0, several=False)
    assert expected_calibration_error(reliability(logits, labels)) < 0.02
    assert expected_calibration_error(reliability(3 * logits, labels)) > 0.1


def test_certainty_has_a_bin():
    bins = reliability(np.array([[100.0, -100.0]]), np.array([0]))
    assert len(bins) == 1 and bins[0].high == 1.0 and bins[0].confidence == 1.0


def test_several_labels_are_decisions_one_by_one():
    bins = reliability(np.array([[3.0, -3.0, 3.0]]), np.array([[1, 0, 0]]))
    assert len(bins) == 1 and bins[0].decisions == 3 and bins[0].accuracy == pytest.approx(2 / 3)
