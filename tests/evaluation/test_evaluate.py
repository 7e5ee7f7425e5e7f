from __future__ import annotations

import math
import warnings

import pytest
import torch

from textclf_transformer.errors import NonFiniteError
from textclf_transformer.evaluation.evaluate import evaluate_masked_lm


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


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_and_not_a_row(loss):
    with pytest.raises(NonFiniteError, match=r"the loss of the evaluation is not finite.*4 targets"):
        evaluate(loss=loss, targets=4)
