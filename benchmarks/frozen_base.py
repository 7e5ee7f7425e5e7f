"""Epochs with a frozen encoder: the first, which encodes all chunks, beside a later one, which reads them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.document_work import DocumentWork
from benchmarks.exactness import largest_difference
from benchmarks.harness import SideProcess, alternate, comparison
from benchmarks.ours import settle_process
from benchmarks.peers import LEARNING_RATE, MAX_GRAD_NORM
from benchmarks.workloads import SEED, TEMPLATE
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.training.frozen_cache import FrozenEncoderCache
from textclf_transformer.training.losses import document_loss
from textclf_transformer.training.numerics import choose_amp_dtype, deterministic_algorithms
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import train_step
from textclf_transformer.training.step_feed import StepFeed

AT_LEAST, AIM = 50, 500
BOUND = 1e-6
LATER_EPOCHS = 1_000_000  # more than are measured

HEADER = (
    "documents / chunks",
    "the first epoch",
    "a later epoch",
    "faster by (pairs)",
    "at least / aim",
    "losses differ by",
    "the head's weights by",
    "at most",
)


class HeadTraining:
    """A classifier whose encoder is frozen, trained epoch by epoch as ``finetune.py`` does.

    Args:
        work: the documents.
        samples_per_step: documents of an optimizer step.
        amp_dtype: of autocast; None computes in float32.
    """

    def __init__(self, work: DocumentWork, *, samples_per_step: int, amp_dtype: torch.dtype | None) -> None:
        self._device, self._amp_dtype = work.device, amp_dtype
        self._model = work.model(TEMPLATE).to(work.device).train()
        self._model.freeze_base_model()
        self._optimizer = build_adamw(self._model, learning_rate=LEARNING_RATE, weight_decay=0.01)
        self._documents = work.batches(samples_per_step=samples_per_step)
        self._batches: DocumentBatches | FrozenEncoderCache = self._documents

    def fill(self, folder: Path) -> None:
        """Encode all chunks into a new cache in ``folder`` and train on its vectors from now on."""
        cache = FrozenEncoderCache(
            folder,
            {"train": self._documents},
            epochs=LATER_EPOCHS,
            device=self._device,
            amp_dtype=self._amp_dtype,
        )
        said: list[str] = []
        cache.fill(self._model, epoch=0, message=said.append, warn=said.append, should_stop=lambda: False)
        if cache.evaluation("train") is self._documents:
            raise RuntimeError(f"the vectors were not kept: {said}")
        self._batches = cache

    def train(self, epoch: int) -> list[float]:
        """Train one epoch, from 0; return the mean loss of each step."""
        first = epoch * self._batches.steps_per_epoch
        steps = range(first, first + self._batches.steps_per_epoch)
        loss: Callable[[Any, Any], Tensor] = document_loss
        losses = []
        # a feed that ends with the epoch, so that no batch is made outside the time of its own epoch
        feed: StepFeed[Any] = StepFeed(self._batches, total_steps=steps.stop, may_shrink=False)
        with deterministic_algorithms(self._device), closing(feed):
            for step in steps:
                result = train_step(
                    self._model,
                    feed.at(step),
                    loss=loss,
                    optimizer=self._optimizer,
                    learning_rate=LEARNING_RATE,
                    max_grad_norm=MAX_GRAD_NORM,
                    device=self._device,
                    amp_dtype=self._amp_dtype,
                    scaler=None,
                    seed=SEED,
                    step=step,
                )
                losses.append(result.loss_sum / result.target_count)
        return losses

    def head(self) -> dict[str, Tensor]:
        """Return the trained weights."""
        named = self._model.named_parameters()
        return {name: parameter.detach().clone() for name, parameter in named if parameter.requires_grad}


class FrozenEpoch:
    """An epoch with the templates' precision: the first, cache and all, or one that follows it."""

    def __init__(self, work: DocumentWork, *, samples_per_step: int, first: bool) -> None:
        settle_process()
        self._work, self._samples_per_step, self._first = work, samples_per_step, first
        amp_dtype = choose_amp_dtype(work.device, use_amp=True, amp_dtype="auto")
        self._training = HeadTraining(work, samples_per_step=samples_per_step, amp_dtype=amp_dtype)
        self._temporary = tempfile.TemporaryDirectory()
        self._epochs = 0
        if not first:
            self._training.fill(Path(self._temporary.name) / "cache")

    def run(self) -> None:
        """Train the epoch."""
        self._epochs += 1
        if not self._first:
            self._training.train(self._epochs)
            return
        with tempfile.TemporaryDirectory() as folder:
            self._training.fill(Path(folder) / "cache")
            self._training.train(0)

    def check(self) -> list[float]:
        """Return by how much losses and weights differ, see ``compare_with_uncached``."""
        return list(compare_with_uncached(self._work, samples_per_step=self._samples_per_step))


def compare_with_uncached(work: DocumentWork, *, samples_per_step: int) -> tuple[float, float, float]:
    """Train an epoch on the vectors and one on the tokens, in float32, from equal weights on equal batches.

    Returns:
        The largest relative difference of the steps' losses; the largest difference of the head's weights
        afterwards, and the same relative to each tensor's largest value (see ``largest_difference``).
    """
    losses, heads = [], []
    for is_cached in (True, False):
        training = HeadTraining(work, samples_per_step=samples_per_step, amp_dtype=None)
        with tempfile.TemporaryDirectory() as folder:
            if is_cached:
                training.fill(Path(folder) / "cache")
            losses.append(training.train(1))
        heads.append(training.head())
    by_losses = max(abs(ours - theirs) / abs(theirs) for ours, theirs in zip(*losses, strict=True))
    by_weights = max(float((weights - heads[1][name]).abs().max()) for name, weights in heads[0].items())
    return by_losses, by_weights, largest_difference(*heads)


def measure_frozen_base(work: DocumentWork, *, samples_per_step: int, repetitions: int) -> dict[str, Any]:
    """Measure first and later epochs in turn, each kind in a process of its own."""
    open_side = functools.partial(FrozenEpoch, work, samples_per_step=samples_per_step)
    with (
        SideProcess("a later epoch", functools.partial(open_side, first=False), work.device) as later,
        SideProcess("the first epoch", functools.partial(open_side, first=True), work.device) as first,
    ):
        by_losses, by_weights, of_largest = later.check()
        samples = alternate({"later": later.run, "first": first.run}, repetitions=repetitions)
    compared = comparison(samples["later"], samples["first"])
    low, high = compared["ratios"]
    facts = work.facts()
    row = [
        f"{facts['documents']:.0f} / {facts['chunks']:.0f}",
        f"{compared['theirs']['seconds']:.2f} s",
        f"{1e3 * compared['ours']['seconds']:.1f} ms",
        f"**{compared['ratio']:.0f}×** ({low:.0f}–{high:.0f})",
        f"{AT_LEAST}× / {AIM}×",
        f"{by_losses:.1e}",
        f"{by_weights:.1e}",
        f"{BOUND:.0e}",
    ]
    return {
        "measured": compared,
        "tables": [{"header": HEADER, "rows": [row]}],
        "note": f"Steps of {samples_per_step} documents, no evaluation or saving. The first epoch encodes "
        "all chunks, writes their vectors and trains the head on them; a later one only reads and trains. "
        "The differences are those to an epoch that encodes anew, in float32 with equal batches: of losses "
        "relative, of weights absolute. Relative to its tensor's largest value the largest is "
        f"{of_largest:.1e}; biases began at zero.",
    }
