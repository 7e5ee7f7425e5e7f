"""The one reader of config files: YAML, command line and schema meet here, all problems come out at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from textclf_transformer.config.keys import allowed_values, fields_of, nearest_key, section_of
from textclf_transformer.config.overrides import Override, apply_overrides, parse_overrides
from textclf_transformer.config.rules import BROKEN_RULE, Problem
from textclf_transformer.config.schema import CONFIGS, FinetuningConfig, PretrainingConfig
from textclf_transformer.config.section import Section
from textclf_transformer.config.yaml_reader import MAX_BYTES, Document, YamlError, read_mapping
from textclf_transformer.errors import ConfigError, StorageError
from textclf_transformer.experiment import Kind

PLACEHOLDER = "<FILL IN>"
SECRET_WORDS = frozenset({"key", "token", "secret", "password", "credential", "credentials"})


@overload
def load_config(
    path: Path, kind: Literal["pretraining"], overrides: Sequence[str] = ()
) -> PretrainingConfig: ...


@overload
def load_config(
    path: Path, kind: Literal["finetuning"], overrides: Sequence[str] = ()
) -> FinetuningConfig: ...


def load_config(
    path: Path, kind: Kind, overrides: Sequence[str] = ()
) -> PretrainingConfig | FinetuningConfig:
    """Read and check a config; precedence: ``overrides`` over the file over the defaults.

    Args:
        path: the YAML file.
        kind: which config it is.
        overrides: ``KEY=VALUE`` texts as given to ``--set``; the last of two for one key counts.

    Raises:
        ConfigError: the file is missing or wrong; carries every problem with its line, or with its ``--set``.
        StorageError: the file cannot be read.
    """
    config, problems, unfilled = _check(path, kind, overrides)
    if problems or unfilled or config is None:
        raise ConfigError.from_problems([*problems, *unfilled.values()])
    return config


def unfilled_keys(path: Path, kind: Kind, overrides: Sequence[str]) -> list[str]:
    """Check a config in which keys may still hold the template's placeholder, and return these keys.

    Raises:
        ConfigError: as ``load_config``; placeholders are none of the problems.
        StorageError: as ``load_config``.
    """
    _, problems, unfilled = _check(path, kind, overrides)
    if problems:
        raise ConfigError.from_problems(problems)
    return list(unfilled)


def _check(
    path: Path, kind: Kind, overrides: Sequence[str]
) -> tuple[PretrainingConfig | FinetuningConfig | None, list[str], dict[str, str]]:
    """Return the config, what is wrong with it, and what is still to be filled in."""
    document = read_document(path)
    parsed, problems = parse_overrides(overrides, kind)
    origins = _Origins(path, document.lines, parsed)
    problems += [origins.describe(Problem(key, what), line=line) for key, line, what in document.problems]
    problems += [origins.describe(problem) for problem in apply_overrides(document.data, parsed)]
    unfilled = {problem.key: origins.describe(problem) for problem in _unfilled(document.data, kind)}
    config, broken = _validate(document.data, kind)
    problems += [origins.describe(problem) for problem in broken if problem.key not in unfilled]
    return config, problems, unfilled


def _unfilled(data: dict[str, Any], kind: Kind) -> Iterator[Problem]:
    for key, value in flatten(data).items():
        if value == PLACEHOLDER and key in fields_of(kind):
            expected = fields_of(kind)[key].description
            yield Problem(key, "this key still has to be filled in", found=PLACEHOLDER, expected=expected)


def _validate(
    data: dict[str, Any], kind: Kind
) -> tuple[PretrainingConfig | FinetuningConfig | None, list[Problem]]:
    """Return the config that ``data`` describes, or None and what is wrong with it, one problem per key."""
    model = CONFIGS[kind]
    try:
        return model.model_validate(_with_required_sections(data, model)), []
    except ValidationError as error:
        return None, list({problem.key: problem for problem in _problems_of(error, kind)}.values())


def flatten(data: dict[str, Any], parent: str = "") -> dict[str, Any]:
    """Return ``{"training.epochs": 3, …}`` for nested mappings; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        dotted = f"{parent}.{name}" if parent else str(name)
        if isinstance(value, dict) and value:
            flat.update(flatten(value, dotted))
        else:
            flat[dotted] = value
    return flat


