from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from textclf_transformer.errors import NonFiniteError
from textclf_transformer.evaluation import evaluate as evaluation
from textclf_transformer.evaluation.evaluate import evaluate_documents, evaluate_masked_lm
from textclf_transformer.evaluation.inference import document_logits
from textclf_transformer.training.signals import EvaluationInterrupted


class Rows:
    """Stands for ``MlmBatches``: one batch with ``targets`` positions to predict."""

    def __init__(self, targets: int) -> None:
        self.input_ids = self.attention_mask = self.labels = torch.zeros(1, 1)
        self.num_targets = targets

    def evaluation(self):
        yield self

    def to(self, device):
        return self


class Model(torch.nn.Module):
    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss

    def masked_loss(self, input_ids, attention_mask, labels):
        assert not self.training and torch.is_inference_mode_enabled()
        return torch.tensor(self.loss)


def evaluate(*, loss: float, targets: int) -> dict[str, float]:
    cpu = torch.device("cpu")
    return evaluate_masked_lm(
        Model(loss), Rows(targets), device=cpu, amp_dtype=None, should_stop=lambda: False
    )


def test_the_loss_is_the_mean_over_the_targets():
    assert evaluate(loss=6.0, targets=3) == {"loss": 2.0, "perplexity": math.exp(2.0)}


def test_data_without_a_masked_token_has_no_loss_and_says_so():
    with pytest.warns(UserWarning, match=r"no token of the evaluation data is masked.*mlm_head.mask_p"):
        result = evaluate(loss=0.0, targets=0)
    assert math.isnan(result["loss"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(loss=6.0, targets=3)


def test_an_evaluation_is_left_off_when_it_is_told_to():
    asked = {"device": torch.device("cpu"), "amp_dtype": None, "should_stop": lambda: True}
    with pytest.raises(EvaluationInterrupted):
        evaluate_masked_lm(Model(6.0), Rows(3), **asked)
    rows = Rows(3)
    rows.num_samples, classifier = 1, Model(6.0)
    classifier.num_labels = 2
    with pytest.raises(EvaluationInterrupted):
        document_logits(classifier, rows, **asked)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_and_not_a_row(loss):
    with pytest.raises(NonFiniteError, match=r"the loss of the evaluation is not finite.*4 targets"):
        evaluate(loss=loss, targets=4)


class LabelledBatches:
    """Stands for ``DocumentBatches``: three documents of two labels."""

    labels = np.array([0, 1, 0])
    label_names = ("a", "b")


def document_metrics(logits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(evaluation, "document_logits", lambda *_, **__: logits)
    return evaluate_documents(
        torch.nn.Identity(),
        LabelledBatches(),
        device=torch.device("cpu"),
        amp_dtype=None,
        should_stop=lambda: False,
    )


def test_documents_have_the_metrics_of_the_largest_logit(monkeypatch):
    logits = np.array([[2, 0], [0, 1], [0, 3]], dtype=np.float32)
    result = document_metrics(logits, monkeypatch)
    assert result["accuracy"] == pytest.approx(2 / 3)
    # of the true label's logit, how far the other lies above it
    assert result["loss"] == pytest.approx(np.log1p(np.exp([-2, -1, 3])).mean(), rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_is_named(value, monkeypatch):
    logits = np.zeros((3, 2), dtype=np.float32)
    logits[1, 0] = value
    with pytest.raises(NonFiniteError, match="document 1"):
        document_metrics(logits, monkeypatch)
