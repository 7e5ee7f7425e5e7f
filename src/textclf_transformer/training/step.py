"""One optimizer step over its micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from textclf_transformer.errors import NonFiniteError, first_line, is_out_of_memory, listed
from textclf_transformer.training.numerics import autocast
from textclf_transformer.training.state import Batch
from textclf_transformer.utils import derive_seed

BatchT = TypeVar("BatchT", bound=Batch)

_SAMPLES_NAMED = 16
_SMALLEST_SCALE = (
    1.0  # of fp16 gradients; one that overflows even without being scaled up is no matter of the scale
)


class MicroBatchTooLargeError(Exception):
    """The memory did not suffice for a micro-batch; nothing was updated, and the step can be taken anew.

    Args:
        message: what the allocator said.
        samples: samples of the micro-batch.
        tokens: real tokens of the largest micro-batch of the step.
    """

    def __init__(self, message: str, *, samples: int, tokens: int) -> None:
        super().__init__(message)
        self.samples = samples
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step saw.

    Attributes:
        loss_sum: the loss in nats, summed over all targets.
        target_count: number of targets; 0 means that the weights were left alone.
        num_tokens: real tokens.
        grad_norm: global norm of the gradient of the mean loss, before clipping; infinite or NaN where
            fp16 overflowed and the scaler skipped the update.
    """

    loss_sum: float
    target_count: int
    num_tokens: int
    grad_norm: float


def train_step(
    model: nn.Module,
    micro_batches: Sequence[BatchT],
    *,
    loss: Callable[[nn.Module, BatchT], Tensor],
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    max_grad_norm: float,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
    seed: int,
    step: int,
) -> StepResult:
    """Update ``model`` once on the mean loss over all targets of ``micro_batches``, however they are split.

    Each gradient is divided by the target count of the whole step, so that micro-batches of unequal counts
    add up to the gradient of one large batch. Dropout is seeded per micro-batch from (seed, step, number), so
    it does not depend on what ran before. The host waits for the device once.

    Args:
        model: in training mode.
        micro_batches: the samples of the step; one without targets is passed over.
        loss: returns the loss *sum* of a micro-batch, a float32 scalar in nats.
        optimizer: from ``build_optimizer``; its gradients are None before and after.
        learning_rate: of this step, which each group multiplies by its ``lr_scale``.
        max_grad_norm: the gradient is scaled down to this global norm.
        device: where the model lies.
        amp_dtype: dtype of autocast in the forward pass; None computes in float32.
        scaler: for float16; a gradient that overflowed skips the update and halves the scale.
        seed: the run's seed.
        step: optimizer steps done before this one.

    Raises:
        NonFiniteError: the loss or the gradient is NaN or infinite; the weights are as before.
        MicroBatchTooLargeError: the memory ran out in a forward or backward pass; the weights are as before.
    """
    target_count = sum(batch.num_targets for batch in micro_batches)
    num_tokens = sum(batch.num_tokens for batch in micro_batches)
    if target_count == 0:
        return StepResult(loss_sum=0.0, target_count=0, num_tokens=num_tokens, grad_norm=0.0)

    losses: dict[int, Tensor] = {}
    for number, batch in enumerate(micro_batches):
        if batch.num_targets == 0:
            continue
        torch.manual_seed(derive_seed("dropout", seed, step, number))
        shortage = None
        try:
            with autocast(device, amp_dtype):
                loss_sum = loss(model, batch.to(device))
            _backward(loss_sum / target_count, scaler)
            losses[number] = loss_sum.detach()
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            shortage = first_line(fault)
        if shortage is not None:  # raised out here, where the fault no longer holds on to the tensors
            optimizer.zero_grad()
            raise _too_large(shortage, batch, micro_batches)

    if scaler is not None:
        scaler.unscale_(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    *loss_sums, grad_norm = torch.stack([*losses.values(), norm]).tolist()  # the one wait for the device

    finite = [math.isfinite(value) for value in loss_sums]
    overflow = scaler is not None and not math.isfinite(grad_norm) and scaler.get_scale() > _SMALLEST_SCALE
    if not all(finite) or not (math.isfinite(grad_norm) or overflow):
        optimizer.zero_grad()
        suspects = [n for n, is_finite in zip(losses, finite, strict=True) if not is_finite] or list(losses)
        raise _non_finite(step, sum(loss_sums), grad_norm, [micro_batches[n] for n in suspects])

    if grad_norm > max_grad_norm and math.isfinite(grad_norm):
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    _apply(optimizer, scaler, learning_rate=learning_rate)
    return StepResult(sum(loss_sums), target_count, num_tokens, grad_norm)


def _backward(mean: Tensor, scaler: torch.amp.GradScaler | None) -> None:
    (mean if scaler is None else scaler.scale(mean)).backward()


def _apply(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, *, learning_rate: float
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad()


def _too_large(message: str, batch: Batch, micro_batches: Sequence[Batch]) -> MicroBatchTooLargeError:
    tokens = max(other.num_tokens for other in micro_batches)
    return MicroBatchTooLargeError(message, samples=len(batch.sample_indices), tokens=tokens)


def _non_finite(step: int, loss_sum: float, grad_norm: float, suspects: Sequence[Batch]) -> NonFiniteError:
    samples = [str(sample) for batch in suspects for sample in batch.sample_indices.tolist()]
    return NonFiniteError(
        "the loss is not finite" if not math.isfinite(loss_sum) else "the gradient is not finite",
        where=f"step {step + 1}, training samples {listed(samples, at_most=_SAMPLES_NAMED)}",
        found=f"loss sum {loss_sum}, gradient norm {grad_norm}",
        mend="nothing was updated or saved; lower training.learning_rate, or set training.use_amp=false",
    )
