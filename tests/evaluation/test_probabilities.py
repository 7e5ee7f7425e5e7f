from __future__ import annotations

import numpy as np
import torch

from textclf_transformer.evaluation.probabilities import (
    confidences,
    log_probabilities,
    predicted_labels,
    probabilities,
)

LOGITS = np.random.default_rng(0).normal(scale=20, size=(50, 4)).astype(np.float32)


def test_one_label_equals_torch():
    expected = torch.from_numpy(LOGITS).double().log_softmax(1).numpy()
    np.testing.assert_allclose(log_probabilities(LOGITS, multi_label=False), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(probabilities(LOGITS, multi_label=False).sum(1), 1, rtol=1e-12)
    assert predicted_labels(LOGITS, multi_label=False).tolist() == LOGITS.argmax(1).tolist()
    np.testing.assert_array_equal(
        confidences(LOGITS, multi_label=False), probabilities(LOGITS, multi_label=False).max(1)
    )


def test_a_label_is_given_above_its_threshold_and_not_at_it():
    logits = np.array([[0.0, 0.0, 50.0]])
    assert predicted_labels(logits, multi_label=True).tolist() == [[0, 0, 1]]
    thresholds = (0.5, 0.4, 1.0)
    assert predicted_labels(logits, multi_label=True, thresholds=thresholds).tolist() == [[0, 1, 0]]


def test_several_labels_equal_torch():
    wide = torch.from_numpy(LOGITS).double()
    np.testing.assert_allclose(
        log_probabilities(LOGITS, multi_label=True),
        torch.nn.functional.logsigmoid(wide).numpy(),
        rtol=1e-12,
        atol=1e-300,
    )
    decided = predicted_labels(LOGITS, multi_label=True)
    assert decided.tolist() == (wide.sigmoid() > 0.5).int().tolist()
    sure = torch.maximum(wide.sigmoid(), (-wide).sigmoid()).min(1).values.numpy()
    np.testing.assert_allclose(confidences(LOGITS, multi_label=True), sure, rtol=1e-12)
