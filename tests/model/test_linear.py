"""Our linear layer equals torch's, gradients included, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from textclf_transformer.model import linear
from textclf_transformer.model.linear import Linear


@pytest.fixture
def float32_by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on any processor but Intel's."""
    monkeypatch.setattr(linear, "_FLOAT32_BY_MKL", False)


@pytest.mark.parametrize("by_mkl", [True, False], ids=["MKL", "oneDNN"])
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(50, 33, 17), (1, 8, 8), (7, 1, 5), (0, 4, 3), (1500, 33, 17)]
)
def test_equals_float64(
    rows: int, inputs: int, outputs: int, has_bias: bool, by_mkl: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_FLOAT32_BY_MKL", by_mkl)
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
        torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=2e-5 * max(1, rows / 50) ** 0.5)


def test_frozen_parts_get_no_gradient() -> None:
    layer = Linear(4, 3).requires_grad_(False)
    x = torch.randn(5, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    layer.requires_grad_(True)
    layer(x.detach()).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.detach().sum(dim=0).expand(3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_gelu_is_that_of_the_product(dtype: torch.dtype) -> None:
    """Without gradients it is computed within the product: before the rounding to bf16, not after it."""
    torch.manual_seed(0)
    layer, x = Linear(33, 17), torch.randn(50, 33)
    expected = F.gelu(layer.double()(x.double()))
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        with torch.no_grad():
            without = layer.gelu(x)
        found = layer.gelu(x)
        torch.testing.assert_close(found, F.gelu(layer(x)), rtol=0, atol=0)
    assert found.dtype == without.dtype == dtype
    assert found.requires_grad and not without.requires_grad
    precision = 0.02 if dtype == torch.bfloat16 else 1e-5
    for result in (found, without):
        torch.testing.assert_close(result.double(), expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("rows", [50, 1500])
def test_bf16_gradients_are_those_of_torch(rows: int) -> None:
    torch.manual_seed(0)
    layer, x, weights = Linear(33, 17), torch.randn(rows, 33), torch.randn(rows, 17)
    gradients = []
    for run in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = run(inputs)
        assert result.dtype == torch.bfloat16
        (result.float() * weights).sum().backward()
        gradients.append((inputs.grad, layer.weight.grad, layer.bias.grad))
        layer.zero_grad()
    for found, expected in zip(*gradients, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01 * float(expected.abs().max()))


@pytest.mark.usefixtures("float32_by_onednn")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_packing_the_weight_changes_no_result(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = Linear(96, 160), torch.randn(2048, 96)
    packed = []
    if linear._PACK is not None:
        pack = linear._PACK
        monkeypatch.setattr(
            linear, "_PACK", lambda weight, rows: packed.append(weight.shape) or pack(weight, rows)
        )
    results = []
    for rows_worth_packing in (2048, 2049):
        monkeypatch.setattr(linear, "_ROWS_WORTH_PACKING", rows_worth_packing)
        monkeypatch.setattr(linear, "_ROWS_WORTH_PACKING_TRANSPOSED", rows_worth_packing)
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = layer(inputs)
        result.float().square().sum().backward()
        results.append((result.detach(), inputs.grad))
    # forward with the weight, backward with its transpose, once each
    multiplied = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert packed == [(160, 96), (96, 160)] * (multiplied and linear._PACK is not None)
    precision = 0.01 if dtype == torch.bfloat16 else 1e-5
    for found, expected in zip(*results, strict=True):
        atol = precision * float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=precision, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_rows_may_lie_apart_or_be_one_and_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, wide = Linear(33, 17), torch.randn(50, 66)
    for x in (wide[:, ::2], wide[:1, :33].expand(50, -1)):
        gradients = []
        for inputs in (x, x.contiguous()):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                layer(inputs).float().square().sum().backward()
            gradients.append(layer.weight.grad)
            layer.zero_grad()
        torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16")
def test_a_bias_in_float32_is_not_rounded() -> None:
    layer, x = Linear(8, 4), torch.zeros(3, 8)
    nn.init.ones_(layer.weight)
    nn.init.constant_(layer.bias, 100.3)
    x[:, 0] = -100
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    torch.testing.assert_close(result.float(), torch.full((3, 4), 0.3), rtol=0.01, atol=0)


@pytest.mark.usefixtures("float32_by_onednn")
def test_the_faster_product_runs_in_float32_and_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, activations = [], []

    def product(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: str, *_: object
    ) -> torch.Tensor:
        calls.append(x.dtype)
        activations.append(activation)
        return F.linear(x, weight, bias)

    monkeypatch.setattr(linear, "_PRODUCT", product)
    layer, x = Linear(4, 3), torch.randn(5, 4)
    layer(x)
    assert calls == [torch.float32]
    multiplied = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert layer.double()(x.double()).dtype == torch.float64
    assert layer(x.double()).dtype == torch.float64
    assert calls == [torch.float32] + [torch.bfloat16] * multiplied
    monkeypatch.setattr(linear, "_PRODUCT", None)
    assert layer.float()(x).dtype == torch.float32
    assert len(calls) == 1 + multiplied
    assert set(activations) == {"none"}
    monkeypatch.setattr(linear, "_PRODUCT", product)
    layer.gelu(x)
    with torch.no_grad():
        layer.gelu(x)
    assert activations[-2:] == ["none", "gelu"]


@pytest.mark.parametrize(
    ("is_intels", "has_mkl", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_float32_goes_to_mkl_on_intel(
    is_intels: bool, has_mkl: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "cpu_is_intels", lambda: is_intels)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    assert linear._mkl_is_at_home() == expected
    monkeypatch.setattr(linear, "_FLOAT32_BY_MKL", expected)
    calls = []
    monkeypatch.setattr(linear, "_PRODUCT", lambda x, *_: calls.append(x.dtype) or x)
    layer, x = Linear(4, 4), torch.randn(5, 4)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias)) == expected
    assert calls == [torch.float32] * (not expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_numbers_of_another_dtype_are_refused_as_torch_refuses_them(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match="dtype"):
        Linear(4, 3)(torch.randn(5, 4, dtype=dtype))
