"""Stamping out a run: the template, with a name and the ``--set`` values, in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.config.editing import set_in_text
from textclf_transformer.config.keys import fields_of
from textclf_transformer.config.overrides import parse_overrides
from textclf_transformer.config.reader import unfilled_keys
from textclf_transformer.config.results import has_weights, results_folder
from textclf_transformer.config.template import template_path
from textclf_transformer.config.writing import in_line, pretraining_folder
from textclf_transformer.errors import ConfigError, UsageError
from textclf_transformer.experiment import RUN_NAME, Kind, RunFolder, RunLock


@dataclass(frozen=True, slots=True)
class GeneratedRun:
    """A run folder that was just made.

    Attributes:
        run: the folder.
        unfilled: the keys that the user still has to fill in, each with its meaning.
    """

    run: RunFolder
    unfilled: dict[str, str]


def generate_run(
    kind: Kind, name: str, *, given: Mapping[str, str | None], overrides: Sequence[str], overwrite: bool
) -> GeneratedRun:
    """Make the folder of the run ``name`` with a commented config.yaml.

    Args:
        kind: which kind of run.
        name: its name.
        given: dotted keys and values that follow from the arguments; ``overrides`` must not set them.
        overrides: ``KEY=VALUE`` texts, checked against the schema and written into the file.
        overwrite: replace a run of that name: its config and all its results are deleted, also those that
            its ``experiment.output_dir`` sent elsewhere.

    Raises:
        UsageError: the name is not allowed, the run exists and ``overwrite`` is false, or its results lie in
            a folder of something else.
        ConfigError: an override, or the template itself, is wrong; nothing is written.
        RunInUseError: a process works in the run that is to be replaced.
        StorageError: the folder cannot be written.
    """
    run = RunFolder.locate(kind, name)
    if run.root.exists() and not overwrite:
        raise UsageError(
            "this run exists",
            where=str(run.root),
            mend="choose another name, or add --overwrite to delete it",
        )
    text, unfilled = fill_template(kind, {"experiment.name": name, **given}, overrides)
    replaced = [*_results_elsewhere(run), run]
    with ExitStack() as locks:
        for folder in replaced:
            locks.enter_context(RunLock(folder))
        for folder in replaced:
            folder.clear_results()
        atomic_write_text(run.config, text)
    return GeneratedRun(run, unfilled)


def _results_elsewhere(run: RunFolder) -> list[RunFolder]:
    """Return the folder that the config there is has sent results to, if any: a new run of that name and
    ``output_dir`` would go on from them.
    """
    try:
        results = results_folder(run, by_name=True)
    except ConfigError:
        return []  # of a config that cannot be read nobody can tell
    is_elsewhere = results.root.is_dir() and results.root.resolve() != run.root.resolve()
    return [results] if is_elsewhere else []


def fill_template(
    kind: Kind, given: Mapping[str, str | None], overrides: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """Return the template's text with the values written into it, and each key to fill in with its meaning.

    Raises:
        ConfigError: an override, or the template itself, is wrong.
    """
    path = template_path(kind)
    parsed, problems = parse_overrides(overrides, kind)
    for override in parsed:
        if override.key in given:
            problems += UsageError(
                "this key follows from the command's arguments", where=f"--set {override.key}"
            ).lines
    if problems:
        raise ConfigError.from_problems(problems)
    assignments = [f"{key}={in_line(value)}" for key, value in given.items()]
    unfilled = unfilled_keys(path, kind, [*assignments, *overrides])
    text = path.read_text(encoding="utf-8")
    for key, value in [*given.items(), *((override.key, override.value) for override in parsed)]:
        text = set_in_text(text, key, value)
    return text, {key: fields_of(kind)[key].description or "" for key in unfilled}


def find_pretraining_run(name_or_path: str) -> RunFolder:
    """Return the folder with the results of a pretraining run; before there are any, that with its config.

    Args:
        name_or_path: the run's name, or the path of its folder.

    Raises:
        UsageError: there is no such run.
        ConfigError: its config cannot be read.
    """
    run = RunFolder.at(pretraining_folder(name_or_path, Path.cwd()))
    if run.config.is_file() or run.resolved_config.is_file() or run.has_checkpoint():
        results = results_folder(run, by_name=RUN_NAME.fullmatch(name_or_path) is not None)
        # by its path a folder with weights stands for these, whatever its config says of later ones
        return results if has_weights(results) or has_weights(run) else run
    raise UsageError(
        "there is no such pretraining run",
        where=str(run.root),
        expected="a folder with config.yaml",
        mend="make it with experiments/generate_pretraining_experiment.py, or correct the name",
    )


def pretraining_reference(run: RunFolder) -> str:
    """Return what a finetuning config says to mean ``run``: its name where that finds it, else its path."""
    return run.name if run == RunFolder.locate("pretraining", run.name) else str(run.root)
