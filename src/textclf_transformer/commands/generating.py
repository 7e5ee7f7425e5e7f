"""What the two generators of run folders share: their arguments and what they print."""

from __future__ import annotations

from pathlib import Path

from textclf_transformer.commands.common import CommandParser, add_override_flag, command_parser
from textclf_transformer.config.generate import GeneratedRun


def generator_parser(prog: str, description: str) -> CommandParser:
    """Return a parser with NAME, ``--set`` and ``--overwrite``."""
    parser = command_parser(prog, description)
    parser.add_argument("name", metavar="NAME", help="name of the new run")
    add_override_flag(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a run of that name: its config and results are deleted",
    )
    return parser


def report(generated: GeneratedRun, *, command: str) -> None:
    """Print where the config lies, what to fill in there, and the command that comes next."""
    config = generated.run.config
    shown = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    print(f"wrote {shown}")
    for key, meaning in generated.unfilled.items():
        print(f"fill in {key}: {meaning}")
    print(f"then: {command}" if generated.unfilled else f"next: {command}")
