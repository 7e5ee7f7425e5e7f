"""A linear layer whose products on a CPU come from the faster library.

torch hands float32 products to MKL, which leaves AVX-512 alone on AMD's processors: there oneDNN is 2.2
times as fast, and on Intel's up to three times as slow (LOG.md). bf16 goes to oneDNN anyway, but with the
bias copied beforehand in a pass of its own, and with the weight brought into the processor's layout anew
for each block of rows. The operations that torch's own compiler uses do that once and add bias and GELU
while a result is in the registers; they have no gradient, hence the products of the backward pass below.

N rows, D inputs, E outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from textclf_transformer.utils import cpu_is_intels


def _find(name: str) -> object:
    """Return the operation, None in a build of torch without it."""
    return getattr(torch.ops.mkldnn, name, None) if torch.backends.mkldnn.is_available() else None


_PRODUCT, _PACK = _find("_linear_pointwise"), _find("_reorder_linear_weight")


def _mkl_is_at_home() -> bool:
    """Whether torch has MKL and this is one of the processors that it is made for."""
    return torch.backends.mkl.is_available() and cpu_is_intels()


_FLOAT32_BY_MKL = _mkl_is_at_home()

# Rows from which on packing a weight takes less time than it saves. A transposed one takes two to three times
# as long to pack, and saves less.
_ROWS_WORTH_PACKING, _ROWS_WORTH_PACKING_TRANSPOSED = 1024, 6144


def _dtype_of_product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype | None:
    """Return the dtype in which the operation multiplies these, None where ``F.linear`` has to."""
    if _PRODUCT is None or inputs.device.type != "cpu" or not len(inputs):
        return None
    if torch.compiler.is_compiling():  # a compiler chooses the product itself
        return None
    dtypes = {inputs.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes:
        dtypes = {torch.get_autocast_dtype("cpu")}
    if bias is not None and bias.dtype not in dtypes | {torch.float32}:
        return None
    if dtypes == {torch.float32}:
        return None if _FLOAT32_BY_MKL else torch.float32
    has_bf16 = dtypes == {torch.bfloat16} and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_bf16 else None


def _packed(weight: Tensor, *, rows: int) -> Tensor:
    """Return (E, D) in oneDNN's own layout for so many rows, which only ``_product`` can read."""
    packed: Tensor = _PACK(weight, rows) if callable(_PACK) else weight
    return packed


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return (N, D) · (E, D)ᵀ + (E,), if asked for its GELU, without a gradient."""
    assert callable(_PRODUCT)
    result: Tensor = _PRODUCT(inputs, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    return result


def _forward(inputs: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    rows = len(inputs)
    return _product(
        inputs, _packed(weight, rows=rows) if rows >= _ROWS_WORTH_PACKING else weight, bias, gelu=gelu
    )


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        inputs = inputs.contiguous()  # oneDNN reads them as they lie when it multiplies by them
        ctx.save_for_backward(inputs, weight)
        return _forward(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        for_inputs, for_weight, for_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        gradient = gradient.contiguous()
        return (
            _gradient_of_inputs(gradient, weight) if for_inputs else None,
            _multiply(gradient.t(), inputs) if for_weight else None,
            gradient.sum(dim=0) if for_bias else None,
        )


def _gradient_of_inputs(gradient: Tensor, weight: Tensor) -> Tensor:
    rows = len(gradient)
    if rows >= _ROWS_WORTH_PACKING_TRANSPOSED and callable(_PACK):
        return _product(gradient, _packed(weight.t(), rows=rows))
    return _multiply(gradient, weight)


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of two matrices; in bf16 torch's, which is oneDNN's, too, is the faster one here."""
    return left @ right if left.dtype == torch.bfloat16 else _product(left, right.t())


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """``F.linear`` for rows (N, D) by the faster product where there is one; equal to rounding.

    Args:
        inputs: (N, D).
        weight: (E, D).
        bias: (E,), or None. Where oneDNN multiplies, float32 is not rounded; under autocast ``F.linear``
            rounds it.
        gelu: whether a GELU follows; without gradients it costs next to nothing here.

    Returns:
        (N, E), under autocast in its dtype.
    """
    dtype = _dtype_of_product(inputs, weight, bias)
    if dtype is None:
        result = F.linear(inputs, weight, bias)
        return F.gelu(result) if gelu else result
    inputs, weight = inputs.to(dtype), weight.to(dtype)
    if not torch.is_grad_enabled():
        return _forward(inputs, weight, bias, gelu=gelu)
    result = _OneDnnLinear.apply(inputs, weight, bias)
    return F.gelu(result) if gelu else result


class Linear(nn.Linear):
    """``nn.Linear`` for rows (N, D), see ``linear``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, D) to (N, E)."""
        return linear(inputs, self.weight, self.bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        """Map (N, D) to the GELU of (N, E)."""
        return linear(inputs, self.weight, self.bias, gelu=True)
