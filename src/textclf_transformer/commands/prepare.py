"""``textclf prepare``: read text and write what training reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.commands.prepare_summary import Split, print_summary
from textclf_transformer.commands.text_input import (
    add_column_flags,
    add_label_flags,
    labelled_corpus,
)
from textclf_transformer.data.corpus import FORMATS, Corpus
from textclf_transformer.data.folders import building_folder
from textclf_transformer.data.splitting import SPLITS, stratified_split
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import HEADER, Header, all_files
from textclf_transformer.data.store_labels import labels_of, sorted_names
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.tensor_export import write_tensors
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, UsageError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer, tokenizer_kind

WHOLE = "data"
"""Name of the only part where there are no splits."""


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
    parser.add_argument("--seed", type=_seed, default=42, help="of --split (default: 42)")
    parser.add_argument("--out", required=True, type=Path, metavar="STORE", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    parser.add_argument(
        "--tokenizer", required=True, type=Path, metavar="FOLDER", help="folder of the tokenizer"
    )
    parser.add_argument(
        "--tokenizer-kind",
        metavar="KIND",
        help="wordpiece, byte_bpe or FILE.py:CLASS (default: as its file says)",
    )
    parser.add_argument(
        "--format",
        choices=("store", "pt"),
        default="store",
        help="pt: padded tensors in .pt files (default: store)",
    )
    parser.add_argument(
        "--no-text", action="store_true", help="keep neither the text nor the tokens' places in it"
    )
    add_column_flags(parser)
    add_label_flags(parser)
    return run_command(parser, argv, _prepare)


def _seed(text: str) -> int:
    """Return a seed from the command line; argparse turns the error into one of usage."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer from 0 up")
    return int(text)


def _prepare(arguments: argparse.Namespace) -> None:
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
    fractions = _fractions(arguments.split)
    corpus = labelled_corpus(arguments, inputs)
    labels: list[tuple[str, ...]] = []
    groups: list[str | None] = []
    labelled = 0
    for document in corpus:
        own = labels_of(document, multi_label=arguments.multi_label)
        labelled += own is not None
        labels.append(own or ())
        groups.append(document.group)
    if not labels:
        raise DataError("there are no documents", where=", ".join(map(str, inputs)))
    part_of = stratified_split(labels, groups, fractions=fractions, seed=arguments.seed)
    names = sorted_names(label for own in labels for label in own) if labelled else None
    splits = []
    for part, name in enumerate(SPLITS):
        chosen = _Selected(corpus, part_of == part)
        _write_part(arguments, name, chosen, folder / name, tokenizer, kind, names)
        splits.append(Split.read(name, folder / name, skipped=corpus.skipped if part == 0 else 0))
    return splits


def _write_part(
    arguments: argparse.Namespace,
    name: str,
    documents: Corpus | _Selected,
    place: Path,
    tokenizer: TokenizerWrapper,
    kind: str,
    label_names: tuple[str, ...] | None,
) -> Header:
    if not arguments.quiet:
        print(f"{name}: tokenising …", file=sys.stderr)
    place.mkdir(exist_ok=True)
    return write_store(
        place,
        _at_least_one(documents, inputs=getattr(arguments, name, None) or arguments.inputs),
        tokenizer=tokenizer,
        tokenizer_kind=kind,
        keep_text=not arguments.no_text,
        multi_label=arguments.multi_label,
        label_names=label_names,
    )


def _at_least_one(documents: Iterable[Document], *, inputs: Sequence[Path]) -> Iterator[Document]:
    """Yield ``documents``; DataError that names ``inputs`` where there are none."""
    found = False
    for document in documents:
        found = True
        yield document
    if not found:
        raise DataError("there are no documents", where=", ".join(map(str, inputs)))


class _Selected:
    """Some documents of a corpus: those where ``chosen`` is true."""

    def __init__(self, corpus: Corpus, chosen: Sequence[bool]) -> None:
        self._corpus = corpus
        self._chosen = chosen

    def __iter__(self) -> Iterator[Document]:
        try:
            yield from (
                document for document, chosen in zip(self._corpus, self._chosen, strict=True) if chosen
            )
        except ValueError as error:
            raise DataError("an input changed while it was read") from error


def _fractions(text: str) -> tuple[float, ...]:
    try:
        fractions = tuple(float(part) for part in text.split("/"))
    except ValueError:
        fractions = ()
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
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


def is_store_folder(folder: Path) -> bool:
    """Whether ``folder`` holds what this command writes and nothing else."""
    tensors = {f"{name}.pt" for name in (*SPLITS, WHOLE)}
    entries = list(folder.iterdir())
    files = {path.name for path in entries if path.is_file() and not path.is_symlink()}
    folders = [path for path in entries if path.name not in files]
    is_known = files <= all_files() | tensors and (HEADER in files or bool(folders) or bool(files & tensors))
    return is_known and all(
        path.name in SPLITS and path.is_dir() and not path.is_symlink() and _is_single_store(path)
        for path in folders
    )


def _is_single_store(folder: Path) -> bool:
    entries = list(folder.iterdir())
    names = {path.name for path in entries}
    return HEADER in names and names <= all_files() and all(path.is_file() for path in entries)


if __name__ == "__main__":
    raise SystemExit(main())
