"""From what a user types to a run's folder, and to the checkpoint in it that judges and classifies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.config.reader import read_document
from textclf_transformer.config.results import results_folder
from textclf_transformer.config.schema import kind_of
from textclf_transformer.config.writing import absolute
from textclf_transformer.errors import CheckpointError, ConfigError, UsageError
from textclf_transformer.experiment import Kind, RunFolder
from textclf_transformer.utils import check_path


def find_run(
    run: str | os.PathLike[str], kinds: Sequence[Kind] = ("finetuning",), *, first_wins: bool = False
) -> RunFolder:
    """Return the folder with a run's results, by its name or, with a slash in it, by its path.

    Where it was not trained yet, the folder that configures it.

    Args:
        run: the name or the path.
        kinds: where a name is looked for.
        first_wins: whether a name that several kinds have means the run of the first; else it is refused.

    Raises:
        ConfigError: there is no such folder, it is not a run's, its config cannot be read, or ``run`` is
            neither a string nor a path.
        UsageError: the name is not allowed or means two runs, or the folder is a symbolic link.
    """
    check_path(run, "run", expected="the name of a run, or the path of its folder")
    text = os.fspath(run)
    is_path = (
        isinstance(run, os.PathLike) or any(mark in text for mark in {"/", os.sep}) or text in {".", ".."}
    )
    if is_path:
        folders = [RunFolder.at(absolute(Path(text), Path.cwd()))]
    else:
        folders = [RunFolder.locate(kind, text) for kind in kinds]
    there = [folder for folder in folders if folder.root.is_dir()]
    if len(there) > 1 and not first_wins:
        raise UsageError(
            "a pretraining and a finetuning run have this name",
            found=repr(text),
            mend=f"give the path: {' or '.join(str(folder.root) for folder in there)}",
        )
    if there:
        _check_is_run(there[0])
        results = results_folder(there[0], by_name=not is_path)
        return results if results.root.is_dir() else there[0]
    kind = f"{kinds[0]} " if len(kinds) == 1 else ""
    if (
        tuple(kinds) == ("finetuning",)
        and not is_path
        and RunFolder.locate("pretraining", text).root.is_dir()
    ):
        raise ConfigError(
            "there is no such finetuning run",
            where=str(folders[0].root),
            found=f"a pretraining run {text}, which classifies nothing yet",
            mend=f"finetune it: python experiments/generate_finetuning_experiment.py NAME {text} …",
        )
    raise ConfigError(
        f"there is no such {kind}run",
        where=" or ".join(str(folder.root) for folder in folders),
        mend="give its name, or the path of its folder with a / in it (./NAME)",
    )


def _check_is_run(folder: RunFolder) -> None:
    """Refuse a folder that has neither a config nor a checkpoint: it is something else."""
    ours = (folder.config, folder.resolved_config, folder.best_checkpoint, folder.checkpoint)
    if not any(path.exists() for path in ours):
        raise ConfigError(
            "this is not the folder of a run",
            where=str(folder.root),
            expected=f"{folder.config.name} and {folder.checkpoint.name} in it",
        )


def choose_checkpoint(folder: RunFolder) -> Path:
    """Return the run's best weights, or its last where there are no best ones.

    Raises:
        CheckpointError: it has neither.
    """
    path = folder.best_checkpoint if folder.best_checkpoint.exists() else folder.checkpoint
    if not path.exists():
        config = folder.resolved_config if folder.resolved_config.exists() else folder.config
        kind = kind_of(read_document(config).data) if config.exists() else "finetuning"
        command = {"pretraining": "pretrain.py", "finetuning": "finetune.py"}[kind]
        raise CheckpointError(
            "the run has no checkpoint",
            where=str(path),
            mend=f"train it first: python {command} {folder.name}",
        )
    return path
