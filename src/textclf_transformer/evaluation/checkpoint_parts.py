"""What a checkpoint says of its model besides the weights, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from textclf_transformer.config import ArchitectureSection, ChunkingSection, ClassificationHeadSection
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
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            "this checkpoint describes no model that this version can build",
            where=str(path),
            found=str(error).splitlines()[0],
            mend="use the version of textclf_transformer that wrote it",
        ) from error


def read_thresholds(content: Mapping[str, Any], path: Path) -> tuple[float, ...] | None:
    """Return the thresholds of several labels, None where the checkpoint has none.

    Raises:
        CheckpointError: they do not fit the labels.
    """
    found = content.get("thresholds")
    if found is None:
        return None
    sound = isinstance(found, list) and all(isinstance(value, float) and 0 <= value <= 1 for value in found)
    if not (content["multi_label"] and sound and len(found) == len(content["labels"])):
        raise CheckpointError(
            "the thresholds of this checkpoint do not fit its labels",
            where=f"{path}: thresholds",
            found=str(found)[:100],
            expected=f"{len(content['labels'])} numbers from 0 to 1, for several labels a document",
        )
    return tuple(found)


def read_data_fingerprints(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return split → fingerprint of the documents that the run was trained with, as far as they are named.

    Raises:
        CheckpointError: they are something else.
    """
    fingerprints = content.get("fingerprints", {})
    found = fingerprints.get("data", {}) if isinstance(fingerprints, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError("the fingerprints of this checkpoint are none", where=f"{path}: fingerprints")
    return dict(found)
