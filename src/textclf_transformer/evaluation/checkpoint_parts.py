"""What a checkpoint says of its model besides the weights, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from textclf_transformer.config import ArchitectureSection, ChunkingSection, ClassificationHeadSection
from textclf_transformer.config.rules import first_problem
from textclf_transformer.errors import CheckpointError


def read_sections(
    content: Mapping[str, Any], path: Path
) -> tuple[ArchitectureSection, ClassificationHeadSection, ChunkingSection]:
    """Return the encoder's shape, the head and the chunking that a finetuning checkpoint was trained with.

    Raises:
        CheckpointError: this version knows no such model.
    """
    with of_a_known_model(path):
        config = content["config"]
        return (
            ArchitectureSection.model_validate(content["architecture"]),
            ClassificationHeadSection.model_validate(config["classification_head"]),
            ChunkingSection.model_validate(config["chunking"]),
        )


@contextlib.contextmanager
def of_a_known_model(path: Path) -> Iterator[None]:
    """Raise CheckpointError, naming ``path``, where a section read inside is not one of this version."""
    try:
        yield
    except KeyError as error:
        raise _unknown_model(path, found=f"no {error.args[0]}") from error
    except ValidationError as error:
        problem = first_problem(error)
        found = f"{problem.found} as {problem.key}"
        raise _unknown_model(path, found=found, expected=problem.expected) from error


def _unknown_model(path: Path, *, found: str, expected: str | None = None) -> CheckpointError:
    return CheckpointError(
        "this checkpoint describes no model that this version can build",
        where=str(path),
        found=found,
        expected=expected,
        mend="use the version of textclf_transformer that wrote it",
    )


def read_thresholds(content: Mapping[str, Any], path: Path) -> tuple[float, ...] | None:
    """Return the thresholds of several labels, None where the checkpoint has none.

    Raises:
        CheckpointError: they do not fit the labels.
    """
    found = content.get("thresholds")
    if found is None:
        return None
    sound = isinstance(found, list) and all(isinstance(value, float) and 0 <= value <= 1 for value in found)
    num_labels = len(content.get("labels", ()))
    if not (content.get("multi_label") and sound and len(found) == num_labels):
        raise CheckpointError(
            "the thresholds of this checkpoint do not fit its labels",
            where=f"{path}: thresholds",
            found=str(found)[:100],
            expected=f"{num_labels} numbers from 0 to 1, for several labels a document",
        )
    return tuple(found)
