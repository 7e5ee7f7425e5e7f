"""How the training commands begin: the command line, the run that the config describes, its lock and data."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch

from textclf_transformer.atomic import remove_stray_temporaries
from textclf_transformer.commands.common import add_override_flag, command_parser, warn
from textclf_transformer.config import (
    ArchitectureSection,
    FinetuningConfig,
    PretrainingConfig,
    config_to_dict,
    load_config,
    resolve_paths,
)
from textclf_transformer.data.documents import Documents, digests, overlap
from textclf_transformer.data.opening import open_documents
from textclf_transformer.errors import (
    CheckpointError,
    ConfigError,
    counted,
    first_line,
    is_out_of_memory,
    stand_in,
)
from textclf_transformer.experiment import RunFolder, RunLock
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.training.numerics import choose_amp_dtype, settle_libraries
from textclf_transformer.training.step_feed import WITH_LESS_MEMORY
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS, resolve_device

ConfigT = TypeVar("ConfigT", PretrainingConfig, FinetuningConfig)


@dataclass(frozen=True, slots=True)
class RunContext(Generic[ConfigT]):
    """A run as the command line and its config describe it.

    Attributes:
        arguments: the parsed command line.
        run: the folder.
        config: checked, ``--set`` included, paths absolute.
        device: where to train.
        amp_dtype: dtype of matrix products; None means float32.
        micro_batch_tokens: most padded tokens computed at once.
    """

    arguments: argparse.Namespace
    run: RunFolder
    config: ConfigT
    device: torch.device
    amp_dtype: torch.dtype | None
    micro_batch_tokens: int

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step."""
        return self.config.training.batch_size * self.config.training.grad_accum_steps


def training_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a training command."""
    parser = command_parser(prog, description)
    parser.add_argument("name", metavar="NAME", help="name of the run, as it was given to the generator")
    add_override_flag(parser)
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto (default): go on from the checkpoint if there is one; never: refuse a run that has one",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the run's results and begin anew")
    parser.add_argument(
        "--allow-changed",
        action="append",
        default=[],
        metavar="KEY",
        help="go on although this key changed since the checkpoint; may be repeated",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print config, parameters, steps, time and memory; touch nothing",
    )
    return parser


@contextlib.contextmanager
def open_run(
    kind: Literal["pretraining", "finetuning"], arguments: argparse.Namespace
) -> Iterator[RunContext[Any]]:
    """Read the config and hold the run's lock; a dry run holds and writes nothing.

    Raises:
        UserError: the name, the config, the device or the folder is wrong, another process works in it, or
            the memory does not suffice for what is done there.
    """
    folder = RunFolder.locate(kind, arguments.name)
    if not folder.config.exists():
        if folder.resolved_config.exists():
            raise ConfigError(
                "the run has lost its config.yaml",
                where=str(folder.root),
                mend=f"put it back, or copy {folder.resolved_config.name}, which says the same, to that name",
            )
        more = " PRETRAIN_NAME" if kind == "finetuning" else ""
        raise ConfigError(
            "there is no such experiment",
            where=str(folder.root),
            mend=f"make it with: python experiments/generate_{kind}_experiment.py {arguments.name}{more}",
        )
    unresolved: Any = load_config(folder.config, kind, arguments.overrides)
    config = resolve_paths(unresolved, Path.cwd())
    if config.experiment.name != arguments.name:
        raise ConfigError(
            "the config names another experiment",
            where=f"{folder.config}: experiment.name",
            found=config.experiment.name,
            expected=arguments.name,
        )
    training = config.training
    settle_libraries()
    device = resolve_device(training.device)
    budget = training.tokens_per_micro_batch
    with _computing_on(device, num_threads=training.num_threads), _named_shortages():
        context = RunContext(
            arguments=arguments,
            run=RunFolder.locate(kind, arguments.name, config.experiment.output_dir),
            config=config,
            device=device,
            amp_dtype=choose_amp_dtype(device, use_amp=training.use_amp, amp_dtype=training.amp_dtype),
            micro_batch_tokens=AUTO_MICRO_BATCH_TOKENS[device.type] if budget == "auto" else budget,
        )
        if arguments.dry_run:
            yield context
            return
        with RunLock(context.run):
            _refuse_to_go_on(context)
            yield context


@contextlib.contextmanager
def _computing_on(device: torch.device, *, num_threads: int | None) -> Iterator[None]:
    """Set the number of threads, None: torch's own, and the current GPU; a caller gets theirs back."""
    threads_before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        # what a GPU can do is asked of the current one
        with torch.cuda.device(device) if device.index is not None else contextlib.nullcontext():
            yield
    finally:
        if num_threads is not None:
            torch.set_num_threads(threads_before)


