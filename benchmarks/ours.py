"""Our side of a training step: what the training loop calls, on batches made beforehand.

The loop makes its batches in a thread beside the step, so neither side's time has their making in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import LEARNING_RATE, MAX_GRAD_NORM
from benchmarks.workloads import SEED
from textclf_transformer.allocator import settle_allocator
from textclf_transformer.model.layers import SelfAttention
from textclf_transformer.training.numerics import (
    choose_amp_dtype,
    deterministic_algorithms,
    settle_libraries,
)
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import train_step


def settle_process() -> None:
    """Prepare the process as the commands do; to be called before torch takes its first memory."""
    settle_allocator()
    settle_libraries()


@contextlib.contextmanager
def dense_attention(model: nn.Module) -> Iterator[None]:
    """Keep ``model`` from packed flash attention, which does not compute in float32."""
    packed = [m for m in model.modules() if isinstance(m, SelfAttention) and m.backend == "varlen"]
    for module in packed:
        module.backend = "fused"
    try:
        yield
    finally:
        for module in packed:
            module.backend = "varlen"


class OurStep:
    """One optimizer step after the other on the same batches.

    Args:
        model: as the training commands build it.
        batches: the micro-batches of a step.
        loss: the loss sum of a micro-batch.
        device: where to train.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Any],
        *,
        loss: Callable[[Any, Any], Tensor],
        device: torch.device,
    ) -> None:
        self._model = model.to(device).train()
        self._batches, self._loss, self._device = batches, loss, device
        self._optimizer = build_adamw(self._model, learning_rate=LEARNING_RATE, weight_decay=0.01)
        self._amp_dtype = choose_amp_dtype(device, use_amp=True, amp_dtype="auto")
        self._step = 0

    def run(self) -> None:
        """Train one step."""
        with deterministic_algorithms(self._device):
            train_step(
                self._model,
                self._batches,
                loss=self._loss,
                optimizer=self._optimizer,
                learning_rate=LEARNING_RATE,
                max_grad_norm=MAX_GRAD_NORM,
                device=self._device,
                amp_dtype=self._amp_dtype,
                scaler=None,
                seed=SEED,
                step=self._step,
            )
        self._step += 1

    def check(self) -> list[float]:
        """Return the mean loss in float32 without dropout."""
        self._model.eval()
        with torch.inference_mode(), dense_attention(self._model):
            total = sum(float(self._loss(self._model, batch.to(self._device))) for batch in self._batches)
        self._model.train()
        return [total / sum(batch.num_targets for batch in self._batches)]
