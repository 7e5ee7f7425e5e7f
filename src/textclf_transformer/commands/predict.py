"""``textclf predict``: a label for each new document."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf_transformer.atomic import atomic_write
from textclf_transformer.commands.common import command_parser, run_command, warn
from textclf_transformer.commands.outputs import check_output
from textclf_transformer.commands.prediction_lines import csv_lines, jsonl_lines
from textclf_transformer.commands.streams import encoding_of_stdout, stdout_is_terminal
from textclf_transformer.commands.text_input import add_id_column_flag, add_text_flags
from textclf_transformer.data.corpus import FORMATS, STDIN_FORMATS, Corpus
from textclf_transformer.data.text_files import STDIN
from textclf_transformer.errors import UsageError, counted, printable
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.predict import Prediction, predict_documents, unknown_text

SECONDS_BETWEEN_LINES = 10.0
THRESHOLDS_TOLD = 20  # at most, on their one line
RUN_HELP = "name of a finetuning run, or the path of its folder (with a / in it)"


def add_float32_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--float32``, which ``evaluate`` has too."""
    parser.add_argument(
        "--float32",
        action="store_true",
        help="compute in float32 (default: in what the run was trained in, where this machine has it)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser("textclf predict", "Classify documents with a finetuning run, in their order.")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help=f"{FORMATS}; {STDIN} is standard input"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write here, replacing the file, in place of standard output"
    )
    parser.add_argument(
        "--format",
        choices=("csv", "jsonl"),
        help="of the output (default: jsonl where FILE ends so, else csv); in CSV a text cell that begins "
        "with = + - @, a tab or a carriage return gets an apostrophe in front, so that no spreadsheet takes "
        "it for a formula",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="add the passages that decided, by attention over chunks and by occlusion",
    )
    parser.add_argument(
        "--stdin-format",
        choices=STDIN_FORMATS,
        default="auto",
        help="of standard input; auto (default): jsonl if it begins with a brace, csv or tsv if its first "
        "line names the column of the text, else txt",
    )
    add_float32_flag(parser)
    add_id_column_flag(parser)
    add_text_flags(parser)
    return run_command(parser, argv, _predict)


def _predict(arguments: argparse.Namespace) -> None:
    _check(arguments)
    corpus = Corpus(
        arguments.inputs,
        text_column=arguments.text_column,
        label_column=None,
        id_column=arguments.id_column,
        skip_empty=arguments.skip_empty,
        stdin_format=arguments.stdin_format,
    )
    corpus.check_inputs()
    run = load_run(arguments.run, trust_code=arguments.trust_code, float32=arguments.float32)
    if run.thresholds is not None and not arguments.quiet:
        _tell_thresholds(run.label_names, run.thresholds)
    count = _Count(to_screen=arguments.out is None and stdout_is_terminal(), quiet=arguments.quiet)
    predictions = count.watch(predict_documents(run, corpus, explain=arguments.explain))
    if _format(arguments) == "jsonl":
        lines = jsonl_lines(predictions)
    else:
        lines = csv_lines(predictions, label_names=run.label_names, explain=arguments.explain)
    if arguments.out is None:
        _print(lines)
    else:
        atomic_write(arguments.out, lambda stream: stream.writelines(line.encode("utf-8") for line in lines))
    count.report(skipped=corpus.skipped, max_chunks=run.max_chunks)


class _Count:
    """Tells on stderr how far it is, and what a reader of the labels alone would not notice.

    Args:
        to_screen: whether the predictions themselves are on the screen, which is progress enough.
        quiet: say only what was left out.
    """

    def __init__(self, *, to_screen: bool, quiet: bool) -> None:
        self._tell = not (to_screen or quiet)
        self._quiet = quiet
        self._documents = 0
        self._truncated = 0
        self._unknown = 0
        self._first_unknown = ""

    def watch(self, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
        """Yield the predictions as they are; a line now and then says how many there were."""
        last_line = time.monotonic()
        for prediction in predictions:
            self._documents += 1
            self._truncated += prediction.truncated
            if prediction.mostly_unknown:
                self._first_unknown = self._first_unknown or prediction.id
                self._unknown += 1
            yield prediction
            if self._tell and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                print(f"{counted(self._documents, 'document')} …", file=sys.stderr)

    def report(self, *, skipped: int, max_chunks: int) -> None:
        """Say how many documents there were, and which of them were not read, or not to their end."""
        if not self._documents:
            warn("the input holds no document")
        elif not self._quiet:
            unread = (
                f"; {self._truncated:,} longer than what max_chunks = {max_chunks} reads"
                if self._truncated
                else ""
            )
            print(f"{counted(self._documents, 'document')} classified{unread}", file=sys.stderr)
        if self._unknown:
            warn(unknown_text(self._unknown, self._first_unknown))
        if skipped:
            print(f"left out: {counted(skipped, 'document')} without text", file=sys.stderr)


def _check(arguments: argparse.Namespace) -> None:
    if sum(str(path) == STDIN for path in arguments.inputs) > 1:
        raise UsageError("standard input can be read once", found=f"{STDIN} twice")
    check_output("--out", arguments.out, inputs=arguments.inputs)


def _tell_thresholds(names: Sequence[str], thresholds: Sequence[float]) -> None:
    told = [f"{name} {least:.3f}" for name, least in zip(names, thresholds, strict=True)][:THRESHOLDS_TOLD]
    more = " …" if len(names) > len(told) else ""
    line = f"labels are given above these probabilities: {', '.join(told)}{more}"
    print(printable(line), file=sys.stderr)


def _format(arguments: argparse.Namespace) -> str:
    by_name = "jsonl" if arguments.out is not None and arguments.out.suffix == ".jsonl" else "csv"
    return str(arguments.format or by_name)


def _print(lines: Iterator[str]) -> None:
    # a document's id or label must not drive the terminal; a file or a pipe gets them as they are
    if stdout_is_terminal():
        for line in lines:
            sys.stdout.write(printable(line.removesuffix("\n")) + "\n")
        return
    with encoding_of_stdout("utf-8", errors="strict"):  # the same bytes as with --out, whatever the locale
        for line in lines:
            sys.stdout.write(line)


if __name__ == "__main__":
    raise SystemExit(main())
