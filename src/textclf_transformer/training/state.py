"""What a run has to remember between two optimizer steps, besides weights and optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, Self, TypeVar

from torch import Tensor, device
from torch.optim import Optimizer

from textclf_transformer.errors import CheckpointError

OTHER_CHECKPOINT = "take another checkpoint of the run"
"""How to mend a file that is whole but not what it says."""


class Batch(Protocol):
    """One micro-batch."""

    @property
    def num_targets(self) -> int:
        """Positions or documents that the loss is summed over."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""

    @property
    def sample_indices(self) -> Tensor:
        """int64 (B,), where the samples stand in their split."""

    def to(self, device: device, /) -> Self:
        """Return the batch with its tensors on ``device``."""


BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class StepBatches(Protocol[BatchT_co]):
    """Where the micro-batches of each optimizer step come from: a pure function of (epoch, index).

    Attributes:
        tokens_per_micro_batch: most padded tokens of a micro-batch; lowering it changes nothing but how the
            samples of a step are divided.
    """

    tokens_per_micro_batch: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""

    def step(self, epoch: int, index: int, /) -> Sequence[BatchT_co]:
        """Return the micro-batches of one optimizer step."""


class Freezing(Protocol):
    """What is trained in which epoch, see ``FreezeSchedule``."""

    def enter(self, model: Any, optimizer: Optimizer, /, *, epoch: int) -> tuple[Optimizer, float]:
        """Freeze and unfreeze for ``epoch``; return the optimizer that goes with it and the peak rate."""

    def peak_rate(self, epoch: int, /) -> float:
        """Return the peak rate of ``epoch``; nothing is frozen or unfrozen."""


@dataclass(slots=True)
class LoopState:
    """Where a run is at an optimizer-step boundary; epoch and place in the data follow by arithmetic.

    Attributes:
        step: optimizer steps done.
        position: steps into the plan of ``epochs * steps_per_epoch``; differs from ``step`` only after the
            batch size was changed on the way, which changes what a step of the plan is.
        tokens_seen: real tokens trained on.
        loss_sum: sum of the losses since the last row of the log, in nats.
        target_count: targets that ``loss_sum`` is over.
        learning_rate: of the last step.
        grad_norm: global norm of the last step's gradient, before clipping.
        best_metric: the best value so far of the metric that decides; None before the first evaluation.
        best_loss: the loss on val then; None before, and in the checkpoints of older versions.
        best_step: the step it was reached at.
        evaluated_step: the step of the last finished evaluation; one that is due at a later step is made up
            on resume.
        evaluations_without_improvement: since ``best_step``.
        elapsed_seconds: wall-clock time of all sessions of the run, evaluation and saving included.
    """

    step: int = 0
    position: int = 0
    tokens_seen: int = 0
    loss_sum: float = 0.0
    target_count: int = 0
    learning_rate: float = 0.0
    grad_norm: float = 0.0
    best_metric: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    evaluated_step: int = 0
    evaluations_without_improvement: int = 0
    elapsed_seconds: float = 0.0

    def count_evaluation(self, value: float, loss: float, *, mode: Literal["min", "max"]) -> bool:
        """Note the deciding metric of the present step; return whether it is the best. NaN never is.

        Of equal ones that with the lower loss is the better: while a model of several labels says yes to none
        its F1 is 0, however much it learns.
        """
        self.evaluated_step = self.step
        best = self.best_metric
        is_best = not math.isnan(value) and (
            best is None or (value < best if mode == "min" else value > best)
        )
        is_best |= value == best and self.best_loss is not None and loss < self.best_loss
        if is_best:
            self.best_metric, self.best_loss, self.best_step = value, loss, self.step
        self.evaluations_without_improvement = 0 if is_best else self.evaluations_without_improvement + 1
        return is_best

    def forget_best(self) -> None:
        """Let the next evaluation be the best, as those before it cannot be compared with or are gone.

        The count of evaluations without improvement stays: a run that was stopped early has ended.
        """
        self.best_metric = self.best_loss = self.best_step = None

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> LoopState:
        """Return the state that ``state_dict`` gave.

        Raises:
            CheckpointError: a field is missing; names it.
        """
        names = [field.name for field in fields(cls)]
        state = {"best_loss": None, **state}
        require_keys(state, names, what="the loop's state")
        return cls(**{name: state[name] for name in names})


def require_keys(state: Mapping[str, Any], keys: Iterable[str], *, what: str) -> None:
    """Check that a part of a checkpoint has its keys.

    Raises:
        CheckpointError: some are missing; names them.
    """
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointError(f"{what} lacks {', '.join(missing)}", mend=OTHER_CHECKPOINT)
