"""The cumulative link against the formula, written out in plain Python."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from model_cases import make_batch, make_encoder, relative_error

from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.ordinal import CumulativeLink


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("num_labels", [2, 3, 5])
def test_probabilities_are_differences_of_the_logistic_function(num_labels: int) -> None:
    torch.manual_seed(0)
    link = CumulativeLink(input_size=4, num_labels=num_labels).double()
    torch.nn.init.normal_(link.bias)
    documents = torch.randn(6, 4).double()
    found = link(documents)
    thresholds = link.thresholds.tolist()
    assert len(thresholds) == num_labels - 1
    assert thresholds == sorted(thresholds)
    for row, document in zip(found.tolist(), documents, strict=True):
        score = (document @ link.score.weight[0]).item()
        below = [0.0, *(sigmoid(threshold - score) for threshold in thresholds), 1.0]
        expected = [math.log(high - low) for low, high in pairwise(below)]
        assert row == pytest.approx(expected, rel=1e-9)
    assert relative_error(found.exp().sum(dim=1), torch.ones(6).double()) < 1e-12


def test_all_labels_begin_equally_likely() -> None:
    link = CumulativeLink(input_size=3, num_labels=4)
    assert link(torch.zeros(1, 3)).exp().tolist()[0] == pytest.approx([0.25] * 4, abs=1e-5)


def test_one_label_has_no_order() -> None:
    with pytest.raises(ValueError, match="at least 2, found 1"):
        CumulativeLink(input_size=3, num_labels=1)


@pytest.mark.parametrize("score", [-1e4, -50.0, 50.0, 1e4])
def test_far_scores_give_finite_losses_and_gradients(score: float) -> None:
    link = CumulativeLink(input_size=1, num_labels=3)
    with torch.no_grad():
        link.score.weight.fill_(score)
        link.bias[1] = -200.0  # two thresholds all but meet
    logits = link(torch.ones(1, 1))
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in link.parameters())
    assert int(logits.argmax()) == (0 if score < 0 else 2)


def test_a_higher_score_never_means_a_lower_label() -> None:
    link = CumulativeLink(input_size=1, num_labels=4)
    with torch.no_grad():
        link.score.weight.fill_(1.0)
        link.bias.copy_(torch.tensor([-3.0, 3.0, 3.0]))  # labels wide enough to win somewhere
    labels = link(torch.linspace(-6, 6, 50).unsqueeze(1)).argmax(dim=1).tolist()
    assert labels == sorted(labels)
    assert set(labels) == {0, 1, 2, 3}


def test_the_classifier_returns_log_probabilities_and_goes_through_a_folder(tmp_path: Path) -> None:
    model = HierarchicalRobertaForClassification(make_encoder(), num_labels=4, ordinal=True).eval()
    ids, mask = make_batch("right", batch=4, length=8)
    ids, mask = ids.view(2, 2, 8), mask.view(2, 2, 8)
    logits = model(ids, mask)["logits"]
    assert logits.shape == (2, 4)
    assert relative_error(logits.log_softmax(dim=1), logits) < 1e-5
    model.to_hf(tmp_path)
    back = HierarchicalRobertaForClassification.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], logits)
