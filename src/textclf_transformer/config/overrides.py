"""``--set KEY=VALUE``: reading it, and laying it over what a file says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textclf_transformer.config.keys import allowed_values, fields_of
from textclf_transformer.config.rules import Problem
from textclf_transformer.config.yaml_reader import YamlError, read_value
from textclf_transformer.errors import ConfigError
from textclf_transformer.experiment import Kind

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
_QUOTED = re.compile(r"'(?:[^']|'')*'" + r'|"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Override:
    """One ``--set``.

    Attributes:
        key: the dotted key.
        value: the value; a text as it was typed, all else read as YAML.
    """

    key: str
    value: Any


def parse_overrides(texts: Sequence[str], kind: Kind) -> tuple[list[Override], list[str]]:
    """Return the overrides that can be read, and a line, without the value, for each that cannot.

    Args:
        texts: ``KEY=VALUE`` each; text is taken as it stands, unless quotes make it YAML.
        kind: the config they are for, whose schema knows which keys hold text.
    """
    overrides: list[Override] = []
    problems: list[str] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or _KEY.fullmatch(key) is None:
            error = ConfigError(
                "not an assignment", where=f"--set {key[:80]}", expected="KEY=VALUE, e.g. training.epochs=3"
            )
            problems += error.lines
            continue
        try:
            overrides.append(Override(key, _read(key, value, kind)))
        except YamlError as error:
            problems += ConfigError(
                str(error), where=f"--set {key}", mend="put text in quotes, leave comments out"
            ).lines
    return overrides, problems


def _read(key: str, value: str, kind: Kind) -> Any:
    allowed = allowed_values(key, kind) if key in fields_of(kind) else ""
    # YAML would cut the folder "a #1", refuse "a: b" and make "2024" a number.
    is_text = allowed == "text" or (allowed == "text or null" and value != "null")
    if is_text and _QUOTED.fullmatch(value) is None:
        return value
    return read_value(value)


def apply_overrides(data: dict[str, Any], overrides: Iterable[Override]) -> list[Problem]:
    """Write the overrides into ``data``, in order; returns what does not fit the shape of the file."""
    problems = []
    for override in overrides:
        *parents, name = override.key.split(".")
        section = data
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                problems.append(
                    Problem(override.key, f"{parent} holds a value, so no key can stand below it")
                )
                break
        else:
            section[name] = override.value
    return problems