@contextlib.contextmanager
def _named_shortages() -> Iterator[None]:
    """Say what to lower where the memory does not suffice and nothing is left to halve."""
    try:
        yield
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        raise ConfigError(
            "the memory does not suffice",
            found=first_line(fault),
            mend=f"lower training.tokens_per_micro_batch, {WITH_LESS_MEMORY}",
        ) from fault


def clear_results(context: RunContext[Any]) -> None:
    """Do what ``--overwrite`` asks for, once all that the new run needs was found and read.

    Raises:
        UsageError: see ``RunFolder.clear_results``.
        StorageError: something cannot be deleted.
    """
    if not context.arguments.overwrite:
        return
    logging = context.config.logging
    logs = {Path(name).parts[0] for name in (logging.train_csv, logging.eval_csv)}  # which begin anew, too
    if kept := [name for name in context.run.clear_results() if name not in logs]:
        warn(f"--overwrite leaves what the run did not write: {', '.join(kept)}; {context.run.root}")


def _refuse_to_go_on(context: RunContext[Any]) -> None:
    """Do what ``--resume never`` asks for, and clear away what a killed save left."""
    arguments = context.arguments
    if arguments.resume == "never" and not arguments.overwrite and context.run.has_checkpoint():
        raise CheckpointError(
            "the run has a checkpoint and --resume never refuses to go on from it",
            where=str(context.run.root),
            mend="leave --resume out to go on, or add --overwrite to delete the results and begin anew",
        )
    for folder in (context.run.root, context.run.tokenizer_dir):
        if folder.is_dir():
            remove_stray_temporaries(folder)


def open_splits(
    config: PretrainingConfig | FinetuningConfig, tokenizer: TokenizerWrapper
) -> dict[str, Documents]:
    """Open the splits that the config names; documents that stand in train as well are a warning.

    Raises:
        DataError: a split is not there, is faulty, or was made with another tokenizer.
    """
    sections = {"train": config.data.train, "val": config.data.val, "test": config.data.test}
    documents = {
        split: open_documents(section.dataset_path, tokenizer=tokenizer, key=f"data.{split}.dataset_path")
        for split, section in sections.items()
        if section is not None
    }
    if others := [split for split in documents if split != "train"]:
        in_train = digests(documents["train"])
        for split in others:
            if shared := overlap(digests(documents[split]), in_train):
                of = f"{counted(len(documents[split]), 'document')} of {split}"
                warn(f"{shared} of the {of} {stand_in(shared, 'train')}")
    return documents


def run_facts(
    *,
    architecture: ArchitectureSection,
    tokenizer: TokenizerWrapper,
    wrapper_path: str,
    documents: Mapping[str, Documents],
) -> dict[str, Any]:
    """Return what the checkpoints of both tasks say of the run, so that a resume notices another one."""
    return {
        "architecture": config_to_dict(architecture),
        "tokenizer": {
            "wrapper_path": wrapper_path,
            "vocab_size": tokenizer.vocab_size,
            "pad_token_id": tokenizer.pad_token_id,
            "fingerprint": tokenizer.fingerprint,
        },
        "fingerprints": {
            "tokenizer": tokenizer.fingerprint,
            "data": {split: docs.fingerprint for split, docs in documents.items()},
        },
    }
