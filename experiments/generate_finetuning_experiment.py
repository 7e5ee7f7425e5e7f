"""Make the folder of a finetuning run: ``generate_finetuning_experiment.py NAME PRETRAIN_NAME [--set …]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from textclf_transformer.commands.common import run_command, warn
from textclf_transformer.commands.generating import generator_parser, report
from textclf_transformer.config.generate import find_pretraining_run, generate_run, pretraining_reference


def main(argv: Sequence[str] | None = None) -> int:
    """Write experiments/finetuning/NAME/config.yaml and say what to do next; returns the exit code."""
    parser = generator_parser("generate_finetuning_experiment.py", "Make the folder of a finetuning run.")
    parser.add_argument(
        "pretrain_name",
        metavar="PRETRAIN_NAME",
        help="pretraining run whose encoder and tokenizer are used: its name, or its folder with a / in it",
    )
    return run_command(parser, argv, _generate)


def _generate(arguments: argparse.Namespace) -> None:
    pretraining = find_pretraining_run(arguments.pretrain_name)
    generated = generate_run(
        "finetuning",
        arguments.name,
        given={"pretrained_experiment.path": pretraining_reference(pretraining)},
        overrides=arguments.overrides,
        overwrite=arguments.overwrite,
    )
    if not pretraining.has_checkpoint():
        warn(
            f"{pretraining.root} has no checkpoint yet; train it first: python pretrain.py {pretraining.name}"
        )
    report(generated, command=f"python finetune.py {arguments.name}")


if __name__ == "__main__":
    sys.exit(main())
