"""The shortest configs that are whole, loaded from a file, and the lines of what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf_transformer.config import FinetuningConfig, PretrainingConfig, load_config
from textclf_transformer.errors import ConfigError
from textclf_transformer.experiment import Kind

PRETRAINING = """\
experiment:
  name: pre
tokenizer:
  vocab_dir: vocab
data:
  train:
    dataset_path: train
"""
FINETUNING = """\
experiment:
  name: ft
pretrained_experiment:
  path: pre
data:
  train: {dataset_path: train}
"""


def load(
    path: Path, text: str, *overrides: str, kind: Kind = "pretraining"
) -> PretrainingConfig | FinetuningConfig:
    path.write_text(text, encoding="utf-8")
    return load_config(path, kind, overrides)


def problems(path: Path, text: str, *overrides: str, kind: Kind = "pretraining") -> list[str]:
    """Return the lines of the error, the folder of the file left out."""
    with pytest.raises(ConfigError) as caught:
        load(path, text, *overrides, kind=kind)
    assert caught.value.exit_code == 2
    assert all(line.isprintable() for line in caught.value.lines)
    return [line.replace(f"{path.parent}/", "") for line in caught.value.lines]
