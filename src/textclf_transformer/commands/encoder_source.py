"""Where a finetuning takes encoder and tokenizer from: the pretraining or, once that is gone, itself."""

from __future__ import annotations

from typing import Any

from textclf_transformer.commands.common import warn
from textclf_transformer.commands.pretrained import PretrainedEncoder, load_pretrained, with_dropouts
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.config import ArchitectureSection, FinetuningConfig, FinetuningDropoutsSection
from textclf_transformer.errors import CheckpointError, ConfigError, DataError, StorageError
from textclf_transformer.evaluation.checkpoint_parts import of_a_known_model
from textclf_transformer.experiment import RunFolder
from textclf_transformer.model.pretrained import ENCODER_PREFIX
from textclf_transformer.training.checkpoint import load_latest
from textclf_transformer.training.run_tokenizer import load_run_tokenizer
from textclf_transformer.training.state import require_keys


def find_encoder(context: RunContext[FinetuningConfig]) -> PretrainedEncoder:
    """Return what ``pretrained_experiment`` names; for a run that goes on, and cannot read it, its own.

    A resume overwrites all weights with the checkpoint's, so nothing but shapes and tokenizer is needed, and
    the run has both: that the pretraining was deleted or moved must not end it.

    Raises:
        ConfigError, CheckpointError, DataError, StorageError: see ``load_pretrained``; the run has no
            checkpoint either, or is to begin anew.
    """
    arguments = context.arguments
    try:
        return load_pretrained(context.config, trust_code=arguments.trust_code)
    except (ConfigError, CheckpointError, DataError, StorageError) as fault:
        if arguments.overwrite or not context.run.has_checkpoint():
            raise
        own = _read_own(context.run, context.config.architecture.dropouts, trust_code=arguments.trust_code)
        what_and_where = "; ".join(str(fault).split("; ")[:2])  # how to make it anew is not the question
        warn(
            "what the run was finetuned from cannot be read, so its own checkpoint "
            f"{own.source} is used ({what_and_where})"
        )
        return own


def _read_own(run: RunFolder, dropouts: FinetuningDropoutsSection, *, trust_code: bool) -> PretrainedEncoder:
    """Read what the run's checkpoint and tokenizer say of the encoder, with the config's ``dropouts``.

    Raises:
        CheckpointError: neither state can be read, the tokenizer is gone or another, or a dropout is to be
            the pretraining's again.
        DataError: the tokenizer cannot be read.
        UsageError: its class is code that is not trusted.
    """
    # the resume will tell which of the two files it goes on from
    found = load_latest(run.checkpoint, run.previous_checkpoint, warn=lambda line: None)
    assert found is not None  # the caller has seen one
    content: dict[str, Any]
    content, path = found
    require_keys(content, ("model", "architecture", "tokenizer", "fingerprints", "config"), what=str(path))
    with of_a_known_model(path):
        architecture = ArchitectureSection.model_validate(content["architecture"])
    require_keys(content["fingerprints"], ("pretrained",), what=f"{path}: fingerprints")
    facts = content["tokenizer"]
    for name, own in content["config"].get("architecture", {}).get("dropouts", {}).items():
        if own is not None and getattr(dropouts, name, own) is None:
            raise CheckpointError(
                "the dropout of the pretraining is not known without it",
                where=f"architecture.dropouts.{name}: null",
                mend=f"give a number: the run had {own} so far",
            )
    return PretrainedEncoder(
        source=path,
        architecture=with_dropouts(architecture, dropouts),
        longest_sequence="as the encoder was pretrained with",
        tokenizer=load_run_tokenizer(facts, run.tokenizer_dir, trust_code=trust_code),
        wrapper_path=facts["wrapper_path"],
        state={name: t for name, t in content["model"].items() if name.startswith(ENCODER_PREFIX)},
        fingerprint=content["fingerprints"]["pretrained"],
    )
