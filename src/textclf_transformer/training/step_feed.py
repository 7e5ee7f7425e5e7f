"""The micro-batches of one optimizer step after another, in a size that the memory bears."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Generic, TypeVar

import torch

from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.errors import ConfigError
from textclf_transformer.training.state import Batch, StepBatches
from textclf_transformer.training.step import MicroBatchTooLargeError

BatchT = TypeVar("BatchT", bound=Batch)

# In words, since pretraining and finetuning have other keys for it.
WITH_LESS_MEMORY = (
    "set training.gradient_checkpointing=true, or train with shorter sequences, fewer chunks or a smaller "
    "encoder"
)


class StepFeed(Generic[BatchT]):
    """Prepares the steps of a plan in the background, and anew in smaller pieces after a shortage of memory.

    Args:
        batches: the training data; its ``tokens_per_micro_batch`` is lowered here and nowhere else.
        total_steps: steps of the plan.
        may_shrink: whether the size was left to the machine (``training.tokens_per_micro_batch: auto``).

    Attributes:
        shrunk_to: the size that the memory was found to bear; None: as the run was started.
    """

    def __init__(self, batches: StepBatches[BatchT], *, total_steps: int, may_shrink: bool) -> None:
        self._batches = batches
        self._total_steps = total_steps
        self._may_shrink = may_shrink
        self._upcoming: Generator[Sequence[BatchT], None, None] | None = None
        self._position = 0  # of the next step in ``_upcoming``
        self.shrunk_to: int | None = None

    def at(self, position: int) -> Sequence[BatchT]:
        """Return the micro-batches of the step at ``position`` of the plan; the next one costs no seeking."""
        if self._upcoming is None or position != self._position:
            self.close()
            self._upcoming = prefetch(self._prepare(position))
        self._position = position + 1
        return next(self._upcoming)

    def shrink(self, fault: MicroBatchTooLargeError) -> int:
        """Halve the micro-batches after ``fault`` and return the new size in tokens.

        Raises:
            ConfigError: the size is fixed, or the micro-batch was a single sample already.
        """
        size = self._batches.tokens_per_micro_batch
        if not self._may_shrink or fault.samples == 1:
            whole = "a single sample" if fault.samples == 1 else f"micro-batches of {size} tokens"
            lower = "" if fault.samples == 1 else "lower training.tokens_per_micro_batch or set it to auto, "
            raise ConfigError(
                f"the memory does not suffice for {whole}",
                where="training.tokens_per_micro_batch" if lower else None,
                found=fault,
                mend=f"{lower}{WITH_LESS_MEMORY}",
            )
        # a size beyond what the step has would take several halvings until it divides anything
        self.resume_at_size(max(min(size, fault.tokens) // 2, 1))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what was cached for the larger shapes would lie in the way
        return self._batches.tokens_per_micro_batch

    def resume_at_size(self, size: int | None) -> None:
        """Take up the ``shrunk_to`` of an earlier session; a size that the config fixes stands above it."""
        if size is not None and self._may_shrink:
            self.close()
            self._batches.tokens_per_micro_batch = self.shrunk_to = size

    def close(self) -> None:
        """End the preparing thread."""
        if self._upcoming is not None:
            self._upcoming.close()
            self._upcoming = None

    def _prepare(self, position: int) -> Iterator[Sequence[BatchT]]:
        for upcoming in range(position, self._total_steps):
            yield self._batches.step(*divmod(upcoming, self._batches.steps_per_epoch))
