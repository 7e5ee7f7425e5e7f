"""``textclf report``: ``report.html`` of a run, and its pictures as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.commands.common import (
    command_parser,
    describe_error,
    print_result,
    run_command,
    warn,
)
from textclf_transformer.commands.outputs import check_output
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.errors import StorageError, UsageError
from textclf_transformer.evaluation.report import make_report
from textclf_transformer.evaluation.run_lookup import find_run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser("textclf report", "Make report.html of a run: one file with all there is to see.")
    parser.add_argument(
        "run",
        metavar="RUN",
        help="name of a run (of two of one name the finetuning run), or the path of its folder (with a /)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write here (default: report.html in the run)"
    )
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write each picture here too, as PNG")
    parser.add_argument(
        "--documents",
        type=int,
        metavar="N",
        help="documents to show with the passages that decided, at most (default: logging.report_documents "
        "of the run's config)",
    )
    return run_command(parser, argv, _report)


def _report(arguments: argparse.Namespace) -> None:
    if arguments.documents is not None and arguments.documents < 0:
        raise UsageError(
            "a number of documents", where="--documents", found=arguments.documents, expected="0 or more"
        )
    run = find_run(arguments.run, ("finetuning", "pretraining"), first_wins=True)
    out = arguments.out or run.report
    check_output("--out", out, own=run.report)
    report = make_report(
        run,
        documents=arguments.documents,
        trust_code=arguments.trust_code,
        tell=lambda line: None if arguments.quiet else print(f"{line} …", file=sys.stderr),
    )
    try:
        report.write(out)
    except StorageError as fault:
        if arguments.out is not None:
            raise
        raise StorageError(str(fault), mend="or write the report elsewhere: --out FILE") from fault
    written = {"report": out.absolute()}
    if arguments.png is not None:
        report.write_pictures(arguments.png)
        written["pictures"] = arguments.png.absolute()
    for note in report.notes:
        warn(f"left out of the report: {note}")
    print_result(written)


def report_after_training(
    context: RunContext[Any], *, test_logits: NDArray[np.float32] | None = None
) -> None:
    """Write ``report.html`` into the folder of the run that was just trained; a fault is only a warning.

    Nothing is done where the config says so (``logging.report``), or where the run was finished before and
    its report is there. ``test_logits`` spare computing what the run has just computed, see ``make_report``.
    """
    run, logging = context.run, context.config.logging
    try:
        if not logging.report or _is_newer(run.report, run.run_json):
            return
        report = make_report(
            run,
            trust_code=context.arguments.trust_code,
            test_logits=test_logits,
            device=context.config.training.device,
        )
        report.write(run.report)
    except Exception as error:
        lines, _ = describe_error(error)
        warn(f"no report.html: {lines[0]}; make it later with: textclf report {run.root}/")


def _is_newer(path: Path, other: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= other.stat().st_mtime


if __name__ == "__main__":
    raise SystemExit(main())
