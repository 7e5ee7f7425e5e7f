"""``textclf audit``: is this data set sound, before hours are spent on it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.commands.audit_tables import plot_lengths, print_audit
from textclf_transformer.commands.common import command_parser, run_command, warn
from textclf_transformer.commands.outputs import check_output, check_outputs_differ
from textclf_transformer.commands.text_input import (
    add_label_flags,
    add_text_column_flag,
    labelled_corpus,
    refuse_text_flags,
)
from textclf_transformer.config import ArchitectureSection, ChunkingSection
from textclf_transformer.data.audit import Chunking, audit
from textclf_transformer.data.audit_findings import findings
from textclf_transformer.data.audit_input import AuditInput, StoreInput, TensorInput, TextInput
from textclf_transformer.data.chunking import check_chunking
from textclf_transformer.data.corpus import FORMATS
from textclf_transformer.data.opening import TENSOR_SUFFIX, store_parts
from textclf_transformer.data.splitting import SPLITS, WHOLE
from textclf_transformer.data.text_files import plain_stem
from textclf_transformer.errors import DataError, UsageError, listed
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import get_tokenizer

_SPLIT_STEMS = {*SPLITS, "valid", "validation", "dev"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 3 where there is a fail line."""
    parser = command_parser(
        "textclf audit",
        "Count what is in a data set and say what is good, doubtful or wrong with it. "
        "The exit code is 3 where a line says fail.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="INPUT",
        help=f"a store, a folder of stores, a .pt file, or text: {FORMATS}",
    )
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            nargs="+",
            type=Path,
            metavar="INPUT",
            help=f"text of the {split} split, or its .pt file",
        )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="count text in tokens, not in words; a .pt file needs it, stores know theirs",
    )
    sizes = ArchitectureSection().max_sequence_length, ChunkingSection().max_chunks
    parser.add_argument(
        "--chunk-size",
        type=int,
        default=sizes[0],
        metavar="N",
        help=f"tokens of a chunk (default: {sizes[0]})",
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="tokens from chunk to chunk (default: chunk size − 2)"
    )
    parser.add_argument(
        "--max-chunks", type=int, default=sizes[1], metavar="N", help=f"of a document (default: {sizes[1]})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here too")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the lengths into a .png, .svg or .pdf"
    )
    add_text_column_flag(parser)
    add_label_flags(parser)
    return run_command(parser, argv, _audit)


def _audit(arguments: argparse.Namespace) -> int:
    _check_outputs(arguments)
    stride = arguments.stride if arguments.stride is not None else arguments.chunk_size - 2
    chunking = Chunking(arguments.chunk_size, stride, arguments.max_chunks)
    check_chunking(**asdict(chunking))
    parts = _parts(arguments)
    if not arguments.quiet:
        print(f"reading {listed([str(path) for path in _inputs(arguments)])} …", file=sys.stderr)
    result = audit(parts, chunking)
    judged = findings(result)
    if arguments.json is not None:
        content = result.to_dict() | {"findings": [asdict(finding) for finding in judged]}
        atomic_write_json(arguments.json, content)
    if arguments.plot is not None:
        plot_lengths(result, arguments.plot)
    with contextlib.suppress(BrokenPipeError):  # whoever reads the first lines alone still has the exit code
        print_audit(result, judged)
    return DataError.exit_code if any(finding.level == "fail" for finding in judged) else 0


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    splits = (getattr(arguments, split) or () for split in SPLITS)
    return [*arguments.inputs, *(path for paths in splits for path in paths)]


def _check_outputs(arguments: argparse.Namespace) -> None:
    outputs = {"--json": arguments.json, "--plot": arguments.plot}
    for flag, path in outputs.items():
        check_output(flag, path, inputs=_inputs(arguments))
    check_outputs_differ(outputs)
    if arguments.plot is not None and arguments.plot.suffix not in {".png", ".svg", ".pdf"}:
        raise UsageError(
            "unknown kind of picture", where=f"--plot {arguments.plot}", expected=".png, .svg or .pdf"
        )


def _parts(arguments: argparse.Namespace) -> dict[str, AuditInput]:
    given = {split: getattr(arguments, split) for split in SPLITS if getattr(arguments, split) is not None}
    if bool(given) == bool(arguments.inputs):
        raise UsageError(
            "what to read is not clear",
            expected="either INPUT… or --train INPUT… --val INPUT… --test INPUT…",
        )
    if len(arguments.inputs) == 1 and (stores := store_parts(arguments.inputs[0])):
        return _stores(stores, arguments)
    tokenizer = None
    if arguments.tokenizer is not None:
        tokenizer = get_tokenizer(arguments.tokenizer)
    if len(arguments.inputs) > 1 and _SPLIT_STEMS.intersection(map(plain_stem, arguments.inputs)):
        warn(
            "these files are counted as one data set; for what stands in two splits, and for labels by "
            "split, name them: --train FILE --val FILE --test FILE"
        )
    return _files(given or {WHOLE: arguments.inputs}, tokenizer, arguments)


def _stores(stores: dict[str, Path], arguments: argparse.Namespace) -> dict[str, AuditInput]:
    if arguments.tokenizer is not None:
        raise UsageError("a store knows its tokenizer", mend="leave --tokenizer out")
    refuse_text_flags(arguments, found="a store, which has its labels")
    parts = {name: StoreInput(folder) for name, folder in stores.items()}
    prints = {part.tokenizer_fingerprint for part in parts.values()}
    if len(prints) > 1:
        raise DataError(
            "the splits were made with different tokenizers",
            where=str(arguments.inputs[0]),
            mend="make them anew, with one textclf prepare",
        )
    return {**parts}


def _files(
    inputs: dict[str, list[Path]], tokenizer: TokenizerWrapper | None, arguments: argparse.Namespace
) -> dict[str, AuditInput]:
    for folder in (path for paths in inputs.values() for path in paths if path.is_dir()):
        _refuse_tensors_in(folder)
    numbers: dict[str, int] = {}
    # empty documents are something to report, not to stop at
    flags = argparse.Namespace(**vars(arguments) | {"skip_empty": True})
    return {
        name: _tensors(paths, tokenizer)
        if any(path.suffix == TENSOR_SUFFIX for path in paths)
        else TextInput(
            labelled_corpus(flags, paths),
            path=", ".join(map(str, paths)),
            multi_label=arguments.multi_label,
            tokenizer=tokenizer,
            word_numbers=numbers,
        )
        for name, paths in inputs.items()
    }


def _refuse_tensors_in(folder: Path) -> None:
    """Say how the .pt files in ``folder``, as ``textclf prepare --format pt`` writes them, are read."""
    found = {path.stem: path for path in sorted(folder.glob(f"*{TENSOR_SUFFIX}"))}
    if not found:
        return
    splits = [f"--{split} {found[split]}" for split in SPLITS if split in found]
    raise UsageError(
        "the .pt files of a folder are named one by one",
        where=str(folder),
        mend=f"{' '.join(splits) or next(iter(found.values()))} --tokenizer FOLDER",
    )


def _tensors(paths: list[Path], tokenizer: TokenizerWrapper | None) -> TensorInput:
    where = ", ".join(map(str, paths))
    if len(paths) > 1:
        raise UsageError("a .pt file holds a whole split, so nothing may stand beside it", where=where)
    if tokenizer is None:
        raise UsageError(
            "tokens are read with the tokenizer that made them", where=where, mend="add --tokenizer FOLDER"
        )
    return TensorInput(paths[0], tokenizer)


if __name__ == "__main__":
    raise SystemExit(main())
