"""What all commands share: the flags, the handling of errors and the exit codes.

A command is a parser and a body::

    def main(argv: Sequence[str] | None = None) -> int:
        parser = command_parser("textclf prepare", "Read text and write a token store.")
        parser.add_argument("inputs", nargs="+", type=Path)
        return run_command(parser, argv, body)      # body(arguments) -> None, raises UserError
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from textclf_transformer import __version__
from textclf_transformer.allocator import settle_allocator
from textclf_transformer.commands.streams import (
    encoding_of_stdout,
    flushed,
    messages_that_may_be_lost,
    open_missing_streams,
)
from textclf_transformer.errors import (
    StorageError,
    UsageError,
    UserError,
    first_line,
    is_out_of_memory,
    printable,
)
from textclf_transformer.training.signals import raising_on_interrupt

EXIT_FAULT = 1
EXIT_STORAGE = StorageError.exit_code
EXIT_INTERRUPTED = 130

# The disk, the rights to it or too long a name are at fault; any other OSError is a case that the code should
# have foreseen.
STORAGE_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EFBIG,
        errno.ENODEV,
        errno.ENXIO,
        errno.ESTALE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENAMETOOLONG,
    }
)


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are ``UsageError``: one line, like every other error of a user.

    No flag may be abbreviated: it would change its meaning the day a second one begins with the same letters.
    """

    def __init__(
        self,
        *,
        prog: str,
        description: str,
        usage: str | None = None,
        epilog: str | None = None,
        formatter_class: type[argparse.HelpFormatter] = argparse.HelpFormatter,
    ) -> None:
        open_missing_streams()  # from Python 3.14 on argparse asks stdout whether it shows colours
        super().__init__(
            prog=prog,
            description=description,
            usage=usage,
            epilog=epilog,
            formatter_class=formatter_class,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the usage error instead of printing the usage and leaving."""
        raise UsageError(message, mend=f"see {self.prog} --help")


def command_parser(prog: str, description: str) -> CommandParser:
    """Return a parser with the flags that every command has."""
    parser = CommandParser(prog=prog, description=description)
    add_common_flags(parser)
    return parser


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``, ``--quiet``, ``--trust-code`` and ``--version``."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", action="store_true", help="print results, warnings and errors only")
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="allow that Python code from outside this package, named in the config, is run",
    )
    parser.add_argument("--version", action="version", version=f"textclf_transformer {__version__}")


def add_override_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--set KEY=VALUE`` (repeatable); the values are in ``arguments.overrides``, in the given order."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of config.yaml, e.g. --set training.epochs=3; may be repeated",
    )


def warn(message: str) -> None:
    """Print ``warning: message`` on one line to stderr."""
    print(f"warning: {printable(message)}", file=sys.stderr)


@contextlib.contextmanager
def own_warnings_as_lines() -> Iterator[None]:
    """Show what this package warns of as ``warn`` does, each text once; others' warnings stay as they are."""
    package = str(Path(__file__).resolve().parents[1])
    shown: set[str] = set()

    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not filename.startswith(package):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in shown:
                shown.add(str(message))
                warn(str(message))

        warnings.showwarning = show
        yield


def print_result(values: Mapping[str, object]) -> None:
    """Print results to stdout, a line each, the values aligned."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        print(f"{name:<{width}}  {value}")


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    body: Callable[[argparse.Namespace], int | None],
) -> int:
    """Parse ``argv``, run ``body`` and return the exit code; errors become one line each on stderr.

    Args:
        parser: the command's parser (see ``command_parser``).
        argv: the arguments after the command's name; None: those of the process.
        body: does the work; it returns an exit code, or None for 0.

    Returns:
        0, the exit code of a ``UserError``, 6 for a disk or permission fault, 130 after Ctrl-C, 1 for a fault
        of ours.

    Raises:
        SystemExit: a signal has stopped a training.
    """
    with encoding_of_stdout(errors="backslashreplace"), messages_that_may_be_lost():
        return _run_to_exit_code(parser, sys.argv[1:] if argv is None else list(argv), body)


def _run_to_exit_code(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    body: Callable[[argparse.Namespace], int | None],
) -> int:
    settle_allocator()
    try:
        with raising_on_interrupt():
            return _parse_and_run(parser, arguments, body)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        lines, code = describe_error(error)
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        return code


def _parse_and_run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    body: Callable[[argparse.Namespace], int | None],
) -> int:
    """Parse and run; ``--help`` and ``--version``, which argparse answers by leaving, give 0."""
    code = 0
    # a reader of stdout that has left, as ``| head`` does, is no error: nobody is there to read more
    with contextlib.suppress(BrokenPipeError), flushed(sys.stdout):
        try:
            parsed = parser.parse_args(arguments)
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else 0
        refuse_distributed()
        with own_warnings_as_lines():
            code = body(parsed) or 0
    return code


def refuse_distributed() -> None:
    """Raise UsageError under ``torchrun`` with more than one process: each would do, and write, the same."""
    if os.environ.get("WORLD_SIZE", "1").strip() not in {"", "0", "1"}:
        raise UsageError(
            "this command runs in one process only",
            found=f"WORLD_SIZE={os.environ['WORLD_SIZE']}",
            expected="WORLD_SIZE=1",
            mend="start it without torchrun",
        )


def describe_error(error: Exception) -> tuple[tuple[str, ...], int]:
    """Return the lines to show for ``error`` and the exit code."""
    if isinstance(error, UserError):
        return error.lines, error.exit_code
    if isinstance(error, OSError) and (error.errno in STORAGE_ERRNOS or isinstance(error, PermissionError)):
        named = f"; {error.filename}" if error.filename is not None else ""
        return (printable(f"{error.strerror or error}{named}"),), EXIT_STORAGE
    if is_out_of_memory(error):
        shortage = UsageError("the memory does not suffice", found=first_line(error), mend="free some")
        return shortage.lines, shortage.exit_code
    fault = f"a fault of ours: {type(error).__name__}: {error}"
    return (printable(f"{fault}; run again with --debug for the traceback"),), EXIT_FAULT
