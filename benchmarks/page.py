"""Results as Markdown: printed after each row, and put between the markers of docs/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.experiment import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"
START, END = "<!-- tables: made by python -m benchmarks page -->", "<!-- end of tables -->"

Result = Mapping[str, Any]

COMPARISON_HEADER = (
    "| other side | dropout ours / theirs | ours | theirs | ratio (pairs) | at least / aim "
    "| share of GEMM rate | peak MiB | difference |",
    "|---|---|---|---|---|---|---|---|---|",
)


def section(result: Result) -> list[str]:
    """Return the lines of one row: a heading, what was done, the tables, and where."""
    lines = [f"### {result['title']}", ""]
    if "comparisons" in result:
        lines += [*COMPARISON_HEADER, *_comparison_lines(result), ""]
    for table in result.get("tables", ()):
        lines += [*_table_lines(table["header"], table["rows"]), ""]
    if result.get("note"):
        lines += [result["note"], ""]
    return [*lines, f"<sub>{machine_line(result['machine'])}</sub>", ""]


def _comparison_lines(result: Result) -> Iterator[str]:
    # the ratios asked for are about bf16 beside float32
    wanted = result["wanted"] if result["machine"]["multiplies_bf16"] else {}
    for name, compared in result["comparisons"].items():
        ours, theirs = compared["ours"], compared["theirs"]
        low, high = compared["ratios"]
        least, aim = wanted.get(name, (None, None))
        cells = [
            compared["peer"],
            f"{compared['our_dropout']} / {compared['their_dropout']}",
            _rate(result, ours["seconds"]),
            _rate(result, theirs["seconds"]),
            f"**{compared['ratio']:.2f}×** ({low:.2f}–{high:.2f})",
            "" if least is None else f"{least:g}× / {aim:g}×",
            f"{_share(result, ours['seconds'])} / {_share(result, theirs['seconds'])}",
            f"{ours['peak_mib']:,.0f} / {theirs['peak_mib']:,.0f}",
            f"{compared['difference']:.0e}",
        ]
        yield f"| {' | '.join(cells)} |"


def _rate(result: Result, seconds: float) -> str:
    """Return real tokens per second, and documents per second where the work is documents."""
    tokens = f"{result['tokens'] / seconds:,.0f} tokens/s"
    return tokens + (f", {result['documents'] / seconds:.3g} documents/s" if "documents" in result else "")


def _share(result: Result, seconds: float) -> str:
    machine = result["machine"]
    fastest = machine["gemm_bf16"] if machine["multiplies_bf16"] else machine["gemm_fp32"]
    return f"{result['flops'] / seconds / fastest:.1%}"


def _table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(cells)} |" for cells in rows]


def read_results(folder: Path) -> dict[str, Result]:
    """Return what was measured so far, row to result."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def write_page(measured: Mapping[str, Mapping[str, Result]], order: Mapping[str, Sequence[str]]) -> None:
    """Put tables between the page's markers; those of rows that were not measured here stay as they are.

    Args:
        measured: heading to (the row's title to its result).
        order: headings with the titles below them, as the page shows them; a row that is not among them any
            more leaves the page.
    """
    head, rest = PAGE.read_text(encoding="utf-8").split(START)
    before, tail = rest.split(END)
    known = _read_sections(before)
    blocks = [START]
    for heading, titles in order.items():
        sections = known.get(heading, {}) | {
            title: "\n".join(section(result)) for title, result in measured.get(heading, {}).items()
        }
        blocks.append(f"## {heading}")
        if not sections:
            blocks.append("Not measured.")
            continue
        blocks += [sections.get(title, f"### {title}\n\nNot measured.").strip() for title in titles]
    atomic_write_text(PAGE, head + "\n\n".join([*blocks, END]) + tail)


def _read_sections(tables: str) -> dict[str, dict[str, str]]:
    """Return what stands on the page: heading to (title to its lines)."""
    known = {}
    for part in re.split(r"^## ", tables, flags=re.MULTILINE)[1:]:
        heading, *sections = re.split(r"^### ", part, flags=re.MULTILINE)
        known[heading.splitlines()[0]] = {own.splitlines()[0]: f"### {own}" for own in sections}
    return known
