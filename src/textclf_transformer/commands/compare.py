"""``textclf compare``: runs side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from textclf_transformer.atomic import atomic_write, atomic_write_json
from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.commands.outputs import check_output, check_outputs_differ
from textclf_transformer.commands.tables import add_row, new_table, number_or_dash, results_console
from textclf_transformer.errors import UsageError, UserError, counted, printable
from textclf_transformer.evaluation.comparison import (
    Comparison,
    Pairing,
    compare_records,
    group_runs,
    stand_abreast,
)
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.paired import Judged, judge, paired_differences
from textclf_transformer.evaluation.report_run import RunRecord, read_record
from textclf_transformer.evaluation.run_lookup import find_run
from textclf_transformer.experiment import Kind

KINDS: tuple[Kind, ...] = ("finetuning", "pretraining")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "textclf compare",
        "Show what differs between runs, in config and in result, and whether it can be chance. "
        "Runs that differ in name and seed only are taken together.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="names of runs (of two of one name the finetuning run), or paths of their folders (with a /)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the curves too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here too")
    parser.add_argument(
        "--no-predictions",
        action="store_true",
        help="classify nothing: no paired bootstrap, but done in a second",
    )
    return run_command(parser, argv, _compare)


def _compare(arguments: argparse.Namespace) -> None:
    outputs = {"--html": arguments.html, "--json": arguments.json}
    for flag, path in outputs.items():
        check_output(flag, path)
    check_outputs_differ(outputs)
    named = [find_run(run, KINDS, first_wins=True) for run in arguments.runs]
    folders = {folder.root.resolve(): folder for folder in named}
    if len(folders) < 2:
        raise UsageError("nothing to compare", found="one run", expected="two or more")
    records = [read_record(folder) for folder in folders.values()]
    if len({record.kind for record in records}) > 1:
        raise UsageError(
            "these runs do different things",
            found=", ".join(f"{record.run.name} ({record.kind})" for record in records[:6]),
            expected="all finetuning, or all pretraining",
        )
    groups = group_runs(records)
    comparison = compare_records(groups)
    if len(folders) < len(named):
        comparison.notes.append("a run that is named more than once counts once")
    if records[0].kind == "finetuning" and not arguments.no_predictions and len(groups) > 1:
        _pair(comparison, groups, arguments)
    if arguments.json is not None:
        atomic_write_json(arguments.json, comparison.to_dict())
    if arguments.html is not None:
        # matplotlib is slow to import
        from textclf_transformer.evaluation.comparison_page import comparison_page
        from textclf_transformer.evaluation.report_page import encoded

        page = encoded(comparison_page(comparison, groups))
        atomic_write(arguments.html, lambda stream: stream.write(page))
    print_comparison(comparison)


def _pair(
    comparison: Comparison, groups: Sequence[Sequence[RunRecord]], arguments: argparse.Namespace
) -> None:
    """Add the paired bootstrap of each further setting against the first, or a note why there is none."""
    judged: list[list[Judged]] = []
    try:
        for group in groups:
            judged.append([])
            for record in group:
                if not arguments.quiet:
                    print(f"classifying with {printable(record.run.name)} …", file=sys.stderr)
                run = load_run(record.run.root, trust_code=arguments.trust_code)
                judged[-1].append(judge(run))
    except UserError as fault:
        comparison.notes.append(f"no paired bootstrap: {fault}")
        return
    reference = judged[0][0]
    if not all(reference.same_documents(one) for group in judged for one in group):
        comparison.notes.append("no paired bootstrap: the runs were not judged on the same documents")
        return
    for setting, others in zip(comparison.settings[1:], judged[1:], strict=True):
        differences = paired_differences(
            [one.predictions for one in judged[0]],
            [one.predictions for one in others],
            reference.labels,
            num_labels=len(reference.label_names),
        )
        comparison.pairings.append(
            Pairing(
                comparison.settings[0].name, setting.name, reference.split, len(reference.ids), differences
            )
        )


def print_comparison(comparison: Comparison) -> None:
    """Print all tables to stdout."""
    console = results_console()
    table = new_table(["setting", "runs", "seeds"], ["parameters", "minutes"])
    for setting in comparison.settings:
        size = "–" if setting.parameters is None else f"{setting.parameters:,}"
        time = "–" if setting.minutes is None else f"{setting.minutes:.1f}"
        seeds = ", ".join(map(str, setting.seeds))
        add_row(table, [setting.name, ", ".join(setting.runs), seeds, size, time])
    console.print(table)

    differences = _by_setting(comparison, "differs in", comparison.differences, numbers=False)
    console.print()
    console.print(differences if differences.row_count else Text("nothing but names and seeds differs"))

    scores = {
        name: [
            number_or_dash(score.mean) + ("" if score.deviation is None else f" ± {score.deviation:.4f}")
            for score in row
        ]
        for name, row in comparison.scores.items()
    }
    results = _by_setting(comparison, "result, ± over seeds", scores, numbers=True)
    console.print()
    console.print(results if results.row_count else Text("no results yet"))

    for pair in comparison.pairings:
        documents = counted(pair.documents, f"{pair.split} document")
        title = f"{pair.second} against {pair.first} on the same {documents}"
        chance = new_table([title], ["difference", "95 % interval", f"{pair.second} better in"])
        chance.add_column("")
        for score, measured in pair.differences.items():
            interval = f"{measured['low']:+.4f} to {measured['high']:+.4f}"
            cells = [score, f"{measured['difference']:+.4f}", interval, f"{measured['better']:.1%}"]
            add_row(chance, [*cells, pair.verdict(score)])
        console.print()
        console.print(chance)
    for note in comparison.notes:
        console.print(Text(f"note: {printable(note)}"))


def _by_setting(
    comparison: Comparison, title: str, rows: Mapping[str, Sequence[str]], *, numbers: bool
) -> Table:
    """Return a table of ``rows``, name → a cell for each setting; of many settings each has a row."""
    names = [setting.name for setting in comparison.settings]
    abreast = stand_abreast(comparison)
    first, columns = (title, names) if abreast else ("setting", list(rows))
    table = new_table([first], columns) if numbers else new_table([first, *columns], [])
    cells: Iterable[tuple[str, Sequence[str]]] = rows.items()
    if rows and not abreast:
        cells = zip(names, zip(*rows.values(), strict=True), strict=True)
    for name, values in cells:
        add_row(table, [name, *values])
    return table


if __name__ == "__main__":
    raise SystemExit(main())
