"""From a config back to plain data, to YAML and to absolute paths."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml

from textclf_transformer.config.schema import FinetuningConfig, PretrainingConfig
from textclf_transformer.config.section import Section
from textclf_transformer.config.yaml_reader import SCALARS
from textclf_transformer.experiment import RUN_NAME, RunFolder, is_hub_name

AnyConfig = TypeVar("AnyConfig", PretrainingConfig, FinetuningConfig)
AnySection = TypeVar("AnySection", bound=Section)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or YAML 1.2 would take for something else than text."""


for _tag, _pattern, _first in SCALARS:
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern.pattern})$"), _first)


def config_to_dict(config: Section) -> dict[str, Any]:
    """Return the config, or a section of it, as plain Python values; paths as text."""
    return config.model_dump(mode="json")


def dump_yaml(data: dict[str, Any]) -> str:
    """Return ``data`` as YAML that ``load_config`` reads back to the same values; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


def resolve_paths(config: AnyConfig, base: Path) -> AnyConfig:
    """Return the config with absolute paths: relative ones start at ``base``, ``~`` is the home folder.

    The name of a pretraining run becomes the path of its folder; a checkpoint file and a tokenizer file count
    as paths, the name of a model on Hugging Face's hub stays.
    """
    resolved = _resolve_section(config, base)
    if isinstance(resolved, FinetuningConfig):
        source = resolved.pretrained_experiment
        checkpoint = source.checkpoint
        if checkpoint not in {"best", "last"}:
            checkpoint = str(absolute(Path(checkpoint), base))
        path = None if source.path is None else str(pretraining_folder(source.path, base))
        from_hf = source.from_hf
        if from_hf is not None and not is_hub_name(from_hf, base):
            from_hf = str(absolute(Path(from_hf), base))
        updated = source.model_copy(update={"path": path, "from_hf": from_hf, "checkpoint": checkpoint})
        return resolved.model_copy(update={"pretrained_experiment": updated})
    location, _, class_name = resolved.tokenizer.wrapper_path.rpartition(":")
    if location.endswith(".py"):
        wrapper_path = f"{absolute(Path(location), base)}:{class_name}"
        tokenizer = resolved.tokenizer.model_copy(update={"wrapper_path": wrapper_path})
        return resolved.model_copy(update={"tokenizer": tokenizer})
    return resolved


def pretraining_folder(name_or_path: str, base: Path) -> Path:
    """Return the folder of a pretraining run; a single word is a run's name, ``./word`` a path."""
    if RUN_NAME.fullmatch(name_or_path):
        return RunFolder.locate("pretraining", name_or_path).root
    return absolute(Path(name_or_path), base)


def _resolve_section(section: AnySection, base: Path) -> AnySection:
    updates: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            updates[name] = _resolve_section(value, base)
        elif isinstance(value, Path):
            updates[name] = absolute(value, base)
    return section.model_copy(update=updates)


def absolute(path: Path, base: Path) -> Path:
    """Return ``path``, a relative one from ``base`` on; ``~`` is the home folder, where there is one."""
    # Not Path.resolve: a path through a symbolic link stays as the user wrote it. Not Path.expanduser: it
    # fails where nobody has such a home.
    return Path(os.path.abspath(base / os.path.expanduser(path)))  # noqa: PTH100, PTH111


def in_line(value: Any) -> str:
    """Return a plain value as YAML on one line, such that it may stand after ``key:`` or inside ``{}``."""
    dumped: str = yaml.dump(
        {"k": value}, Dumper=_Dumper, allow_unicode=True, default_flow_style=True, width=float("inf")
    )
    return dumped.strip().removeprefix("{k: ").removesuffix("}")
