"""Folders in Hugging Face's layout: config.json, the weights, and a head's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from textclf_transformer.atomic import atomic_write, atomic_write_json
from textclf_transformer.errors import CheckpointError, StorageError, UsageError, first_line
from textclf_transformer.model.hf_config import CONFIG_FILE, HfConfig, parse_hf_config
from textclf_transformer.model.pretrained import roberta_state_from_hf, without_old_names
from textclf_transformer.model.pretrained_bert import bert_state_from_hf
from textclf_transformer.model.pretrained_deberta import deberta_state_from_hf
from textclf_transformer.safe_load import safe_load

WEIGHTS_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"
HEAD_CONFIG_FILE = "head.json"
HEAD_WEIGHTS_FILE = "head.safetensors"

_LARGEST_JSON = 10_000_000  # bytes; id2label of many labels takes some


def read_hf_folder(folder: Path) -> tuple[HfConfig, dict[str, Tensor]]:
    """Read a folder that Hugging Face's ``save_pretrained`` or our ``to_hf`` wrote.

    Args:
        folder: with config.json and model.safetensors or, failing that, pytorch_model.bin.

    Returns:
        The config, and the tensors by our names, the encoder's under ``encoder.``.

    Raises:
        CheckpointError: a file is missing, damaged, or of a model that this encoder is not.
    """
    if folder.is_dir() and not (folder / CONFIG_FILE).exists():
        raise CheckpointError(
            f"there is no {CONFIG_FILE}",
            where=str(folder),
            expected=f"a folder in Hugging Face's layout: {CONFIG_FILE}, {WEIGHTS_FILE}, tokenizer.json",
            mend="save the model there with save_pretrained, or name another folder",
        )
    config = parse_hf_config(read_json(folder / CONFIG_FILE), where=str(folder / CONFIG_FILE))
    theirs = without_old_names(_read_weights(folder))
    try:
        if config.model_type == "deberta":
            state = deberta_state_from_hf(theirs, num_attention_heads=config.num_attention_heads)
        elif config.model_type == "bert":
            state = bert_state_from_hf(theirs, pad_token_id=config.pad_token_id)
        else:
            state = roberta_state_from_hf(theirs, pad_token_id=config.pad_token_id)
    except CheckpointError as fault:  # which names tensors, but not where they come from
        raise CheckpointError(str(fault), where=str(folder)) from fault
    except (RuntimeError, IndexError) as fault:  # what torch says of shapes that cannot be put together
        raise CheckpointError(
            "these tensors make no such model", where=str(folder), found=first_line(fault)
        ) from fault
    config.check_shapes(state, source=str(folder))
    return config, state


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: it is missing, too large, not JSON, or not an object.
        StorageError: the disk or the permissions keep it from being read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_JSON + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as fault:
        raise CheckpointError(f"there is no {path.name}", where=str(path)) from fault
    except OSError as fault:
        raise StorageError(f"cannot read this file: {fault.strerror or fault}", where=str(path)) from fault
    if len(content) > _LARGEST_JSON:
        raise CheckpointError(
            "this file is too large", where=str(path), expected=f"at most {_LARGEST_JSON} bytes"
        )
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as fault:
        raise CheckpointError("this file is not JSON", where=str(path), found=fault) from fault
    if not isinstance(value, dict):
        raise CheckpointError("this file holds no JSON object", where=str(path), found=type(value).__name__)
    return value


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS_FILE).exists():
        return read_safetensors(folder / WEIGHTS_FILE)
    if not (folder / PICKLE_FILE).exists():
        raise CheckpointError(f"there is neither {WEIGHTS_FILE} nor {PICKLE_FILE}", where=str(folder))
    state = safe_load(folder / PICKLE_FILE, error=CheckpointError)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise CheckpointError("this file holds no tensors by name", where=str(folder / PICKLE_FILE))
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: it is missing or damaged.
        StorageError: the disk or the permissions keep it from being read.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError as fault:
        raise CheckpointError(f"there is no {path.name}", where=str(path)) from fault
    except OSError as fault:
        raise StorageError(f"cannot read this file: {fault.strerror or fault}", where=str(path)) from fault
    except SafetensorError as fault:
        raise CheckpointError("this file is damaged", where=str(path), found=fault) from fault
    return tensors


def write_hf_folder(
    folder: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    head_config: Mapping[str, Any] | None = None,
    head_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model in Hugging Face's layout.

    config.json comes last, so that a part of a model never looks whole.

    Args:
        folder: created if need be; must not hold a model.
        config: for config.json.
        tensors: for model.safetensors, by Hugging Face's names.
        head_config: for head.json; a head that Hugging Face has no class for.
        head_tensors: for head.safetensors, by our names.

    Raises:
        UsageError: there is a model in the folder already; nothing is overwritten.
        StorageError: the disk is full, a permission is missing …
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE, PICKLE_FILE, HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE):
        if (folder / name).exists():
            raise UsageError(
                "there is a model in this folder already",
                where=str(folder / name),
                mend="name a new folder or delete this one",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise StorageError(
            f"cannot create this folder: {fault.strerror or fault}", where=str(folder)
        ) from fault
    _write_tensors(folder / WEIGHTS_FILE, tensors)
    if head_tensors is not None:
        _write_tensors(folder / HEAD_WEIGHTS_FILE, head_tensors)
    if head_config is not None:
        atomic_write_json(folder / HEAD_CONFIG_FILE, _plain(head_config))
    atomic_write_json(folder / CONFIG_FILE, _plain(config))


def _plain(config: Mapping[str, Any]) -> Any:
    """Return a config with numpy's numbers, which a notebook may have built the model with, as Python's."""
    return json.loads(json.dumps(dict(config), default=np.generic.item))


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    separate = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(separate, metadata={"format": "pt"})
    atomic_write(path, lambda stream: stream.write(content))


def label_entries(label_names: Sequence[str] | None, num_labels: int) -> dict[str, Any]:
    """Return ``id2label`` and ``label2id`` for config.json; without names Hugging Face's LABEL_0, LABEL_1 …

    Raises:
        ValueError: there are more or fewer names than labels, or a name twice.
    """
    names = [f"LABEL_{i}" for i in range(num_labels)] if label_names is None else list(label_names)
    if len(names) != num_labels or len(set(names)) != num_labels:
        raise ValueError(f"{num_labels} label names without repetition are needed, found {names}")
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {n: i for i, n in enumerate(names)},
    }