def read_document(path: Path) -> Document:
    """Read the YAML of ``path`` without checking it against a schema; errors as for ``load_config``."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError("there is no such config file", where=str(path)) from error
    except OSError as error:
        raise StorageError(
            "cannot read the config", where=str(path), found=error.strerror or str(error)
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            "this is too large for a config", where=str(path), expected=f"at most {MAX_BYTES} bytes"
        )
    try:
        return read_mapping(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "the config is not UTF-8", where=f"{path}:{line}", mend="save it as UTF-8"
        ) from error
    except YamlError as error:
        raise ConfigError(str(error), where=f"{path}:{error.line}") from error


class _Origins:
    """Knows where each key was given: in which line, or by which ``--set``."""

    def __init__(self, path: Path, lines: dict[str, int], overrides: Iterable[Override]) -> None:
        self._path = path
        self._lines = lines
        # A --set of a.b.c is also what put a and a.b there, unless the file has them.
        self._overridden: dict[str, Override] = {}
        for override in overrides:
            parts = override.key.split(".")
            ancestors = [".".join(parts[:count]) for count in range(1, len(parts))]
            self._overridden.update({key: override for key in ancestors if key not in lines})
            self._overridden[override.key] = override

    def describe(self, problem: Problem, *, line: int | None = None) -> str:
        """Return the problem as one line for the user."""
        return ConfigError(
            problem.what,
            where=self._where(problem.key, line),
            found=problem.found,
            expected=problem.expected,
            mend=problem.mend,
        ).lines[0]

    def _where(self, key: str, line: int | None) -> str:
        override = self._overridden.get(key)
        if line is None and override is not None:
            return f"--set {override.key}"
        # A key that is missing has no line; the section in which it is missed has one.
        ancestor = key
        while line is None and ancestor:
            line = self._lines.get(ancestor)
            ancestor = ancestor.rpartition(".")[0]
        place = str(self._path) if line is None else f"{self._path}:{line}"
        return f"{place}, {key}" if key else place


def _with_required_sections(data: dict[str, Any], model: type[Section]) -> dict[str, Any]:
    """Return a copy with the required sections present, so that each key missing in them is named."""
    filled = dict(data)
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is not None and field.is_required() and isinstance(filled.get(name, {}), dict):
            filled[name] = _with_required_sections(filled.get(name, {}), section)
    return filled


def _problems_of(error: ValidationError, kind: Kind) -> Iterable[Problem]:
    for details in error.errors(include_url=False):
        if details["type"] == BROKEN_RULE:
            yield from (Problem(**problem) for problem in details["ctx"]["problems"])
        elif details["type"] == "extra_forbidden":
            yield _unknown_key(".".join(str(part) for part in details["loc"]), kind)
        else:
            yield _bad_value(details, kind)


def _unknown_key(key: str, kind: Kind) -> Problem:
    meant = nearest_key(key, kind)
    mend = f"did you mean {meant}?" if meant else None
    other: Kind = "finetuning" if kind == "pretraining" else "pretraining"
    if kind == "finetuning" and key.startswith("architecture.") and key in fields_of("pretraining"):
        return Problem(key, "finetuning takes this from the pretraining checkpoint", mend="remove this key")
    section = key.split(".")[0]
    if key in fields_of(other) or (section in fields_of(other) and section not in fields_of(kind)):
        return Problem(key, f"this key belongs to the config of {other}", mend="remove it")
    words = key.rpartition(".")[2].lower().replace("-", "_").split("_")
    if words[-1] in SECRET_WORDS:
        secret = "keys and passwords come from the environment (WANDB_API_KEY …), never from a config"
        return Problem(key, "unknown key", mend=f"{secret}; {mend}" if mend else secret)
    return Problem(key, "unknown key", mend=mend or "config_templates/ lists all keys")


def _bad_value(details: ErrorDetails, kind: Kind) -> Problem:
    """Say what is wrong with a value; pydantic reports each option of a union, under a longer location."""
    parts = [str(part) for part in details["loc"]]
    inner: list[str] = []
    while parts and ".".join(parts) not in fields_of(kind):
        inner.insert(0, parts.pop())
    key = ".".join(parts)
    # of a section in a list, as training.freeze has them, the place in the list and the key
    name = inner[-1] if len(inner) > 1 and inner[0].isdecimal() else None
    if key == "tokenizer" and kind == "finetuning":
        return Problem(
            key, "finetuning takes the tokenizer from the pretraining run", expected="null", mend="remove it"
        )
    if details["type"] == "missing":
        found = None if name is None else f"a section without {name}"
        return Problem(
            key, "this key is missing", found=found, expected=allowed_values(key, kind), mend="add it"
        )
    expected = details["ctx"]["expected"] if details["type"] == "wrong_value" else allowed_values(key, kind)
    found = _as_written(details["input"])
    return Problem(key, "wrong value", found=found if name is None else f"{name}: {found}", expected=expected)


def _as_written(value: object) -> str:
    """Return a value as YAML would have it, cut to what fits a line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "keys below it"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
