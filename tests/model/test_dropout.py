"""The cheap dropout: its statistics, each byte of a word, its scale in every dtype."""

from __future__ import annotations

import pytest
import torch

from textclf_transformer.model.dropout import Dropout, dropout

SIZE = 2_000_000


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_drop_rate_and_expectation(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(SIZE, dtype=dtype), p=p, training=True)
    assert abs((dropped == 0).double().mean().item() - p) < 0.003  # 1/512 of rounding and 3 sigma
    # Ones times the scale may be rounded in bf16, by 2**-8 at most; the rest is five standard errors.
    rounding = 2**-8 if dtype == torch.bfloat16 else 0.0
    assert abs(dropped.double().mean().item() - 1) < rounding + 5 * (p / (1 - p) / SIZE) ** 0.5


def test_bf16_scale_is_not_rounded_before_it_is_used() -> None:
    values = torch.linspace(1, 2, 129, dtype=torch.float32)[:-1].to(torch.bfloat16).repeat(4000)
    torch.manual_seed(0)
    dropped = dropout(values, p=0.1, training=True)
    kept = dropped != 0
    ratio = dropped[kept].double() / values[kept].double()
    assert abs(ratio.mean().item() - 256 / 230) < 3e-4  # a scale rounded to bf16 gives 3.7e-3


def test_every_byte_of_the_random_words_covers_its_whole_range() -> None:
    torch.manual_seed(0)
    for p in (0.1, 0.5, 0.75):
        rates = (dropout(torch.ones(SIZE), p=p, training=True) == 0).view(-1, 8).double().mean(dim=0)
        assert float((rates - round(p * 256) / 256).abs().max()) < 0.004


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    zero = (dropout(torch.ones(SIZE), p=0.25, training=True) == 0).double()
    for distance in (1, 2, 7, 8, 64):
        both = (zero[:-distance] * zero[distance:]).mean().item()
        assert abs(both - 0.25**2) < 0.001


def test_gradient_goes_through_the_kept_elements_alone() -> None:
    values = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    dropped = dropout(values, p=0.5, training=True)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped == 0, 0.0, 2.0).double())


def test_same_seed_same_mask() -> None:
    masks = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        masks.append(dropout(torch.ones(999), p=0.3, training=True))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_off_in_evaluation_and_for_zero() -> None:
    values = torch.randn(7, 3)
    assert dropout(values, p=0.5, training=False) is values
    assert dropout(values, p=0.0, training=True) is values
    module = Dropout(0.5)
    assert not torch.equal(module(values), values)
    assert module.eval()(values) is values


def test_a_tiny_probability_is_not_rounded_to_none() -> None:
    torch.manual_seed(0)
    assert (dropout(torch.ones(SIZE), p=0.0005, training=True) == 0).any()


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="a drop probability must be"):
        Dropout(p)
