"""When a save may fail, what is kept, what a resume starts from: the loop's way to the checkpoint files."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Callable, Mapping
from typing import Any

import torch

from textclf_transformer.errors import StorageError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_latest, save_checkpoint
from textclf_transformer.training.state import require_keys


class Checkpointer:
    """Saves and finds the checkpoints of one run.

    Args:
        run: the run's folder; it exists, and this process holds its lock.
        extra: what every checkpoint carries besides the loop's state, plain Python: config, labels,
            fingerprints …
        warn: is told what the user should know but need not act on.

    Attributes:
        source: the file that the last ``load`` took its state from.
    """

    def __init__(self, run: RunFolder, *, extra: Mapping[str, Any], warn: Callable[[str], None]) -> None:
        self._run = run
        self.source = run.checkpoint
        self._extra = dict(extra)
        self._warn = warn
        # A damaged model.ckpt must not push the good one it was replaced by out of model.ckpt.prev.
        self._current_is_good = True
        self._unsaved_best: dict[str, Any] | None = None
        self._failing = False

    def load(self) -> dict[str, Any] | None:
        """Return the state to resume from, or None; falls back to the previous one with a warning.

        Raises:
            CheckpointError: there are files but none can be read, or an entry is missing; nothing was
                deleted.
            StorageError: a file cannot be read for reasons of disk or permissions.
        """
        found = load_latest(self._run.checkpoint, self._run.previous_checkpoint, warn=self._warn)
        if found is None:
            return None
        state, self.source = found
        self._current_is_good = self.source == self._run.checkpoint
        require_keys(state, ("model", "optimizer", "loop", "metrics"), what=str(self.source))
        return state

    def save(self, collect: Callable[[], Mapping[str, Any]], *, required: bool) -> bool:
        """Save the resumable state, keep the one before, and return whether it is on the disk.

        Best weights that could not be written before go first: a state must not name a best that is nowhere.

        Args:
            collect: returns the loop's state, to which ``extra`` is added; a StorageError in it (the metrics
                belong to the state) is a failed save as well.
            required: whether a failure ends the run. Where it does not, it is a warning as long as an older
                checkpoint exists, and the caller tries again at the next step.

        Raises:
            StorageError: the save failed and was required, or no older checkpoint exists.
        """
        try:
            if self._unsaved_best is not None:
                save_checkpoint(self._run.best_checkpoint, self._unsaved_best)
                self._unsaved_best = None
            save_checkpoint(
                self._run.checkpoint,
                {**collect(), **self._extra},
                keep_previous=self._run.previous_checkpoint if self._current_is_good else None,
            )
        except StorageError as fault:
            if required or not self._run.has_checkpoint():
                raise
            self._report_failure(fault)
            return False
        self._current_is_good = True
        if self._failing:
            self._failing = False
            self._warn("saving works again")
        return True

    def save_best(self, state: Mapping[str, Any]) -> None:
        """Save the best weights so far; if the disk refuses, keep a copy in memory for the next ``save``.

        Args:
            state: ``model``, ``step`` and ``metrics``; ``extra`` is added.
        """
        content = {**state, **self._extra}
        try:
            save_checkpoint(self._run.best_checkpoint, content)
            self._unsaved_best = None
            self._drop_a_best_that_is_found_again()
        except StorageError as fault:
            model = {name: torch.clone(tensor) for name, tensor in content["model"].items()}
            self._unsaved_best = {**content, "model": model}
            self._report_failure(fault)

    def _drop_a_best_that_is_found_again(self) -> None:
        """Delete the best of a training that was lost once this one has come to the same bits."""
        best, kept = self._run.best_checkpoint, self._run.best_of_before
        with contextlib.suppress(OSError):  # what cannot be deleted stays
            if kept.exists() and filecmp.cmp(best, kept, shallow=False):
                kept.unlink()

    def _report_failure(self, fault: StorageError) -> None:
        if not self._failing:  # once, not at every step until the disk is well
            self._warn(f"saving failed and is tried again after each step: {fault}")
        self._failing = True
