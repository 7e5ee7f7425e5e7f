"""From the folder in which a run is configured to the one that holds its results."""

from __future__ import annotations

from pathlib import Path

from textclf_transformer.config.reader import read_document
from textclf_transformer.config.writing import absolute
from textclf_transformer.experiment import RunFolder


def has_weights(run: RunFolder) -> bool:
    """Whether the folder holds weights, of a state that a resume would go on from or the best ones."""
    return run.has_checkpoint() or run.best_checkpoint.exists()


def results_folder(run: RunFolder, *, by_name: bool) -> RunFolder:
    """Return the folder that holds, or will hold, the results of the run that ``run`` configures.

    ``experiment.output_dir`` of its config.yaml may send them to another disk, a relative one from the
    working directory on, as in training. A ``--set`` at training time cannot be seen from here.

    Args:
        run: the folder, which may have no config: then it is the one with the results.
        by_name: whether the user gave the run's name, for which the config decides as it does in training; a
            folder that was given by its path is taken as it is where it holds weights.

    Raises:
        ConfigError: the config cannot be read.
        StorageError: the same, by the disk's fault.
        UsageError: the name is not allowed, or the folder is a symbolic link.
    """
    if not run.config.is_file() or (has_weights(run) and not by_name):
        return run
    experiment = read_document(run.config).data.get("experiment")
    output_dir = experiment.get("output_dir") if isinstance(experiment, dict) else None
    if not isinstance(output_dir, str):
        return run
    # with an output_dir the kind does not matter
    return RunFolder.locate("finetuning", run.name, absolute(Path(output_dir), Path.cwd()))
