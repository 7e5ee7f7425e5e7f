"""What a finetuning run starts from: encoder and tokenizer of a pretraining run, or published ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from textclf_transformer.config import (
    ArchitectureSection,
    FinetuningConfig,
    FinetuningDropoutsSection,
    config_to_dict,
    load_config,
    resolve_paths,
)
from textclf_transformer.config.results import results_folder
from textclf_transformer.config.rules import first_problem
from textclf_transformer.errors import CheckpointError, ConfigError
from textclf_transformer.evaluation.checkpoint_parts import of_a_known_model
from textclf_transformer.experiment import RunFolder
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hf_config import CONFIG_FILE, HfConfig
from textclf_transformer.model.hf_folder import read_hf_folder
from textclf_transformer.model.hf_hub import local_folder
from textclf_transformer.model.loading import LoadReport, fit_encoder, load_encoder
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.files import TOKENIZER_FILE
from textclf_transformer.tokenizer.loading import load_tokenizer, tokenizer_kind
from textclf_transformer.training.building import attention_backend_of, build_encoder
from textclf_transformer.training.checkpoint import compute_digests, load_checkpoint
from textclf_transformer.training.run_tokenizer import load_run_tokenizer
from textclf_transformer.training.state import require_keys


@dataclass(frozen=True, slots=True)
class PretrainedEncoder:
    """What finetuning takes over, all of it as it was resolved where the weights were made.

    Attributes:
        source: the checkpoint or the folder with the weights; without any the config of the run.
        architecture: as it was trained, with the dropouts that the finetuning config sets anew.
        longest_sequence: why ``architecture.max_sequence_length`` is what it is, for the user.
        tokenizer: the one that the weights were trained with.
        wrapper_path: how the tokenizer is named.
        state: the tensors by our names, the encoder's under ``encoder.``; none where only a shape is read.
        fingerprint: tells these weights from others.
    """

    source: Path
    architecture: ArchitectureSection
    longest_sequence: str
    tokenizer: TokenizerWrapper
    wrapper_path: str
    state: Mapping[str, Tensor]
    fingerprint: str

    def build(self, *, device: torch.device, amp_dtype: torch.dtype | None) -> RobertaModel:
        """Return a randomly initialised encoder of this shape, on the default device."""
        return build_encoder(
            self.architecture,
            vocab_size=self.tokenizer.vocab_size,
            pad_token_id=self.tokenizer.pad_token_id,
            attention_backend=attention_backend_of(
                self.architecture, device=device, amp_dtype=amp_dtype
            ).name,
        )

    def check_weights(self) -> LoadReport:
        """Compare the tensors with the encoder, without the memory that loading takes.

        Raises:
            CheckpointError: a tensor of the encoder is missing, unknown or of another shape.
        """
        with torch.device("meta"):
            encoder = self.build(device=torch.device("cpu"), amp_dtype=None)
        return fit_encoder(encoder, self.state, source=str(self.source))

    def load_weights(self, encoder: RobertaModel) -> LoadReport:
        """Copy the encoder's tensors, strictly; those of a head are left behind and listed.

        Raises:
            CheckpointError: a tensor of the encoder is missing, unknown or of another shape.
        """
        return load_encoder(encoder, self.state, source=str(self.source))


def load_pretrained(config: FinetuningConfig, *, trust_code: bool) -> PretrainedEncoder:
    """Read the pretraining run or the published weights that ``pretrained_experiment`` names.

    A run that was not trained yet will do where its weights would not be loaded: its config has the shape.

    Raises:
        ConfigError: there is no such run or folder.
        CheckpointError: it has no weights yet and they are to be loaded, or some that cannot be read, do not
            fit the tokenizer or are not of pretraining.
        DataError: its tokenizer cannot be read.
    """
    source = config.pretrained_experiment
    if source.from_hf is not None:
        pretrained = read_published(source.from_hf)
    else:
        assert source.path is not None  # the section sees to it
        configured = RunFolder.at(Path(source.path))
        run = results_folder(configured, by_name=False)
        by_file = source.checkpoint not in {"best", "last"}
        has_weights = by_file or _checkpoint_of(run, source.checkpoint).exists()
        if source.load_weights or has_weights or not configured.root.is_dir():
            pretrained = _read_run(run, source.checkpoint, trust_code=trust_code)
        else:
            pretrained = _read_untrained(configured, trust_code=trust_code)
    architecture = with_dropouts(pretrained.architecture, config.architecture.dropouts)
    return replace(pretrained, architecture=architecture)


def read_published(name: str) -> PretrainedEncoder:
    """Read published weights: config.json, model.safetensors or pytorch_model.bin, tokenizer.json.

    Args:
        name: a folder, or the name of a model on the hub.

    Raises:
        ConfigError: there is no such folder, or the hub's client cannot get the model.
        CheckpointError: a file is missing or damaged, the model is no RoBERTa, BERT or DeBERTa, or weights
            and tokenizer do not belong together.
        DataError: the tokenizer cannot be read.
    """
    folder = local_folder(name)
    if not folder.is_dir():
        raise ConfigError(
            "there is no such folder with published weights",
            where=f"pretrained_experiment.from_hf: {folder}",
            expected=f"a folder with {CONFIG_FILE}, model.safetensors and {TOKENIZER_FILE}, or a model on "
            "Hugging Face's hub as owner/name (FacebookAI/roberta-base)",
        )
    hf_config, state = read_hf_folder(folder)
    wrapper_path = tokenizer_kind(folder)
    tokenizer = load_tokenizer(wrapper_path, folder)
    size = tokenizer.vocab_size
    cut = f", or cut the rows that no token has with transformers' resize_token_embeddings({size})"
    pad = tokenizer.pad_token_id
    # multilingual BERTs may have XLM-RoBERTa's tokenizer, with BERT's PAD id in config.json nevertheless
    same = f', or set "pad_token_id": {pad} in {CONFIG_FILE} if it is: a BERT computes the same with any'
    for what, found, expected, or_else in (
        ("number of tokens", size, hf_config.vocab_size, cut if size < hf_config.vocab_size else ""),
        ("id of the padding token", pad, hf_config.pad_token_id, same * (hf_config.model_type == "bert")),
    ):
        if found != expected:
            raise CheckpointError(
                f"{TOKENIZER_FILE} and {CONFIG_FILE} disagree about the {what}",
                where=str(folder),
                found=found,
                expected=f"{expected}, as {CONFIG_FILE} says",
                mend=f"use the tokenizer that the weights were trained with{or_else}",
            )
    architecture = _architecture_of(hf_config, where=str(folder / CONFIG_FILE))
    return PretrainedEncoder(
        source=folder,
        architecture=architecture,
        longest_sequence=_explain_positions(hf_config, architecture.max_sequence_length),
        tokenizer=tokenizer,
        wrapper_path=wrapper_path,
        state=state,
        # by name: the order of the tensors differs between the two kinds of files
        fingerprint=_fingerprint(
            {**dict(sorted(state.items())), "architecture": config_to_dict(architecture)}
        ),
    )


def _architecture_of(config: HfConfig, *, where: str) -> ArchitectureSection:
    standard = config.attention_kind == "standard"
    try:
        return ArchitectureSection.model_validate(
            {
                "max_sequence_length": config.max_position_embeddings - config.pad_token_id - 1,
                "embedding_dim": config.hidden_size,
                "num_layers": config.num_hidden_layers,
                "ffn_dim": config.intermediate_size,
                "layer_norm_eps": config.layer_norm_eps,
                "attention": {
                    "kind": config.attention_kind,
                    "num_heads": config.num_attention_heads,
                    "max_relative_positions": None if standard else config.max_relative_positions,
                },
                "dropouts": {
                    "embedding": config.embedding_dropout_prob,
                    "attention": config.attention_probs_dropout_prob,
                    "hidden": config.hidden_dropout_prob,
                },
            }
        )
    except ValidationError as error:
        problem = first_problem(error)
        raise CheckpointError(
            "the model has a size or a number that no config of ours allows",
            where=f"{where}, our architecture.{problem.key.removeprefix('architecture.')}",
            found=problem.found,
            expected=problem.expected,
        ) from error


def _explain_positions(config: HfConfig, longest: int) -> str:
    if config.model_type != "roberta":
        return f"max_position_embeddings {longest} of its {CONFIG_FILE}"
    rows, unused = config.max_position_embeddings, config.pad_token_id + 1
    return (
        f"the {rows} positions of its {CONFIG_FILE} less the first {unused}, which no token uses, since "
        f"RoBERTa counts from the PAD id {config.pad_token_id} on"
    )


def _read_run(run: RunFolder, choice: str, *, trust_code: bool) -> PretrainedEncoder:
    if not run.root.is_dir():
        raise ConfigError(
            "there is no such pretraining run",
            where=f"pretrained_experiment.path: {run.root}",
            mend=f"make it with: python experiments/generate_pretraining_experiment.py {run.name}",
        )
    path = _choose_checkpoint(run, choice)
    content = load_checkpoint(path)
    require_keys(content, ("model", "architecture", "tokenizer"), what=str(path))
    if "labels" in content:
        raise CheckpointError(
            "this is the checkpoint of a finetuning run",
            where=f"pretrained_experiment: {path}",
            expected="one of a pretraining run",
        )
    with of_a_known_model(path):
        architecture = ArchitectureSection.model_validate(content["architecture"])
    facts = content["tokenizer"]
    tokenizer = load_run_tokenizer(facts, run.tokenizer_dir, trust_code=trust_code)
    return PretrainedEncoder(
        source=path,
        architecture=architecture,
        longest_sequence="as the encoder was pretrained with",
        tokenizer=tokenizer,
        wrapper_path=facts["wrapper_path"],
        state=content["model"],
        fingerprint=_fingerprint(content["model"]),
    )


def _read_untrained(run: RunFolder, *, trust_code: bool) -> PretrainedEncoder:
    config = resolve_paths(load_config(run.config, "pretraining"), Path.cwd())
    wrapper_path = config.tokenizer.wrapper_path
    return PretrainedEncoder(
        source=run.config,
        architecture=config.architecture,
        longest_sequence="as the config of the pretraining says",
        tokenizer=load_tokenizer(wrapper_path, config.tokenizer.vocab_dir, trust_code=trust_code),
        wrapper_path=wrapper_path,
        state={},
        fingerprint="random weights",
    )


def _fingerprint(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(compute_digests(state)).encode("ascii")).hexdigest()


def _choose_checkpoint(run: RunFolder, choice: str) -> Path:
    if choice not in {"best", "last"} and not Path(choice).exists():
        raise CheckpointError(
            "there is no such checkpoint",
            where=f"pretrained_experiment.checkpoint: {choice}",
            expected="best, last or a file",
        )
    path = _checkpoint_of(run, choice)
    if not path.exists():
        raise CheckpointError(
            "the pretraining run has no checkpoint",
            where=str(path),
            mend=f"train it first: python pretrain.py {run.name}; or start from random weights, with "
            "--set pretrained_experiment.load_weights=false",
        )
    return path


def _checkpoint_of(run: RunFolder, choice: str) -> Path:
    if choice == "best":
        return run.best_checkpoint if run.best_checkpoint.exists() else run.checkpoint
    return run.checkpoint if choice == "last" else Path(choice)


def with_dropouts(
    architecture: ArchitectureSection, dropouts: FinetuningDropoutsSection
) -> ArchitectureSection:
    """Return the section, with the dropouts that are not None put in."""
    new = {name: value for name, value in dropouts.model_dump().items() if value is not None}
    merged = architecture.dropouts.model_copy(update=new)
    return architecture.model_copy(update={"dropouts": merged})
