"""A command for tests, with a body that the test gives it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from textclf_transformer.commands.common import add_override_flag, command_parser, run_command


def run(body: Callable[[argparse.Namespace], int | None], *argv: str) -> int:
    parser = command_parser("textclf test", "A command for tests.")
    add_override_flag(parser)
    return run_command(parser, argv, body)


def raising(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def body(arguments: argparse.Namespace) -> None:
        raise error

    return body
