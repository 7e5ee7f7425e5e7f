"""Make the folder of a finetuning run: ``generate_finetuning_experiment.py NAME PRETRAIN_NAME [--set …]``.

With ``--from-hf FOLDER`` in place of PRETRAIN_NAME it starts from published weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.commands.common import run_command, warn
from textclf_transformer.commands.generating import generator_parser, report, shown
from textclf_transformer.config.generate import find_pretraining_run, generate_run, pretraining_reference
from textclf_transformer.config.reader import read_document
from textclf_transformer.config.writing import absolute
from textclf_transformer.errors import UsageError
from textclf_transformer.experiment import is_hub_name


def main(argv: Sequence[str] | None = None) -> int:
    """Write experiments/finetuning/NAME/config.yaml and say what to do next; returns the exit code."""
    parser = generator_parser("generate_finetuning_experiment.py", "Make the folder of a finetuning run.")
    parser.add_argument(
        "pretrain_name",
        metavar="PRETRAIN_NAME",
        nargs="?",
        help="pretraining run whose encoder and tokenizer are used: its name, or its folder with a / in it",
    )
    parser.add_argument(
        "--from-hf",
        metavar="FOLDER",
        help="published weights in place of a pretraining run: a folder with config.json, model.safetensors "
        "and tokenizer.json, or the name of a model on Hugging Face's hub (owner/name)",
    )
    return run_command(parser, argv, _generate)


def _generate(arguments: argparse.Namespace) -> None:
    if (arguments.pretrain_name is None) == (arguments.from_hf is None):
        raise UsageError(
            "where does the encoder come from?",
            found="neither" if arguments.from_hf is None else "both",
            expected="either PRETRAIN_NAME or --from-hf FOLDER",
        )
    if arguments.from_hf is None:
        _generate_from_run(arguments)
    else:
        _generate_from_hf(arguments)


def _generate_from_run(arguments: argparse.Namespace) -> None:
    pretraining = find_pretraining_run(arguments.pretrain_name)
    generated = generate_run(
        "finetuning",
        arguments.name,
        given={"pretrained_experiment.path": pretraining_reference(pretraining)},
        overrides=arguments.overrides,
        overwrite=arguments.overwrite,
    )
    source = read_document(generated.run.config).data["pretrained_experiment"]
    if source.get("load_weights", True) and not pretraining.has_checkpoint():
        warn(
            f"{pretraining.root} has no checkpoint yet; train it first: "
            f"python pretrain.py {pretraining.name}, or set pretrained_experiment.load_weights: false to "
            "start from random weights"
        )
    report(generated, command=f"python finetune.py {arguments.name}")


def _generate_from_hf(arguments: argparse.Namespace) -> None:
    # Imported here, so that the other way does not wait for torch.
    from textclf_transformer.commands.pretrained import read_published
    from textclf_transformer.model.hf_hub import pinned_name

    source = arguments.from_hf
    if is_hub_name(source, Path.cwd()):
        source = pinned_name(source)
    else:
        source = str(absolute(Path(source), Path.cwd()))
    published = read_published(source)
    fit = published.check_weights()  # before anything is written
    generated = generate_run(
        "finetuning",
        arguments.name,
        given={"pretrained_experiment.path": None, "pretrained_experiment.from_hf": source},
        overrides=arguments.overrides,
        overwrite=arguments.overwrite,
    )
    published.tokenizer.save(generated.run.tokenizer_dir)
    report(
        generated,
        command=f"python finetune.py {arguments.name}",
        facts=[
            f"weights: {fit}",
            f"longest sequence: {published.architecture.max_sequence_length} tokens "
            f"({published.longest_sequence})",
            f"prepare the data with --tokenizer {shown(generated.run.tokenizer_dir)}",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
