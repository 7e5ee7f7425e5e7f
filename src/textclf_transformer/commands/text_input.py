"""What the commands that read text share: the flags for columns, and the corpus they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.errors import UsageError

# Of the flags below, under their names among the arguments.
_DEFAULTS = {
    "text_column": "text",
    "label_column": "label",
    "id_column": None,
    "group_column": None,
    "no_labels": False,
    "multi_label": False,
    "skip_empty": False,
}


def add_text_column_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--text-column``."""
    parser.add_argument(
        "--text-column", default="text", metavar="NAME", help="column of the text (default: text)"
    )


def add_text_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--text-column`` and ``--skip-empty``."""
    add_text_column_flag(parser)
    parser.add_argument(
        "--skip-empty",
        action="store_true",
        help="leave out documents without text, or with invisible characters only",
    )


def add_label_column_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--label-column``."""
    parser.add_argument(
        "--label-column", default="label", metavar="NAME", help="column of the label (default: label)"
    )


def add_id_column_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--id-column``."""
    parser.add_argument("--id-column", metavar="NAME", help="column of the id (default: id, if there is one)")


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for labels, ids and groups."""
    add_label_column_flag(parser)
    parser.add_argument("--no-labels", action="store_true", help="read no labels, as for pretraining")
    parser.add_argument("--multi-label", action="store_true", help="a list, or a|b in a cell: several labels")
    add_id_column_flag(parser)
    parser.add_argument(
        "--group-column", metavar="NAME", help="column of the group (default: group, if there is one)"
    )


def refuse_text_flags(arguments: argparse.Namespace, *, found: str) -> None:
    """Refuse the flags above where no text is read.

    Args:
        arguments: of a command that has some of these flags.
        found: what is read in its place.

    Raises:
        UsageError: a flag was given with another value than its default; names it.
    """
    for name, default in _DEFAULTS.items():
        if getattr(arguments, name, default) != default:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} says how text is read", found=found, mend="leave it out")


def text_corpus(arguments: argparse.Namespace, inputs: Sequence[Path]) -> Corpus:
    """Return the corpus of ``inputs`` for its text alone."""
    return Corpus(
        inputs, text_column=arguments.text_column, label_column=None, skip_empty=arguments.skip_empty
    )


def labelled_corpus(arguments: argparse.Namespace, inputs: Sequence[Path]) -> Corpus:
    """Return the corpus of ``inputs`` with labels (unless ``--no-labels``), ids and groups."""
    return Corpus(
        inputs,
        text_column=arguments.text_column,
        label_column=None if arguments.no_labels else arguments.label_column,
        id_column=arguments.id_column,
        group_column=arguments.group_column,
        skip_empty=arguments.skip_empty,
    )
