"""``textclf prepare``: read text and write what training reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.commands.outputs import check_output_folder
from textclf_transformer.commands.prepare_summary import Split, print_summary
from textclf_transformer.commands.text_input import (
    add_label_flags,
    add_text_flags,
    labelled_corpus,
)
from textclf_transformer.data.corpus import FORMATS
from textclf_transformer.data.folders import building_folder
from textclf_transformer.data.preparing import cut, is_store_folder, write_documents
from textclf_transformer.data.splitting import SPLITS, WHOLE, are_shares
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import HEADER, Header
from textclf_transformer.data.tensor_export import write_tensors
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, UsageError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer, tokenizer_kind


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "textclf prepare", "Read text, tokenise it, and write a memory-mapped token store."
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help=FORMATS)
    for split in SPLITS:
        parser.add_argument(
            f"--{split}", nargs="+", type=Path, metavar="INPUT", help=f"inputs of the {split} split"
        )
    parser.add_argument(
        "--split", metavar="A/B/C", help="cut the inputs into train/val/test, e.g. 0.8/0.1/0.1"
    )
    parser.add_argument(
        "--seed", type=_seed, default=42, metavar="N", help="which documents --split puts where (default: 42)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="STORE", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    parser.add_argument(
        "--tokenizer", required=True, type=Path, metavar="FOLDER", help="folder of the tokenizer"
    )
    parser.add_argument(
        "--tokenizer-kind",
        metavar="KIND",
        help="wordpiece, byte_bpe, unigram or FILE.py:CLASS (default: as its file says)",
    )
    parser.add_argument(
        "--format",
        choices=("store", "pt"),
        default="store",
        help="store: memory-mapped, with text and names; pt: padded tensors in .pt files (default: store)",
    )
    parser.add_argument(
        "--no-text", action="store_true", help="keep neither the text nor the tokens' places in it"
    )
    add_text_flags(parser)
    add_label_flags(parser)
    return run_command(parser, argv, _prepare)


def _seed(text: str) -> int:
    """Return a seed from the command line; argparse turns the error into one of usage."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer from 0 up")
    return int(text)


def _prepare(arguments: argparse.Namespace) -> None:
    check_output_folder("--out", arguments.out)
    parts = _given_parts(arguments)
    kind = arguments.tokenizer_kind or tokenizer_kind(arguments.tokenizer)
    tokenizer = load_tokenizer(kind, arguments.tokenizer, trust_code=arguments.trust_code)
    with building_folder(arguments.out, overwrite=arguments.overwrite, is_ours=is_store_folder) as folder:
        if arguments.split is not None:
            splits = _write_cut(arguments, parts[WHOLE], folder, tokenizer, kind)
        else:
            splits = _write_given(arguments, parts, folder, tokenizer, kind)
        if arguments.format == "pt":
            _turn_into_tensors(splits, folder, tokenizer)
    print_summary(
        splits, out=arguments.out, tokenizer_dir=arguments.tokenizer, tensors=arguments.format == "pt"
    )


def _given_parts(arguments: argparse.Namespace) -> dict[str, list[Path]]:
    """Return name to inputs: of the splits, or of the whole."""
    given = {split: getattr(arguments, split) for split in SPLITS if getattr(arguments, split) is not None}
    if bool(given) == bool(arguments.inputs):
        raise UsageError(
            "what to read is not clear", expected="either INPUT… or --train INPUT… --val … --test …"
        )
    if given and "train" not in given:
        raise UsageError("--val and --test need --train, which decides the labels")
    if given and arguments.split is not None:
        raise UsageError("--split cuts one input; with --train, --val and --test there is nothing to cut")
    return given or {WHOLE: arguments.inputs}


def _write_given(
    arguments: argparse.Namespace,
    parts: dict[str, list[Path]],
    folder: Path,
    tokenizer: TokenizerWrapper,
    kind: str,
) -> list[Split]:
    """Write one store for each part; the first decides the labels of all."""
    splits: list[Split] = []
    names: tuple[str, ...] | None = None
    for name, inputs in parts.items():
        corpus = labelled_corpus(arguments, inputs)
        place = folder if name == WHOLE else folder / name
        header = _write_part(arguments, name, corpus, place, tokenizer, kind, names)
        if splits and names is None and header.label_names is not None:
            raise DataError(
                f"the {name} split has labels and the train split has none",
                mend="add --no-labels to read none",
            )
        names = header.label_names
        splits.append(Split.read(name, place, skipped=corpus.skipped))
    return splits


def _write_cut(
    arguments: argparse.Namespace, inputs: list[Path], folder: Path, tokenizer: TokenizerWrapper, kind: str
) -> list[Split]:
    """Cut the documents of ``inputs``; the first pass reads labels and groups, each split has a pass."""
    corpus = labelled_corpus(arguments, inputs)
    chosen, names = cut(
        corpus,
        fractions=_fractions(arguments.split),
        seed=arguments.seed,
        multi_label=arguments.multi_label,
        source=", ".join(map(str, inputs)),
    )
    skipped = corpus.skipped
    splits = []
    for name, documents in chosen.items():
        _write_part(arguments, name, documents, folder / name, tokenizer, kind, names)
        splits.append(Split.read(name, folder / name, skipped=skipped if name == SPLITS[0] else 0))
    return splits


def _write_part(
    arguments: argparse.Namespace,
    name: str,
    documents: Iterable[Document],
    place: Path,
    tokenizer: TokenizerWrapper,
    kind: str,
    label_names: tuple[str, ...] | None,
) -> Header:
    if not arguments.quiet:
        print(f"{name}: tokenising …", file=sys.stderr)
    return write_documents(
        place,
        documents,
        tokenizer=tokenizer,
        tokenizer_kind=kind,
        keep_text=not arguments.no_text,
        multi_label=arguments.multi_label,
        label_names=label_names,
        source=", ".join(map(str, getattr(arguments, name, None) or arguments.inputs)),
    )


def _fractions(text: str) -> tuple[float, ...]:
    try:
        fractions = tuple(float(part) for part in text.split("/"))
    except ValueError:
        fractions = ()
    if not are_shares(fractions):
        raise UsageError(
            "not a split",
            where="--split",
            found=repr(text),
            expected="three shares that add up to 1: 0.8/0.1/0.1",
        )
    return fractions


def _turn_into_tensors(splits: list[Split], folder: Path, tokenizer: TokenizerWrapper) -> None:
    """Write ``<part>.pt`` for each store in ``folder`` and take the store away."""
    for split in splits:
        place = folder if split.name == WHOLE else folder / split.name
        stored = [place / HEADER, *(place / name for name in Header.read(place).files)]
        write_tensors(Store.open(place), folder / f"{split.name}.pt", pad_token_id=tokenizer.pad_token_id)
        for file in stored:
            file.unlink()
        if place != folder:
            place.rmdir()


if __name__ == "__main__":
    raise SystemExit(main())
