"""Where a command may write: never over what a run, a store or a tokenizer lives by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from textclf_transformer.atomic import storage_errors
from textclf_transformer.data.store_format import HEADER, TOKENS
from textclf_transformer.data.text_files import TEXT_SUFFIXES, format_suffix
from textclf_transformer.errors import UsageError
from textclf_transformer.experiment import RUN_NAMES, RunFolder
from textclf_transformer.model.hf_config import CONFIG_FILE
from textclf_transformer.model.hf_folder import HEAD_CONFIG_FILE, PICKLE_FILE, WEIGHTS_FILE
from textclf_transformer.tokenizer.files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from textclf_transformer.utils import real_path

# No command writes a result of such a kind, so one that is there is something else.
_NEVER_A_RESULT = {
    ".ckpt": "a checkpoint",
    ".prev": "a checkpoint",
    ".yaml": "a config",
    ".yml": "a config",
    ".pt": "a file of tensors",
    ".bin": "a file of a store or of published weights",
    ".safetensors": "a file of published weights",
}
_NAMED = {
    TOKENIZER_FILE: "a tokenizer",
    TOKENIZER_CONFIG_FILE: "a file of a tokenizer",
    HEADER: "the header of a store",
    CONFIG_FILE: "a file of published weights",
    HEAD_CONFIG_FILE: "a file of published weights",
}
# A file of such a name counts where one of these stands beside it: anybody may call a result config.json.
_WITNESSES = (TOKENIZER_FILE, TOKENS, WEIGHTS_FILE, PICKLE_FILE)
_METRICS_HEAD = b"step,epoch,split,"


def check_output(
    flag: str, path: Path | None, *, inputs: Sequence[Path] = (), own: Path | None = None
) -> None:
    """Raise UsageError where no file should be written to ``path``, before there is work to lose.

    A result that is there may be replaced by a newer one; what a run, a store, a tokenizer or published
    weights live by may not, nor what the command reads. A name that such files have is refused for a new file
    too: the next result could not replace it.

    Args:
        flag: the option that names the file.
        path: the file; None where the option was not given.
        inputs: the files and folders that the command reads.
        own: the file of a run that the command is there to make.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError("there is no such folder to write to", where=f"{flag} {path}")
    if path.is_dir():
        raise UsageError("this is a folder", where=f"{flag} {path}", expected="a file to write")
    place = path.absolute().parent.resolve() / path.name
    if own is not None and place == own.absolute().parent.resolve() / own.name:
        return
    with storage_errors(path):
        kept = _file_of_a_run(place) or _kept_kind(place)
    if kept is not None:
        raise UsageError(
            "the output would replace what others read",
            where=f"{flag} {path}",
            found=kept,
            mend="choose another file",
        )
    if any(_is_read_from(source, path) for source in inputs):
        raise UsageError(
            "the output would replace an input", where=f"{flag} {path}", mend="choose another file"
        )
    if (kind := _NEVER_A_RESULT.get(place.suffix.lower())) is not None:
        raise UsageError(
            "no result is of this kind", where=f"{flag} {path}", found=kind, mend="choose another ending"
        )


def check_outputs_differ(outputs: Mapping[str, Path | None]) -> None:
    """Raise UsageError where two options name the same file; option → file, None where it was not given."""
    known: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None or (path.exists() and not path.is_file()):  # /dev/null takes any number
            continue
        first = known.setdefault(real_path(path), flag)
        if first != flag:
            raise UsageError(
                "two results would be written to one file",
                where=f"{flag} {path}",
                found=f"the same as of {first}",
                mend="choose another file",
            )


def check_output_folder(flag: str, folder: Path) -> None:
    """Raise UsageError where ``folder`` belongs to a run, whatever ``--overwrite`` says."""
    if (kept := _file_of_a_run(real_path(folder))) is not None:
        raise UsageError(
            "the output would replace what others read",
            where=f"{flag} {folder}",
            found=kept,
            mend="choose another folder",
        )


def _file_of_a_run(place: Path) -> str | None:
    """Say which run ``place`` belongs to, be it there or not; None for no run."""
    for folder in place.parents:
        run = RunFolder(folder)
        marks = (run.resolved_config, run.checkpoint, run.previous_checkpoint, run.best_checkpoint)
        name = place.relative_to(folder).parts[0]
        if name in RUN_NAMES | {"metrics"} and any(mark.exists() for mark in marks):
            return f"{place.relative_to(folder)} of the run {folder.name}"
    return None


def _kept_kind(place: Path) -> str | None:
    """Say what the file at ``place`` is if no command writes such results; None else."""
    if not place.is_file():
        return None
    if place.suffix.lower() in _NEVER_A_RESULT:
        return _NEVER_A_RESULT[place.suffix.lower()]
    if place.name in _NAMED and any((place.parent / witness).exists() for witness in _WITNESSES):
        return _NAMED[place.name]
    with place.open("rb") as file:
        return "the metrics of a run" if file.read(len(_METRICS_HEAD)) == _METRICS_HEAD else None


def _is_read_from(source: Path, path: Path) -> bool:
    """Whether ``path`` is the input ``source``, or a document in it if that is a folder of text files."""
    place, origin = real_path(path), real_path(source)
    if place == origin:
        return True
    is_text = path.is_file() and format_suffix(path) in (*TEXT_SUFFIXES, "")
    return source.is_dir() and is_text and place.is_relative_to(origin)
