"""The rows of a run on their way into the CSV files, before the user's eyes and to W&B."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch

from textclf_transformer.training.metrics_log import MetricsLog, Value
from textclf_transformer.training.progress import Progress
from textclf_transformer.training.resources import peak_memory
from textclf_transformer.training.state import LoopState
from textclf_transformer.training.wandb_log import WandbLog


class RunLog:
    """Writes the training and evaluation rows, and keeps the run's clock.

    Args:
        train_log: gets the training rows (``TRAIN_COLUMNS``).
        eval_log: gets the evaluation rows (``eval_columns``).
        progress: shows the user what goes on.
        warn: is told what the user should know but need not act on.
        device: whose memory is noted.

    Attributes:
        wandb_log: mirrors the rows, or None.
    """

    def __init__(
        self,
        *,
        train_log: MetricsLog,
        eval_log: MetricsLog,
        progress: Progress,
        warn: Callable[[str], None],
        device: torch.device,
    ) -> None:
        self.wandb_log: WandbLog | None = None
        self._train_log = train_log
        self._eval_log = eval_log
        self._progress = progress
        self._warn = warn
        self._device = device
        self._lengths = {"train": 0, "eval": 0}
        self._begin = self._since = time.monotonic()  # of the run, all sessions together; of this window
        self._tokens = 0  # in this window
        self._warned_of_no_targets = False

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.close()

    @property
    def wandb_run_id(self) -> str | None:
        """The run that W&B is to continue, None where it is not used."""
        return None if self.wandb_log is None else self.wandb_log.run_id

    @property
    def elapsed_seconds(self) -> float:
        """Seconds that all sessions of the run took, evaluation and saving included."""
        return time.monotonic() - self._begin

    def begin(self, state: LoopState, *, total_steps: int) -> None:
        """Start the clock and the bar where ``state`` stands, and drop the rows that came after it."""
        self.cut()
        self._since = time.monotonic()
        self._begin = self._since - state.elapsed_seconds
        self._tokens = 0
        self._progress.start(done=state.position, total=total_steps)

    def message(self, text: str) -> None:
        """Show a line that stays, unless quiet."""
        self._progress.message(text)

    def count_step(self, *, num_tokens: int) -> None:
        """Note an update on ``num_tokens`` real tokens."""
        self._tokens += num_tokens
        self._progress.advance()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Keep what happens inside out of the tokens per second, which are those of training."""
        started = time.monotonic()
        yield
        self._since += time.monotonic() - started

    def add_training(self, state: LoopState, *, epoch: float) -> None:
        """Write the exact mean loss over all targets since the last row, sum of sums over sum of counts."""
        now = time.monotonic()
        if state.target_count == 0 and not self._warned_of_no_targets:
            self._warned_of_no_targets = True
            self._warn(
                f"no target in the steps up to {state.step}, so nothing was learned and the loss is NaN; "
                "raise mlm_head.mask_p or training.batch_size"
            )
        row = self._row("train", state, epoch=epoch, loss=state.loss_sum / (state.target_count or math.nan))
        row["tokens_per_second"] = self._tokens / max(now - self._since, 1e-9)
        row |= peak_memory(self._device)
        self._record(self._train_log, row)
        self._progress.show(row)
        self._tokens, self._since = 0, now

    def add_evaluation(
        self, state: LoopState, metrics: Mapping[str, float], *, epoch: float, is_best: bool
    ) -> None:
        """Write the validation metrics, ``loss`` among them."""
        row = {**self._row("val", state, epoch=epoch, loss=metrics["loss"]), **metrics}
        self._record(self._eval_log, row)
        self._progress.show_evaluation(row, is_best=is_best)

    def sync(self) -> dict[str, int]:
        """Put all rows onto the disk and return the lengths of the files in bytes, for ``take_up``.

        Raises:
            StorageError: the disk is full or gone.
        """
        return {"train": self._train_log.sync(), "eval": self._eval_log.sync()}

    def take_up(self, lengths: Mapping[str, int]) -> None:
        """Take up the logs where ``sync`` left them; ``cut`` drops what came later."""
        self._lengths = dict(lengths)

    def cut(self) -> None:
        """Drop the rows that came after the state: of steps to run again, or of a test to make anew."""
        self._train_log.truncate(self._lengths["train"])
        self._eval_log.truncate(self._lengths["eval"])

    def commit(self) -> None:
        """Send W&B the rows that a checkpoint on the disk now covers."""
        if self.wandb_log is not None:
            self.wandb_log.commit()

    def _row(self, split: str, state: LoopState, *, epoch: float, loss: float) -> dict[str, Value]:
        """Return the columns that both logs share, for the step just done."""
        return {
            "step": state.step,
            "epoch": round(epoch, 4),
            "split": split,
            "loss": loss,
            "learning_rate": state.learning_rate,
            "grad_norm": state.grad_norm,
            "tokens_seen": state.tokens_seen,
            "elapsed_seconds": self.elapsed_seconds,
        }

    def _record(self, log: MetricsLog, row: dict[str, Value]) -> None:
        log.append(row)
        if self.wandb_log is not None:
            self.wandb_log.add(row)
