"""What ``textclf audit`` shows: the result as tables, findings, a histogram in the terminal and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from textclf_transformer.atomic import atomic_write
from textclf_transformer.commands.tables import MAX_LABELS_SHOWN, add_row, new_table, results_console
from textclf_transformer.data.audit import Audit, SplitAudit
from textclf_transformer.data.audit_findings import Finding
from textclf_transformer.data.audit_overlaps import Pair
from textclf_transformer.errors import printable, short_name

_BAR = 40  # characters of the longest bar
_STYLES = {"good": "green", "warn": "yellow", "fail": "bold red"}


def print_audit(audit: Audit, judged: Sequence[Finding]) -> None:
    """Print tables and findings to stdout; what matters most comes last, where the cursor is."""
    console = results_console()
    for section in (_splits, _labels, _lengths, _reading, _pairs):
        section(console, audit)
    _title(console, "findings")
    for finding in judged:
        line = Text(f"{finding.level}  ", style=_STYLES[finding.level])
        line.append(printable(finding.what), style="")
        if finding.mend:
            line.append(f"\n      → {printable(finding.mend)}", style="not bold default")
        console.print(line)


def plot_lengths(audit: Audit, path: Path) -> None:
    """Draw how long documents are, a line for each split, and where ``max_chunks`` ends.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7.0, 3.5), layout="constrained")
    axes = figure.subplots()
    for split in audit.splits:
        shares = [count / split.documents for count in split.histogram]
        axes.stairs(shares, audit.edges, label=f"{split.name} ({split.documents:,})", linewidth=1.5)
    if audit.chunking is not None:
        size, stride, most = audit.chunking.chunk_size, audit.chunking.stride, audit.chunking.max_chunks
        limit = (most - 1) * stride + size - 2
        axes.axvline(limit, color="0.4", linestyle="--", linewidth=1.0, label=f"{most} chunks")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(f"{audit.unit} of a document")
    axes.set_ylabel("share of the documents")
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=150)
    atomic_write(path, lambda stream: stream.write(picture.getvalue()))


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _splits(console: Console, audit: Audit) -> None:
    names = ["documents", audit.unit, "shortest", "median", "90 % under", "longest"]
    with_text = all(split.words is not None for split in audit.splits)
    if audit.unit == "tokens":
        names += ["unknown", *(["tokens a word"] if with_text else [])]
    table = new_table(["split"], names)
    for split in audit.splits:
        marks = [split.lengths[name] for name in ("shortest", "median", "p90", "longest")]
        cells = [f"{number:,}" for number in (split.documents, split.units, *marks)]
        if split.unknown_tokens is not None:
            cells.append(f"{split.unknown_tokens / split.units:.3%}")
            if with_text:
                cells.append(f"{split.units / max(split.words or 0, 1):.2f}")
        add_row(table, [split.name, *cells])
    _title(console, f"documents, their lengths in {audit.unit}")
    console.print(table)
    if audit.unit == "words":
        console.print(Text("(with --tokenizer FOLDER lengths are in tokens, and what chunks read is known)"))


def _labels(console: Console, audit: Audit) -> None:
    names = sorted({name for split in audit.splits for name in split.labels or ()})
    if not names:
        _title(console, "no labels")
        return
    table = new_table(["label"], [split.name for split in audit.splits])
    first = audit.splits[0].labels or {}
    for name in sorted(names, key=lambda name: -first.get(name, 0))[:MAX_LABELS_SHOWN]:
        add_row(table, [short_name(name), *(_count_and_share(split, name) for split in audit.splits)])
    _title(console, "labels")
    console.print(table)
    if len(names) > MAX_LABELS_SHOWN:
        console.print(Text(f"… and {len(names) - MAX_LABELS_SHOWN} more"))


def _count_and_share(split: SplitAudit, name: str) -> str:
    count = (split.labels or {}).get(name, 0)
    return f"{count:,} ({count / split.documents:.1%})"


def _lengths(console: Console, audit: Audit) -> None:
    _title(console, f"documents by length in {audit.unit}, all splits")
    counts = [sum(bins) for bins in zip(*(split.histogram for split in audit.splits), strict=True)]
    width = len(f"{audit.edges[-1]:,}")
    for low, high, count in zip(audit.edges, audit.edges[1:], counts, strict=False):
        bar = "█" * max(round(_BAR * count / max(counts)), 1 if count else 0)
        line = f"{low:>{width},} to {high - 1:>{width},}  {count:>9,}  {bar}"
        console.print(Text(line.rstrip()))


def _reading(console: Console, audit: Audit) -> None:
    if audit.chunking is None:
        return
    chunking = audit.chunking
    table = new_table(["split"], ["tokens read", "documents read to the end"])
    for split in audit.splits:
        whole = split.documents - (split.documents_cut or 0)
        read = f"{(split.tokens_read or 0) / split.units:.1%}"
        add_row(table, [split.name, read, f"{whole:,} ({whole / split.documents:.1%})"])
    _title(
        console,
        f"what a classifier reads with chunk_size {chunking.chunk_size}, stride {chunking.stride}, "
        f"max_chunks {chunking.max_chunks}",
    )
    console.print(table)
    # of shares that need the same the highest says all
    needed = {(need.for_tokens, need.for_documents): need.share for need in audit.needed}
    for (for_tokens, for_documents), share in needed.items():
        text = f"max_chunks {for_tokens:,} reads {share:.0%} of the tokens, "
        console.print(Text(f"{text}{for_documents:,} reads {share:.0%} of the documents to the end"))


def _pairs(console: Console, audit: Audit) -> None:
    table = new_table(["document", "of", "is like", "of"], ["similarity"])
    for overlap in audit.overlaps:
        for pair in overlap.examples:
            _add_pair(table, pair, overlap.split, overlap.other)
    for split in audit.splits:
        for pair in split.copies.examples:
            _add_pair(table, pair, split.name, split.name)
    if table.row_count:
        _title(console, "some documents that stand twice")
        console.print(table)


def _add_pair(table: Table, pair: Pair, split: str, other: str) -> None:
    names = (short_name(pair.first), split, short_name(pair.second), other)
    add_row(table, [*names, f"{pair.similarity:.2f}"])
