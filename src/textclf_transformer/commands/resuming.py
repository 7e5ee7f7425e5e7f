"""From the files of a run to the state that a training goes on from, or the word that it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textclf_transformer.atomic import flush_folder, storage_errors
from textclf_transformer.commands.common import warn
from textclf_transformer.commands.run_files import read_report
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.config import ArchitectureSection
from textclf_transformer.config.keys import fill_in_defaults
from textclf_transformer.config.section import Section
from textclf_transformer.errors import CheckpointError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpointer import Checkpointer
from textclf_transformer.training.loop import TrainingLoop
from textclf_transformer.training.resume import Difference, changed_measures, check_resume, phases_changed


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What a run goes on from.

    Attributes:
        state: a checkpoint's content, its config with the defaults of keys that are newer than it.
        differences: between then and now; all of them pass.
        source: the file.
    """

    state: dict[str, Any]
    differences: Sequence[Difference]
    source: str

    def give_to(self, loop: TrainingLoop[Any]) -> None:
        """Let ``loop`` take up the state; CheckpointError where it belongs to another model."""
        other_phases = phases_changed(self.differences)
        loop.load_state_dict(self.state, other_phases=other_phases, source=self.source)


def load_state(
    context: RunContext[Any],
    checkpointer: Checkpointer,
    current: Mapping[str, Any],
    *,
    message: Callable[[str], None],
) -> SavedRun | None:
    """Return what to go on from, None for a run that begins; what differs is refused or said.

    Raises:
        CheckpointError: no state can be read, what changed may not, or a finished run has lost its states.
        UsageError: ``--allow-changed`` names no key.
    """
    saved = checkpointer.load()
    if saved is None:
        _refuse_to_lose_best(context)
        _set_best_aside(context.run)
        return None
    sections: dict[str, type[Section]] = {"config": type(context.config), "architecture": ArchitectureSection}
    saved |= {key: fill_in_defaults(saved[key], section) for key, section in sections.items() if key in saved}
    differences = check_resume(saved, current, allow_changed=context.arguments.allow_changed)
    for difference in differences:
        message(difference.notice)
    return SavedRun(saved, differences, str(checkpointer.source))


def _refuse_to_lose_best(context: RunContext[Any]) -> None:
    """Raise CheckpointError where a finished run, cleared of its states, would begin anew over its best."""
    best = context.run.best_checkpoint
    if best.exists() and read_report(context.run).get("status") == "finished":
        raise CheckpointError(
            "the run is finished and its last state is gone: it would begin anew, over its best weights",
            where=str(context.run.root),
            found=f"{best.name} without {context.run.checkpoint.name}",
            mend="put it back, use another name, or add --overwrite to begin anew",
        )


def _set_best_aside(run: RunFolder) -> None:
    """Keep the best of a training that was killed before its first save, or has lost its states.

    It begins anew, by itself, since nobody may be there after a crash. The same config makes the same weights
    again, but another one or an early stop would not; so what was once kept is not replaced either.
    """
    best, kept = run.best_checkpoint, run.best_of_before
    if not best.exists():
        return
    why = f"there is {best.name} but no {run.checkpoint.name} to go on from, so the run begins anew"
    if kept.exists():
        warn(f"{why} and replaces it; an earlier one stays in {kept}")
        return
    with storage_errors(best):
        best.rename(kept)
        flush_folder(run.root)
    warn(f"{why}; the weights are kept in {kept}")


def forget_a_best_that_is_gone(context: RunContext[Any], loop: TrainingLoop[Any]) -> None:
    """Let a run whose best weights somebody deleted find others: else it would train on and could not end."""
    best = context.run.best_checkpoint
    if loop.state.best_step is not None and not best.exists():
        instead = "the last weights are judged" if loop.finished else "the next evaluation finds others"
        warn(f"{best} of step {loop.state.best_step} is gone; {instead}")
        loop.state.forget_best()


def forget_what_was_measured_otherwise(saved: SavedRun, loop: TrainingLoop[Any]) -> None:
    """Compare no value of the deciding metric with one that means something else."""
    if loop.state.best_step is not None and (keys := changed_measures(saved.differences)):
        loop.log.message(
            f"{', '.join(keys)} changed, so the evaluations so far cannot be compared with those to come: "
            f"the best of step {loop.state.best_step} is replaced at the next one"
        )
        loop.state.forget_best()


def take_over_what_changed(saved: SavedRun, checkpointer: Checkpointer, loop: TrainingLoop[Any]) -> None:
    """Save a finished state with what was allowed to change: no step does, and it would be asked for again.

    Raises:
        StorageError: it could not be saved.
    """
    if loop.finished and saved.differences:
        checkpointer.save(loop.state_dict, required=True)
