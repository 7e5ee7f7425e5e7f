"""``textclf evaluate``: how good a finetuning run is, where it fails, and what it must beat."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.commands.evaluation_tables import print_evaluation
from textclf_transformer.commands.outputs import check_output
from textclf_transformer.commands.predict import RUN_HELP, add_float32_flag
from textclf_transformer.commands.text_input import (
    add_id_column_flag,
    add_label_column_flag,
    add_text_flags,
    refuse_text_flags,
)
from textclf_transformer.data.corpus import FORMATS, Corpus
from textclf_transformer.data.documents import Documents
from textclf_transformer.errors import DataError, counted
from textclf_transformer.evaluation.full_evaluation import evaluate_run
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.run_data import (
    JUDGED_SPLITS,
    open_run_split,
    open_texts,
    open_tokenised,
    tokenised_data,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "textclf evaluate", "Judge a finetuning run on labelled documents, beside baselines."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--data",
        nargs="+",
        type=Path,
        metavar="PATH",
        help=f"a store, a folder of stores, a .pt file, or text: {FORMATS} (default: the run's own data)",
    )
    parser.add_argument(
        "--split",
        choices=JUDGED_SPLITS,
        help="of the run's own data, or of a folder of stores (default: test where there is one, else val)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here too")
    add_float32_flag(parser)
    add_label_column_flag(parser)
    add_id_column_flag(parser)
    add_text_flags(parser)
    return run_command(parser, argv, _evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    check_output("--json", arguments.json, inputs=arguments.data or ())
    for path in arguments.data or ():
        if not path.exists():
            raise DataError("there is no such file or folder", where=f"--data {path}")
    run = load_run(arguments.run, trust_code=arguments.trust_code, float32=arguments.float32)
    documents = _open(arguments, run)
    if not arguments.quiet:
        print(f"classifying {counted(len(documents), 'document')} …", file=sys.stderr)
    result = evaluate_run(run, documents)
    try:
        if arguments.json is not None:
            atomic_write_json(arguments.json, result)
    finally:  # a disk that refuses the file costs no numbers
        print_evaluation(result)


def _open(arguments: argparse.Namespace, run: LoadedRun) -> Documents:
    if arguments.data is None:
        refuse_text_flags(arguments, found="the run's own data")
        return open_run_split(run, arguments.split)
    tokenised = tokenised_data(arguments.data, arguments.split)
    if tokenised is not None:
        refuse_text_flags(arguments, found=f"{tokenised}, which is tokenised")
        return open_tokenised(run, tokenised)
    corpus = Corpus(
        arguments.data,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        id_column=arguments.id_column,
        skip_empty=arguments.skip_empty,
    )
    return open_texts(run, corpus, path=", ".join(map(str, arguments.data)))


if __name__ == "__main__":
    raise SystemExit(main())
