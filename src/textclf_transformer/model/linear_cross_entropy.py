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

# Cells of the logits handled at a time. On a CPU 512 K of float32 are 2 MB, which a core's second-level cache
# nearly holds; on a GPU 64 M are 256 MB, and a block is a handful of large kernels.
_CELLS_PER_BLOCK = 524_288
_CELLS_PER_BLOCK_GPU = 2**26


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of ``hidden @ weight.T + bias`` against ``targets``."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """Return the float32 loss sum and keep the gradient of the logits in their place."""
        logits = torch.addmm(bias, hidden, weight.t())  # (T, V)
        num_targets, vocab_size = logits.shape
        loss_sum = torch.zeros(
            (), dtype=torch.promote_types(logits.dtype, torch.float32), device=logits.device
        )
        cells = _CELLS_PER_BLOCK if logits.device.type == "cpu" else _CELLS_PER_BLOCK_GPU
        rows_per_block = max(1, cells // vocab_size)
        for start in range(0, num_targets, rows_per_block):
            block = logits[start : start + rows_per_block]
            target = targets[start : start + rows_per_block].unsqueeze(1)
            log_probs = torch.log_softmax(block.to(loss_sum.dtype), dim=1)
            target_log_prob = log_probs.gather(1, target)
            loss_sum -= target_log_prob.sum()
            gradient = log_probs.exp_()
            gradient.scatter_(1, target, target_log_prob.exp_().sub_(1.0))
            block.copy_(gradient)
        ctx.save_for_backward(hidden, weight, logits)
        return loss_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Scale the kept gradient and take it back through the product."""
        hidden, weight, logits_gradient = ctx.saved_tensors  # type: ignore[attr-defined]
        # The scale, 1 / targets of the step, stays float32: rounded to bf16 it is off by up to 0.4 % in all
        # gradients.
        grad_hidden = (logits_gradient @ weight).mul_(grad_loss)
        grad_weight = (logits_gradient.t() @ hidden).mul_(grad_loss)
        grad_bias = logits_gradient.sum(dim=0).mul_(grad_loss)
        return grad_hidden, grad_weight, grad_bias, None


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
    if torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return loss
