"""The pretraining run that a finetuning run starts from: its architecture, its tokenizer, its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from textclf_transformer.config import ArchitectureSection, FinetuningConfig, FinetuningDropoutsSection
from textclf_transformer.errors import CheckpointError, ConfigError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.loading import load_encoder
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.training.checkpoint import compute_digests, load_checkpoint
from textclf_transformer.training.run_tokenizer import load_run_tokenizer
from textclf_transformer.training.state import require_keys


@dataclass(frozen=True, slots=True)
class PretrainedRun:
    """What finetuning takes from pretraining, all of it from the checkpoint and the tokenizer beside it.

    Attributes:
        checkpoint: the file.
        architecture: as it was trained, with the dropouts that the finetuning config sets anew.
        tokenizer: the copy in the pretraining run.
        wrapper_path: how the tokenizer was named.
        state: the checkpoint's tensors.
        fingerprint: tells one checkpoint from another.
    """

    checkpoint: Path
    architecture: ArchitectureSection
    tokenizer: TokenizerWrapper
    wrapper_path: str
    state: Mapping[str, Tensor]
    fingerprint: str

    def load_weights(self, encoder: RobertaModel) -> None:
        """Copy the encoder's tensors, strictly; those of the masked-LM head are left behind.

        Raises:
            CheckpointError: a tensor is missing, left over or of another shape.
        """
        load_encoder(encoder, self.state, source=str(self.checkpoint))


def load_pretrained_run(config: FinetuningConfig, *, trust_code: bool) -> PretrainedRun:
    """Read the run that ``pretrained_experiment`` names.

    Raises:
        ConfigError: there is no such run.
        CheckpointError: it has no checkpoint yet, or one that cannot be read or is not of pretraining.
        DataError: its tokenizer cannot be read.
    """
    run = RunFolder.at(Path(config.pretrained_experiment.path))
    if not run.root.is_dir():
        raise ConfigError(
            "there is no such pretraining run",
            where=f"pretrained_experiment.path: {run.root}",
            mend=f"make it with: python experiments/generate_pretraining_experiment.py {run.name}",
        )
    path = _choose_checkpoint(run, config.pretrained_experiment.checkpoint)
    content = load_checkpoint(path)
    require_keys(content, ("model", "architecture", "tokenizer"), what=str(path))
    if "labels" in content:
        raise CheckpointError(
            "this is the checkpoint of a finetuning run",
            where=f"pretrained_experiment: {path}",
            expected="one of a pretraining run",
        )
    facts = content["tokenizer"]
    tokenizer = load_run_tokenizer(facts, run.tokenizer_dir, trust_code=trust_code)
    return PretrainedRun(
        checkpoint=path,
        architecture=_with_dropouts(content["architecture"], config.architecture.dropouts),
        tokenizer=tokenizer,
        wrapper_path=facts["wrapper_path"],
        state=content["model"],
        fingerprint=hashlib.sha256(json.dumps(compute_digests(content["model"])).encode("ascii")).hexdigest(),
    )


def _choose_checkpoint(run: RunFolder, choice: str) -> Path:
    if choice not in {"best", "last"} and not Path(choice).exists():
        raise CheckpointError(
            "there is no such checkpoint",
            where=f"pretrained_experiment.checkpoint: {choice}",
            expected="best, last or a file",
        )
    if choice == "best":
        path = run.best_checkpoint if run.best_checkpoint.exists() else run.checkpoint
    else:
        path = run.checkpoint if choice == "last" else Path(choice)
    if not path.exists():
        raise CheckpointError(
            "the pretraining run has no checkpoint",
            where=str(path),
            mend=f"train it first: python pretrain.py {run.name}",
        )
    return path


def _with_dropouts(architecture: dict[str, Any], dropouts: FinetuningDropoutsSection) -> ArchitectureSection:
    """Return the section, with the dropouts that are not None put in."""
    new = {name: value for name, value in dropouts.model_dump().items() if value is not None}
    merged = {**architecture, "dropouts": {**architecture["dropouts"], **new}}
    return ArchitectureSection.model_validate(merged)
