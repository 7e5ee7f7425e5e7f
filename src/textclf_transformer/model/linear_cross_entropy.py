"""Projection onto the vocabulary and cross-entropy in one step.

Written apart from ``F.linear`` and ``F.cross_entropy`` because together they pass the (T, V) logits through
memory about ten times, in float32. Here the logits stay in the dtype of the product, a few rows at a time
become their own gradient while they are in the cache, and the two products of the backward pass read that.

T targets, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from textclf_transformer.model.linear import linear

# Cells of the logits handled at a time. On a CPU 1.5 M of float32 are 6 MB: the last-level cache holds
# them, and they are work enough not to notice how long an operation takes to start on all cores. On a GPU
# 64 M are 256 MB, and a block is a handful of large kernels.
_CELLS_PER_BLOCK = 1_500_000
_CELLS_PER_BLOCK_GPU = 2**26

# Classes whose weights' gradients are multiplied at a time on a CPU: with all 50,265 of RoBERTa at once
# oneDNN is up to a quarter slower.
_CLASSES_PER_PRODUCT = 8192

# On a GPU the classes are filled up to a multiple of this: rows of 50,265 numbers of two bytes begin at odd
# places, which keeps matrix products off the tensor cores' fast paths. On a CPU it gains nothing.
_CLASS_MULTIPLE = {"cuda": 64}


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of ``hidden @ weight.T + bias`` against ``targets``."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """Return the float32 loss sum and keep the gradient of the logits in their place."""
        num_targets, vocab_size = len(hidden), len(weight)
        weight = _fill_classes(weight)
        # (T, V), and zeros for classes that fill up. Detached, since autocast keeps what it rounds of a leaf
        # for later uses, and in here that has no gradient.
        logits = linear(hidden, weight, _fill_classes(bias.detach()))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_probs = torch.empty(num_targets, 1, dtype=dtype, device=logits.device)
        grad_bias = torch.zeros_like(bias, dtype=dtype)
        on_cpu = logits.device.type == "cpu"
        rows_per_block = max(1, (_CELLS_PER_BLOCK if on_cpu else _CELLS_PER_BLOCK_GPU) // vocab_size)
        to_gradient = _to_gradient_in_two_bytes if on_cpu and logits.itemsize == 2 else _to_gradient
        for start in range(0, num_targets, rows_per_block):
            rows = slice(start, start + rows_per_block)
            # from (T, V) in the backward pass the bias's gradient costs 5 % more
            log_probs[rows], for_bias = to_gradient(logits[rows, :vocab_size], targets[rows].unsqueeze(1))
            grad_bias += for_bias
        if on_cpu and len(lost := log_probs.isneginf().nonzero()):
            lost = lost[:, 0]
            log_probs[lost] = _log_probs(linear(hidden[lost], weight, bias.detach()), targets[lost], dtype)
        ctx.save_for_backward(hidden, weight, logits, grad_bias)
        return -log_probs.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Scale the kept gradient and take it back through the product."""
        hidden, weight, logits_gradient, grad_bias = ctx.saved_tensors  # type: ignore[attr-defined]
        # The scale, 1 / targets of the step, stays float32: rounded to bf16 it is off by up to 0.4 % in all
        # gradients.
        grad_hidden = (logits_gradient @ weight).mul_(grad_loss)
        grad_weight = torch.empty_like(weight)
        for classes in _class_blocks(weight):
            torch.mm(logits_gradient[:, classes].t(), hidden, out=grad_weight[classes])
        grad_weight.mul_(grad_loss)
        return grad_hidden, grad_weight[: len(grad_bias)], grad_bias * grad_loss, None


def _to_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Put the gradient of the cross-entropy in the place of ``logits``.

    Args:
        logits: (t, V), a block of rows.
        target: (t, 1) int64.

    Returns:
        The targets' log-probabilities, (t, 1), and the gradient's sum over rows, (V,); float32 or float64.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scores = logits.to(dtype, copy=not logits.is_contiguous())  # softmax wants it dense
    target_score, largest = scores.gather(1, target), scores.amax(dim=1, keepdim=True)
    probs = torch.softmax(scores, dim=1, out=scores)
    # The largest probability gives the log-sum-exp without a second pass of exponentials, and does not
    # underflow as that of a target may.
    target_log_prob = target_score - (largest - probs.amax(dim=1, keepdim=True).log_())
    logits.copy_(probs.scatter_(1, target, target_log_prob.expm1()))
    return target_log_prob, probs.sum(dim=0)


def _to_gradient_in_two_bytes(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """``_to_gradient`` of bf16 on a CPU, without a copy in float32: half the time (LOG.md).

    torch's softmax computes in float32 and rounds at the end, and so do the sums. A log-probability is off by
    up to 0.002 nats then, less than by the rounding of the logits; one that underflows is minus infinity.
    """
    torch.softmax(logits, dim=1, out=logits)
    target_prob = logits.gather(1, target).float()
    # scatter_ takes as long as the softmax in bf16
    rows = torch.arange(0, logits.numel(), logits.shape[1], device=logits.device)
    cells, places = logits.view(-1), target[:, 0] + rows
    # What the other classes have, and not 1 - p: rounded, p is 1 for a target that is sure.
    cells.index_fill_(0, places, 0.0)
    others = logits.sum(dim=1, keepdim=True)
    cells.index_copy_(0, places, -others[:, 0])
    others = others.float()
    target_log_prob = torch.where(others < 0.5, torch.log1p(-others), target_prob.log_())
    return target_log_prob, (logits.new_ones(1, len(logits)) @ logits).squeeze(0)


def _log_probs(logits: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the targets' log-probabilities, (t, 1), which do not underflow."""
    return F.log_softmax(logits.to(dtype), dim=1).gather(1, targets.unsqueeze(1))


def _fill_classes(weight: Tensor) -> Tensor:
    """Return (V, …) with zeros up to the multiple: their logits, and so their gradients, are zero."""
    missing = -len(weight) % _CLASS_MULTIPLE.get(weight.device.type, 1)
    return torch.cat((weight, weight.new_zeros(missing, *weight.shape[1:]))) if missing else weight


def _class_blocks(weight: Tensor) -> list[slice]:
    num_classes = weight.shape[0]
    block = _CLASSES_PER_PRODUCT if weight.device.type == "cpu" else num_classes
    return [slice(start, start + block) for start in range(0, num_classes, block)]


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of a linear classifier, summed over rows.

    Under autocast the product runs in the autocast dtype; log-sum-exp and the sum are always float32 or
    wider.

    Args:
        hidden: (T, D).
        weight: (V, D).
        bias: (V,).
        targets: (T,) int64, classes in 0..V-1.

    Returns:
        Scalar, float32 (float64 for float64 inputs), natural logarithm; 0 for T = 0.
    """
    device_type = hidden.device.type
    if torch.is_autocast_enabled(device_type) and hidden.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device_type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return loss
