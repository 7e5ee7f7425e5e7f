"""What ``textclf prepare`` says when it is done."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.commands.tables import MAX_LABELS_SHOWN
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import Header
from textclf_transformer.errors import counted, printable, short_name


@dataclass(frozen=True, slots=True)
class Split:
    """The numbers of one store.

    Attributes:
        name: train, val, test or data.
        header: the store's header.
        lengths: tokens of each document.
        label_counts: documents of each label; None without labels.
        skipped: empty documents that were left out.
    """

    name: str
    header: Header
    lengths: NDArray[np.int64]
    label_counts: list[int] | None
    skipped: int

    @classmethod
    def read(cls, name: str, folder: Path, *, skipped: int) -> Self:
        """Open the store in ``folder``, which checks it, and count."""
        store = Store.open(folder)
        counts = None
        if store.labels is not None and store.label_names is not None:
            multi = store.labels.ndim == 2
            by_label = (
                store.labels.sum(0) if multi else np.bincount(store.labels, minlength=len(store.label_names))
            )
            counts = [int(count) for count in by_label]
        return cls(name, store.header, store.lengths, counts, skipped)


def print_summary(splits: list[Split], *, out: Path, tokenizer_dir: Path, tensors: bool) -> None:
    """Print documents, tokens, labels, unknown tokens, the place of the files and what to type next."""
    columns = ("", "documents", "tokens", "median", "longest", "unknown")
    rows: list[tuple[str, ...]] = [columns]
    for split in splits:
        unknown = split.header.unknown_tokens / split.header.tokens
        median = int(np.median(split.lengths))
        longest = int(split.lengths.max())
        rows.append(
            (
                split.name,
                *map(str, (len(split.lengths), split.header.tokens, median, longest)),
                f"{unknown:.3%}",
            )
        )
    _print_aligned(rows)
    _print_labels(splits)
    skipped = sum(split.skipped for split in splits)
    if skipped:
        print(f"\nleft out: {counted(skipped, 'document')} without text")
    if tensors and splits[0].header.label_names is not None:
        print("\nlabel names are not kept in .pt files: predictions will say 0, 1, … as numbered above")
    print(f"\nwritten to  {out}")
    print(f"next        {_next_command(splits, out=out, tokenizer_dir=tokenizer_dir, tensors=tensors)}")


def _print_labels(splits: list[Split]) -> None:
    names = splits[0].header.label_names
    if names is None:
        print("\nno labels")
        return
    print()
    rows: list[tuple[str, ...]] = [("label", "name", *(split.name for split in splits))]
    for index, name in enumerate(names[:MAX_LABELS_SHOWN]):
        counts = [str(split.label_counts[index]) for split in splits if split.label_counts is not None]
        shown = short_name(name if name == name.strip() else repr(name))
        rows.append((str(index), printable(shown), *counts))
    _print_aligned(rows, left=2)
    if len(names) > MAX_LABELS_SHOWN:
        print(f"… and {len(names) - MAX_LABELS_SHOWN} more")


def _print_aligned(rows: list[tuple[str, ...]], *, left: int = 1) -> None:
    """Print the rows as columns, the first ``left`` of them aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _next_command(splits: list[Split], *, out: Path, tokenizer_dir: Path, tensors: bool) -> str:
    """Return the line that makes a pretraining experiment from these files."""
    paths = {split.name: _dataset_path(out, split.name, tensors=tensors) for split in splits}
    settings = [
        f"tokenizer.vocab_dir={tokenizer_dir}",
        f"tokenizer.wrapper_path={splits[0].header.tokenizer_kind}",
    ]
    for section in ("train", "val"):
        path = paths.get(section, paths.get("data") if section == "train" else None)
        if path is not None:
            settings.append(f"data.{section}.dataset_path={path}")
    flags = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
    return f"python experiments/generate_pretraining_experiment.py NAME {flags}"


def _dataset_path(out: Path, name: str, *, tensors: bool) -> Path:
    if tensors:
        return out / f"{name}.pt"
    return out if name == "data" else out / name
