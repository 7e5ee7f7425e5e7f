"""A linear layer whose float32 products on a CPU come from oneDNN.

torch hands float32 products to MKL, which leaves AVX-512 alone on AMD's processors: there oneDNN is 2.2 times
as fast (LOG.md). torch offers it for float32 only as the operation that its own compiler uses, without a
gradient, hence the three products below. bf16 goes to oneDNN anyway; everything else is ``F.linear``.

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


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return (N, D) · (E, D)ᵀ + (E,), without a gradient."""
    assert callable(_PRODUCT)
    result: Tensor = _PRODUCT(inputs, weight, bias, "none", [], "")
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
        return (
            _product(gradient, weight.t().contiguous()) if for_inputs else None,
            _product(gradient.t().contiguous(), inputs.t().contiguous()) if for_weight else None,
            gradient.sum(dim=0) if for_bias else None,
        )


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` for rows (N, D), with the faster product where there is one; equal to rounding."""
    plain = inputs.device.type == "cpu" and inputs.dtype == weight.dtype == torch.float32
    plain = plain and not torch.compiler.is_compiling()  # the compiler chooses the product itself
    if plain and _PRODUCT is not None and len(inputs) and not torch.is_autocast_enabled("cpu"):
        result: Tensor = _OneDnnLinear.apply(inputs, weight, bias)
        return result
    return F.linear(inputs, weight, bias)


class Linear(nn.Linear):
    """``nn.Linear`` for rows (N, D), see ``linear``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, D) to (N, E)."""
        return linear(inputs, self.weight, self.bias)
