"""Our linear layer equals torch's, gradients included, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from textclf_transformer.model import linear
from textclf_transformer.model.linear import Linear


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(50, 33, 17), (1, 8, 8), (7, 1, 5), (0, 4, 3)])
def test_equals_float64(rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=has_bias)
    x = torch.randn(rows, inputs, requires_grad=True)
    weights = torch.randn(rows, outputs)
    (layer(x) * weights).sum().backward()
    exact = nn.Linear(inputs, outputs, bias=has_bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    x64 = x.detach().double().requires_grad_()
    expected = exact(x64)
    (expected * weights).sum().backward()
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), x64.grad, rtol=1e-5, atol=1e-5)
    for name, parameter in exact.named_parameters():
        found = layer.get_parameter(name).grad.double()
        torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=2e-5)


def test_frozen_parts_get_no_gradient() -> None:
    layer = Linear(4, 3).requires_grad_(False)
    x = torch.randn(5, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    layer.requires_grad_(True)
    layer(x.detach()).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.detach().sum(dim=0).expand(3, 4))


def test_the_faster_product_runs_in_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *_: object) -> torch.Tensor:
        calls.append(x.dtype)
        return F.linear(x, weight, bias)

    monkeypatch.setattr(linear, "_PRODUCT", product)
    layer, x = Linear(4, 3), torch.randn(5, 4)
    layer(x)
    assert calls == [torch.float32]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert calls == [torch.float32]
    monkeypatch.setattr(linear, "_PRODUCT", None)
    assert layer.float()(x).dtype == torch.float32
    assert calls == [torch.float32]
