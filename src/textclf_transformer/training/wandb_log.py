"""Weights & Biases as a mirror of metrics.csv: only if switched on, and never the reason that a run ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.errors import ConfigError

_SECTIONS = {"train": "train", "val": "eval", "test": "test"}
"""Split of a row → the section of W&B that it stands in: ``train/loss``, ``eval/f1_macro``."""

_NO_SERVER = ("offline", "disabled", "dryrun")


class WandbLog:
    """Sends the rows of the logs to W&B once a checkpoint holds them, so that no step is ever sent twice.

    It never prompts: without a key in ``WANDB_API_KEY`` it refuses to start, except with
    ``WANDB_MODE=offline`` (or ``disabled``). Only the config and the rows are sent; neither code nor output
    nor git state.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the key's own.
        run_name: name shown; None lets W&B choose.
        run_id: of the W&B run to go on with, from the checkpoint; None begins a new one.
        config: the resolved config, shown beside the run.
        folder: where the package keeps its files.
        warn: is told when W&B fails; the run goes on without it.

    Attributes:
        run_id: to store in the checkpoint.

    Raises:
        ConfigError: the package is not installed, there is no key, another run is open in this process, or
            W&B refuses the run.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        run_name: str | None,
        run_id: str | None,
        config: Mapping[str, Any],
        folder: Path,
        warn: Callable[[str], None],
    ) -> None:
        try:
            import wandb
        except ImportError as fault:
            raise ConfigError(
                "logging.use_wandb is true, but the package wandb cannot be imported",
                found=fault,
                mend="pip install wandb, or set logging.use_wandb=false",
            ) from fault
        if os.environ.get("WANDB_MODE") not in _NO_SERVER and not os.environ.get("WANDB_API_KEY"):
            raise ConfigError(
                "W&B needs a key in the environment variable WANDB_API_KEY",
                mend="set it, or WANDB_MODE=offline, or logging.use_wandb=false",
            )
        if (open_run := getattr(wandb, "run", None)) is not None:  # it takes in whatever is started
            raise ConfigError(
                "a W&B run of this process is open, and would take up this one's rows",
                found=open_run.name,
                mend="end it with wandb.finish(), or set logging.use_wandb=false",
            )
        self._warn = warn
        self._waiting: list[dict[str, Any]] = []
        self._is_broken = False
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run: Any = wandb.init(
                project=project,
                entity=entity,
                name=run_name,
                id=run_id,
                resume="allow",
                config=dict(config),
                dir=str(folder),
                settings=wandb.Settings(
                    console="off", disable_git=True, disable_code=True, save_code=False, silent=True
                ),
            )
            # W&B's own counter only goes up; ours is free to be any column
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
            self.run_id = str(self._run.id)
        except Exception as fault:  # the package raises its own errors, its server's and the network's
            with contextlib.suppress(Exception):
                wandb.finish(exit_code=1)
            raise ConfigError(
                "W&B does not start",
                found=f"{type(fault).__name__}: {fault}",
                mend="mend the W&B settings, or set WANDB_MODE=offline or logging.use_wandb=false",
            ) from fault

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row of a log until ``commit``."""
        self._waiting.append(
            {
                key if key in ("step", "epoch") else f"{_SECTIONS[row['split']]}/{key}": value
                for key, value in row.items()
                if key != "split" and value is not None
            }
        )

    def add_confusion(self, split: str, confusion: NDArray[np.int64], label_names: Sequence[str]) -> None:
        """Send the counts of true × predicted labels, (L, L), as W&B's own picture of them."""
        import wandb

        true, predicted = np.nonzero(confusion)
        counts = confusion[true, predicted]
        name = f"{_SECTIONS[split]}/confusion_matrix"
        self._guarded(
            lambda: self._run.log(
                {
                    name: wandb.plot.confusion_matrix(
                        y_true=np.repeat(true, counts).tolist(),
                        preds=np.repeat(predicted, counts).tolist(),
                        class_names=list(label_names),
                        title=f"confusion on {split}",
                    )
                }
            )
        )

    def commit(self) -> None:
        """Send the rows; to be called when a checkpoint that includes them is on the disk."""
        waiting, self._waiting = self._waiting, []
        self._guarded(lambda: [self._run.log(row) for row in waiting])

    def finish(self) -> None:
        """Send what waits and end the W&B run."""
        self.commit()
        self._guarded(lambda: self._run.finish())
        if self._is_broken:
            self._give_up()

    def end_after(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the W&B run where an exception ends the training; what waits is in no checkpoint."""
        if kind is not None:
            self._give_up()

    def _give_up(self) -> None:
        """End the W&B run as a failed one: left open, it would take in the next training of the process."""
        run, self._run = self._run, None
        with contextlib.suppress(Exception):
            run.finish(exit_code=1)

    def _guarded(self, call: Callable[[], object]) -> None:
        if self._run is None or self._is_broken:
            return
        try:
            call()
        except Exception as fault:  # a mirror that breaks must not take the run with it
            self._is_broken = True
            self._warn(f"W&B failed, going on without it: {type(fault).__name__}: {fault}")
