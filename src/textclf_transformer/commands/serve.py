"""``textclf serve``: a page on this machine where one pastes a document and sees what the model says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from textclf_transformer.commands.addresses import is_loopback, means_every_address
from textclf_transformer.commands.common import (
    EXIT_INTERRUPTED,
    command_parser,
    print_result,
    run_command,
    warn,
)
from textclf_transformer.commands.predict import RUN_HELP
from textclf_transformer.commands.serving import ModelServer
from textclf_transformer.errors import UsageError
from textclf_transformer.evaluation.loaded_run import load_run

HOST, PORT = "127.0.0.1", 8000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until Ctrl-C and return its exit code."""
    parser = command_parser("textclf serve", "Classify documents on a page in the browser, on this machine.")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help=f"address to listen at (default: {HOST}, which only this machine reaches); there is no password",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"port (default: {PORT}; 0: any that is free)"
    )
    return run_command(parser, argv, _serve)


def _serve(arguments: argparse.Namespace) -> int:
    _check(arguments.host, arguments.port)
    run = load_run(arguments.run, trust_code=arguments.trust_code)
    with ModelServer(run, host=arguments.host, port=arguments.port, quiet=arguments.quiet) as server:
        try:
            print_result({"page": server.url, "to stop": "Ctrl-C"})
            sys.stdout.flush()
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return EXIT_INTERRUPTED


def _check(host: str, port: int) -> None:
    """Refuse what cannot be served, or would be served to everybody by accident."""
    if not 0 <= port <= 65_535:
        raise UsageError("this is no port", where="--port", found=port, expected="0 to 65535")
    if means_every_address(host):
        raise UsageError(
            "this means every address of the machine",
            where="--host",
            found=repr(host),
            mend="name the one address at which the page is to be reached",
        )
    if not is_loopback(host):
        warn(f"whoever reaches {host} can use the model; there is no password and no encryption")


if __name__ == "__main__":
    raise SystemExit(main())
