"""What a run will cost, before it starts: parameters, memory and time, from config, shapes and one timing.

The figures are estimates to plan with. Memory counts weights, gradients and optimizer state exactly and
activations by the tensors that the layers keep for the backward pass. Time divides the floating-point
operations of a step by the rate of a matrix product measured here and now, times a share that training
reaches in practice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

_SHARE_OF_MATMUL_RATE = 0.6
_MATMUL_SIZE = 1024


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What one run is expected to need.

    Attributes:
        parameters: number of parameters.
        trainable_parameters: how many of them are trained.
        state_bytes: weights, gradients and AdamW's two moments, all float32.
        activation_bytes: what one micro-batch keeps for its backward pass.
        step_flops: floating-point operations of one optimizer step, forward and backward.
        seconds: time for all steps, without evaluation.
    """

    parameters: int
    trainable_parameters: int
    state_bytes: int
    activation_bytes: int
    step_flops: float
    seconds: float


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a square matrix product, measured for a tenth of a second."""
    matrix = torch.randn(_MATMUL_SIZE, _MATMUL_SIZE, device=device).to(dtype)
    product = matrix @ matrix
    repetitions, elapsed = 0, 0.0
    start = time.perf_counter()
    while elapsed < 0.1:
        product = matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        repetitions += 1
        elapsed = time.perf_counter() - start
    del product
    return 2 * _MATMUL_SIZE**3 * repetitions / elapsed


def estimate_cost(
    model: nn.Module,
    *,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
    sequence_length: float,
    head_flops_per_token: float,
    tokens_per_step: float,
    tokens_per_micro_batch: int,
    total_steps: int,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    gradient_checkpointing: bool,
) -> CostEstimate:
    """Estimate a run.

    Args:
        model: the model as it will be trained.
        hidden_size: D.
        num_hidden_layers: layers of the encoder.
        num_attention_heads: heads per layer.
        intermediate_size: width of the feed-forward networks.
        sequence_length: mean tokens of a sequence, special tokens included.
        head_flops_per_token: operations of the head's forward pass, averaged over all tokens.
        tokens_per_step: tokens of one optimizer step.
        tokens_per_micro_batch: most tokens in a micro-batch.
        total_steps: optimizer steps of the run.
        device: where it will run.
        amp_dtype: the dtype of matrix products; None means float32.
        gradient_checkpointing: whether layers are computed again in the backward pass.

    Returns:
        The estimate.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    layer_flops = (
        2 * (4 * hidden_size**2 + 2 * hidden_size * intermediate_size) + 4 * sequence_length * hidden_size
    )
    passes = 4 if gradient_checkpointing else 3  # forward, twice that backward, and perhaps the forward again
    step_flops = passes * tokens_per_step * (num_hidden_layers * layer_flops + head_flops_per_token)
    width = 2 if amp_dtype is not None else 4  # bytes of an operand
    kept_per_layer = (
        width * (5 * hidden_size + 2 * intermediate_size + 2 * num_attention_heads * sequence_length)
        + 4 * 4 * hidden_size  # residual stream and norms, float32
    )
    layers_kept = 1 if gradient_checkpointing else num_hidden_layers
    micro_batch_tokens = min(tokens_per_micro_batch, tokens_per_step)
    rate = matmul_rate(device, amp_dtype or torch.float32) * _SHARE_OF_MATMUL_RATE
    return CostEstimate(
        parameters=parameters,
        trainable_parameters=trainable,
        state_bytes=4 * parameters + 12 * trainable,
        activation_bytes=int(micro_batch_tokens * kept_per_layer * layers_kept),
        step_flops=step_flops,
        seconds=total_steps * step_flops / rate,
    )
