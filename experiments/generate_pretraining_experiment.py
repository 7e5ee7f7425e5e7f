"""Make the folder of a pretraining run: ``generate_pretraining_experiment.py NAME [--set KEY=VALUE] …``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from textclf_transformer.commands.common import run_command
from textclf_transformer.commands.generating import generator_parser, report
from textclf_transformer.config.generate import generate_run


def main(argv: Sequence[str] | None = None) -> int:
    """Write experiments/pretraining/NAME/config.yaml and say what to do next; returns the exit code."""
    parser = generator_parser("generate_pretraining_experiment.py", "Make the folder of a pretraining run.")
    return run_command(parser, argv, _generate)


def _generate(arguments: argparse.Namespace) -> None:
    generated = generate_run(
        "pretraining",
        arguments.name,
        given={},
        overrides=arguments.overrides,
        overwrite=arguments.overwrite,
    )
    report(generated, command=f"python pretrain.py {arguments.name}")


if __name__ == "__main__":
    sys.exit(main())
