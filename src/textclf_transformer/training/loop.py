"""The training loop of both tasks.

A task hands in its model, its loss (a sum over targets), its batches and its evaluation; the loop knows
nothing else about them. Everything that a step depends on follows from (seed, epoch, step), so a run that was
cut off anywhere goes on to the same bits: the loop stores where it is, and seeks there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from textclf_transformer.allocator import release_free_memory
from textclf_transformer.errors import ConfigError
from textclf_transformer.training.checkpointer import Checkpointer
from textclf_transformer.training.numerics import deterministic_algorithms
from textclf_transformer.training.optim import load_optimizer_state, optimizer_state
from textclf_transformer.training.resume import carried, load_model_state
from textclf_transformer.training.run_log import RunLog
from textclf_transformer.training.save_cadence import SaveCadence
from textclf_transformer.training.signals import EvaluationInterrupted, StopSignal
from textclf_transformer.training.state import Batch, Freezing, LoopState, StepBatches, require_keys
from textclf_transformer.training.step import MicroBatchTooLargeError, StepResult, train_step
from textclf_transformer.training.step_feed import StepFeed

BatchT = TypeVar("BatchT", bound=Batch)

_STEPS_BETWEEN_RELEASES = 100  # of the holes that batches of changing sizes leave in the heap


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingLoop(Generic[BatchT]):
    """Trains a model for a number of epochs; resumable to the bit at each optimizer step.

    At a step boundary things happen in this order: update, log, evaluate, save the best, save, stop.

    Attributes:
        model: on ``device``.
        loss: returns the loss *sum* of a micro-batch, a float32 scalar in nats.
        batches: the training data.
        optimizer: as ``build_optimizer`` gives it.
        schedule: the factor on ``learning_rate`` for a step of the plan, from 0; a pure function.
        learning_rate: the peak.
        epochs: how often all samples are seen.
        max_grad_norm: gradients are scaled down to this global norm.
        device: where to train.
        amp_dtype: from ``choose_amp_dtype``; float16 adds a gradient scaler.
        seed: the run's seed.
        evaluate: returns the validation metrics, ``loss`` among them, drawing no random numbers; raises
            EvaluationInterrupted if it sees the stop signal. None: no evaluation, no best.
        best_metric: which of them decides what is best.
        best_mode: whether less or more of it is better.
        log_every: optimizer steps between two rows of the training log.
        eval_every: optimizer steps between two evaluations; None: one at the end of each epoch. The last step
            always has one.
        save_cadence: when states are saved on the way; the last one always is.
        early_stopping_patience: evaluations without improvement after which the run ends; None: never.
        checkpointer: where states go.
        log: where the rows of training and evaluation go.
        stop_signal: read after each step.
        may_shrink: whether micro-batches are halved where the memory does not suffice; if not, the run ends.
        freeze: changes what is trained at the beginning of epochs, and with it the optimizer and the peak;
            None: everything throughout.
        state: where the run stands.
        total_steps: steps of the plan.
    """

    model: nn.Module
    loss: Callable[[Any, BatchT], Tensor]
    batches: StepBatches[BatchT]
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    learning_rate: float
    epochs: int
    max_grad_norm: float
    device: torch.device
    amp_dtype: torch.dtype | None
    seed: int
    evaluate: Callable[[Any], dict[str, float]] | None
    best_metric: str
    best_mode: Literal["min", "max"]
    log_every: int
    eval_every: int | None
    save_cadence: SaveCadence
    early_stopping_patience: int | None
    checkpointer: Checkpointer
    log: RunLog
    stop_signal: StopSignal
    may_shrink: bool = True
    freeze: Freezing | None = None

    def __post_init__(self) -> None:
        self.state = LoopState()
        self.total_steps = self.epochs * self.batches.steps_per_epoch
        self.scaler = torch.amp.GradScaler(self.device.type) if self.amp_dtype == torch.float16 else None
        self._feed = StepFeed(self.batches, total_steps=self.total_steps, may_shrink=self.may_shrink)
        self._enter_phase(epoch=0)

    @property
    def planned_steps_done(self) -> bool:
        """Whether no update is left, by plan or by early stopping."""
        patience, waited = self.early_stopping_patience, self.state.evaluations_without_improvement
        return self.state.position >= self.total_steps or (patience is not None and waited >= patience)

    @property
    def evaluation_due(self) -> bool:
        """Whether the step just done, or an earlier session's last, is still to be evaluated."""
        state = self.state
        if self.evaluate is None or state.evaluated_step >= state.step:
            return False
        epoch_done = state.position % self.batches.steps_per_epoch == 0
        at_cadence = epoch_done if self.eval_every is None else state.step % self.eval_every == 0
        return at_cadence or self.planned_steps_done

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.planned_steps_done and not self.evaluation_due

    def run(self) -> LoopState:
        """Train from where the state stands to the end; a finished run is left alone.

        Raises:
            SystemExit: a stop signal came; the state is saved, the code is the signal's (129, 130, 143).
            NonFiniteError: the loss or a gradient is not finite; nothing was updated or saved.
            ConfigError: the memory does not suffice for the smallest micro-batch, or for a fixed one.
            StorageError: the last state, or the first ever, could not be saved.
        """
        if self.finished:
            self.log.message(f"the training is finished, at step {self.state.step}")
            return self.state
        self.save_cadence.begin(step=self.state.step)
        self.model.train()
        self.log.begin(self.state, total_steps=self.total_steps)
        with self.log, deterministic_algorithms(self.device), closing(self._feed):
            self._finish_step()  # an evaluation that a stop signal cut off
            while not self.finished:
                self._train_step()
                self._finish_step()
            self._save(required=True)
        return self.state

    def _train_step(self) -> None:
        state = self.state
        self._enter_phase(epoch=state.position // self.batches.steps_per_epoch)
        state.learning_rate = self.learning_rate * self.schedule(state.position)
        result = None
        while result is None:
            try:
                result = self._update()
            except MicroBatchTooLargeError as fault:
                self._make_room(fault)
        state.step += 1
        state.position += 1
        state.tokens_seen += result.num_tokens
        state.loss_sum += result.loss_sum
        state.target_count += result.target_count
        state.grad_norm = result.grad_norm
        self.log.count_step(num_tokens=result.num_tokens)
        if state.step % _STEPS_BETWEEN_RELEASES == 0:
            release_free_memory()
        if state.step % self.log_every == 0 or self.planned_steps_done:
            self.log.add_training(state, epoch=self._epoch)
            state.loss_sum, state.target_count = 0.0, 0

    def _update(self) -> StepResult:
        return train_step(
            self.model,
            self._feed.at(self.state.position),
            loss=self.loss,
            optimizer=self.optimizer,
            learning_rate=self.state.learning_rate,
            max_grad_norm=self.max_grad_norm,
            device=self.device,
            amp_dtype=self.amp_dtype,
            scaler=self.scaler,
            seed=self.seed,
            step=self.state.step,
        )

    def _make_room(self, fault: MicroBatchTooLargeError) -> None:
        """Have the step come again in smaller micro-batches; where that cannot be, save and give up."""
        try:
            size = self._feed.shrink(fault)
        except ConfigError:
            # a phase that has just begun has another optimizer than a resume of the last step expects
            within_epoch = self.state.position % self.batches.steps_per_epoch > 0
            if within_epoch and self.save_cadence.is_new(self.state.step):
                self._save(required=False)
            raise
        self.log.message(f"the memory does not suffice; going on with micro-batches of {size} tokens")

    @property
    def _epoch(self) -> float:
        return self.state.position / self.batches.steps_per_epoch

    def _enter_phase(self, *, epoch: int) -> None:
        if self.freeze is not None:
            self.optimizer, self.learning_rate = self.freeze.enter(self.model, self.optimizer, epoch=epoch)

    def _finish_step(self) -> None:
        """Evaluate and save where that is due, and leave where a signal asked for it."""
        if self.evaluation_due and not self.stop_signal.requested:
            if self.planned_steps_done:
                self._save(required=False)  # an evaluation that fails must not cost the last steps
            self._evaluate()
        if stop := self.stop_signal.requested:
            self._save(required=True)
            raise SystemExit(stop)
        if not self.finished and self.save_cadence.due(self.state.step):  # run() saves the end itself
            self._save(required=False)

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        state = self.state
        with self.log.pause():
            try:
                metrics = self.evaluate(self.model)
            except EvaluationInterrupted:
                return  # it is still due, and made up after the resume
            finally:
                self.model.train()
                release_free_memory()  # its batches had other sizes
            is_best = state.count_evaluation(metrics[self.best_metric], metrics["loss"], mode=self.best_mode)
            if is_best:  # written before a state names it; a kill in between repeats this to the same bits
                best = {"model": self.model.state_dict(), "step": state.step, "metrics": metrics}
                self.checkpointer.save_best(best)
            self.log.add_evaluation(state, metrics, epoch=self._epoch, is_best=is_best)

    def _save(self, *, required: bool) -> None:
        self.state.elapsed_seconds = self.log.elapsed_seconds
        with self.log.pause():
            saved = self.checkpointer.save(self.state_dict, required=required)
        self.save_cadence.count(self.state.step, saved=saved)
        if saved:
            self.log.commit()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resume needs: tensors (not copied), plain Python; puts the logs onto the disk.

        Raises:
            StorageError: the logs cannot be written.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "loop": {
                **self.state.state_dict(),
                "finished": self.finished,
                "total_steps": self.total_steps,
                "steps_per_epoch": self.batches.steps_per_epoch,
                "tokens_per_micro_batch": self._feed.shrunk_to,
            },
            "metrics": self.log.sync(),
            "wandb_run_id": self.log.wandb_run_id,
        }

    def load_state_dict(
        self, saved: dict[str, Any], *, other_phases: bool = False, source: str = "the checkpoint"
    ) -> None:
        """Take up a state that ``state_dict`` gave; ``check_resume`` says what may differ from its run.

        With ``other_phases``, of a changed freeze schedule, the optimizer's state is ``carried``.

        Raises:
            CheckpointError: it belongs to another model, or lacks an entry; names ``source``.
        """
        require_keys(saved, ("model", "optimizer", "scaler", "loop", "metrics"), what=source)
        loop = saved["loop"]
        state = LoopState.from_state_dict(loop)
        require_keys(loop, ("steps_per_epoch", "total_steps"), what="the loop's state")
        load_model_state(self.model, saved["model"], source=source)
        # the optimizer of the last step done
        self._enter_phase(epoch=max(state.position - 1, 0) // loop["steps_per_epoch"])
        known = carried(saved["optimizer"], self.optimizer) if other_phases else saved["optimizer"]
        load_optimizer_state(self.optimizer, known, source=source)
        if self.scaler is not None and saved["scaler"] is not None:
            self.scaler.load_state_dict(saved["scaler"])
        # with another batch size the run goes on at the same share of its epochs
        if loop["steps_per_epoch"] != self.batches.steps_per_epoch:
            state.position = state.position * self.batches.steps_per_epoch // loop["steps_per_epoch"]
        if loop["total_steps"] != self.total_steps and state.position < self.total_steps:
            # the next step may begin another phase
            epoch = state.position // self.batches.steps_per_epoch
            peak = self.learning_rate if self.freeze is None else self.freeze.peak_rate(epoch)
            rate = peak * self.schedule(state.position)
            plan = f"the plan has {self.total_steps} steps in place of {loop['total_steps']}"
            self.log.message(f"{plan}; going on at {state.position} with learning rate {rate:.3e}")
        self.state = state
        self._feed.resume_at_size(loop.get("tokens_per_micro_batch"))  # absent before it was stored
        self.log.take_up(saved["metrics"])
