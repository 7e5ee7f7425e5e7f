"""Classifiers that Hugging Face has no class for: its encoder, the rest in head.json and head.safetensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from textclf_transformer.errors import CheckpointError, first_line
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.model.hf_encoder import hf_class, hf_settings, hf_tensors
from textclf_transformer.model.hf_folder import (
    HEAD_CONFIG_FILE,
    HEAD_WEIGHTS_FILE,
    label_entries,
    read_hf_folder,
    read_json,
    read_safetensors,
    write_hf_folder,
)
from textclf_transformer.model.loading import build_loaded
from textclf_transformer.model.pretrained import ENCODER_PREFIX

Classifier = TypeVar("Classifier", bound=EncoderClassifier)


def write_classifier(model: EncoderClassifier, folder: Path, *, label_names: Sequence[str] | None) -> None:
    """Write a classifier.

    Args:
        model: its ``settings`` are the keywords that build it again.
        folder: created if need be; must not hold a model.
        label_names: see ``label_entries``.

    Raises:
        UsageError: there is a model in the folder already.
        StorageError: the disk is full, a permission is missing …
        ValueError: the names are not L different ones.
    """
    state = model.state_dict()
    encoder = {name: tensor for name, tensor in state.items() if name.startswith(ENCODER_PREFIX)}
    write_hf_folder(
        folder,
        config={
            **hf_settings(model.encoder),
            "architectures": [hf_class(model.encoder, "Model")],
            **label_entries(label_names, model.num_labels),
        },
        tensors=hf_tensors(model.encoder, encoder, bare=True),
        head_config={"model": type(model).__name__, "settings": model.settings},
        head_tensors={name: tensor for name, tensor in state.items() if name not in encoder},
    )


def load_classifier(kind: type[Classifier], folder: Path) -> Classifier:
    """Load what ``write_classifier`` wrote.

    Args:
        kind: the class; another one in head.json is an error. Nothing is imported by a name in the folder.
        folder: where the files lie.

    Raises:
        CheckpointError: a file is missing or damaged, settings are wrong, or tensors are missing or
            unexpected.
    """
    where = str(folder / HEAD_CONFIG_FILE)
    head = read_json(folder / HEAD_CONFIG_FILE)
    if head.get("model") != kind.__name__:
        raise CheckpointError(
            "this head is of another model", where=where, found=head.get("model"), expected=kind.__name__
        )
    config, encoder_state = read_hf_folder(folder)
    head_state = read_safetensors(folder / HEAD_WEIGHTS_FILE)
    state = encoder_state | head_state

    def build() -> Classifier:
        return _build(kind, RobertaModel.from_hf_config(config), head.get("settings"), where=where)

    model, report = build_loaded(build, state, source=str(folder))
    report.log()
    return model


def _build(kind: type[Classifier], encoder: RobertaModel, settings: object, *, where: str) -> Classifier:
    types = kind.SETTING_TYPES
    if isinstance(settings, dict):
        settings = {**kind.ADDED_SETTINGS, **settings}
    if not isinstance(settings, dict) or settings.keys() != types.keys():
        found = sorted(settings) if isinstance(settings, dict) else type(settings).__name__
        raise CheckpointError(
            "the settings are not those of this model", where=where, found=found, expected=str(sorted(types))
        )
    for name, value in settings.items():
        if type(value) not in types[name]:
            raise CheckpointError(f"the setting {name} has a wrong type", where=where, found=repr(value))
        if isinstance(value, float) and not math.isfinite(value):  # JSON has none, but Python reads them
            raise CheckpointError(f"the setting {name} is no number", where=where, found=value)
    try:
        return kind(encoder, **settings)
    except (ValueError, RuntimeError, TypeError) as fault:  # of torch, for what fits into no 64 bits
        raise CheckpointError("the settings make no model", where=where, found=first_line(fault)) from fault
