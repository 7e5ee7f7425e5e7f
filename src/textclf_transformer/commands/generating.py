"""What the two generators of run folders share: their arguments and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.commands.common import CommandParser, add_override_flag, command_parser
from textclf_transformer.config.generate import GeneratedRun
from textclf_transformer.errors import printable


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


def report(generated: GeneratedRun, *, command: str, facts: Sequence[str] = ()) -> None:
    """Print where the config lies, what is known, what to fill in, and the command that comes next."""
    print(f"wrote {shown(generated.run.config)}")
    for fact in facts:
        print(printable(fact))
    for key, meaning in generated.unfilled.items():
        print(f"fill in {key}: {meaning}")
    print(f"then: {command}" if generated.unfilled else f"next: {command}")


def shown(path: Path) -> Path:
    """Return ``path``, from the working directory on where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
