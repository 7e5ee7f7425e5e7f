"""A linear layer whose products on a CPU come from oneDNN.

torch hands float32 products to MKL, which leaves AVX-512 alone on AMD's processors: there oneDNN is 2.2 times
as fast (LOG.md). bf16 goes to oneDNN anyway, but with the bias copied beforehand in a pass of its own. The
operation that torch's own compiler uses adds bias and GELU while a result is in the registers; it has no
gradient, hence the products of the backward pass below.

N rows, D inputs, E outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


def _find_product() -> object:
    """Return the operation, None in a build of torch without it."""
    return (
        getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    )


_PRODUCT = _find_product()


def _dtype_of_product(inputs: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the dtype in which the operation multiplies these, None where ``F.linear`` has to."""
    if _PRODUCT is None or inputs.device.type != "cpu" or not len(inputs):
        return None
    if torch.compiler.is_compiling():  # a compiler chooses the product itself
        return None
    dtypes = {inputs.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes:
        dtypes = {torch.get_autocast_dtype("cpu")}
    if dtypes == {torch.float32}:
        return torch.float32
    has_bf16 = dtypes == {torch.bfloat16} and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_bf16 else None


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return (N, D) · (E, D)ᵀ + (E,), if asked for its GELU, without a gradient."""
    assert callable(_PRODUCT)
    result: Tensor = _PRODUCT(inputs, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    return result


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        for_inputs, for_weight, for_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        multiply = torch.mm if inputs.dtype == torch.bfloat16 else _multiply
        return (
            multiply(gradient, weight) if for_inputs else None,
            multiply(gradient.t(), inputs) if for_weight else None,
            gradient.sum(dim=0) if for_bias else None,
        )


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of two matrices, which the operation wants in the layout of a linear layer."""
    return _product(left.contiguous(), right.t().contiguous())


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """``F.linear`` for rows (N, D) by the faster product where there is one; equal to rounding.

    Args:
        inputs: (N, D).
        weight: (E, D).
        bias: (E,), or None.
        gelu: whether a GELU follows; without gradients it costs next to nothing here.

    Returns:
        (N, E), under autocast in its dtype.
    """
    dtype = _dtype_of_product(inputs, weight)
    if dtype is None:
        result = F.linear(inputs, weight, bias)
        return F.gelu(result) if gelu else result
    operands = (inputs.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    if gelu and not torch.is_grad_enabled():
        return _product(*operands, gelu=True)
    result = _OneDnnLinear.apply(*operands)
    return F.gelu(result) if gelu else result


class Linear(nn.Linear):
    """``nn.Linear`` for rows (N, D), see ``linear``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, D) to (N, E)."""
        return linear(inputs, self.weight, self.bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        """Map (N, D) to the GELU of (N, E)."""
        return linear(inputs, self.weight, self.bias, gelu=True)
