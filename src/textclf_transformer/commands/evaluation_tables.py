"""What ``textclf evaluate`` prints: the result of ``evaluate_run`` as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textclf_transformer.commands.tables import (
    MAX_LABELS_SHOWN,
    add_row,
    new_table,
    number_or_dash,
    results_console,
)
from textclf_transformer.errors import counted, not_read, printable, short_name
from textclf_transformer.evaluation.bootstrap import without_width
from textclf_transformer.evaluation.breakdowns import most_frequent
from textclf_transformer.evaluation.scores import KAPPA, SCORE_NAMES

MAX_LABELS_IN_MATRIX = 20
NO_LABEL = "(no label)"

_PERSON_TAKES = 0.85  # the first row that decides fewer documents is spelt out

_TITLES = {
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "f1_weighted": "weighted F1",
    "mcc": "MCC",
    KAPPA: "quadratic kappa",
}


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print all tables to stdout."""
    console = results_console()
    console.print(Text(_headline(result)))
    makers = (_scores, _classes, _confusion, _calibration, _by_length, _coverage, _mistakes)
    for title, table in (make(result) for make in makers):
        console.print()
        console.print(Text(title, style="bold"))
        if table.row_count:
            console.print(table)
    _evidence(console, result)
    for note in result["notes"]:
        console.print(Text(f"note: {printable(note)}"))


def _headline(result: Mapping[str, Any]) -> str:
    read = result["coverage"]
    line = (
        f"{printable(result['run'])} ({result['checkpoint']}, step {result['step']})\n"
        f"on {counted(read['documents'], 'document')} of {printable(result['data'])}; "
        f"{read['tokens_read']:,} of {counted(read['tokens'], 'token')} read; "
        f"computed in {result['numerics']}"
    )
    if read["tokens_dropped"]:
        line += (
            f"; max_chunks cuts {counted(read['documents_cut'], 'document')}, "
            f"{not_read(read['tokens_dropped'])}"
        )
    area = number_or_dash(result["auc_macro"])
    return f"{line}\nloss {result['loss']:.4f}, AUC (one against the rest, mean) {area}"


def _scores(result: Mapping[str, Any]) -> tuple[str, Table]:
    names = [*SCORE_NAMES, *([KAPPA] if result["ordered"] else [])]
    table = new_table([""], [_TITLES[name] for name in names])
    for row in result["scores"]:
        cells = []
        for name in names:
            low, high = row["intervals_95"][name]
            cells.append(f"{number_or_dash(row[name])} [{number_or_dash(low)}, {number_or_dash(high)}]")
        add_row(table, [row["name"], *cells])
    title = "scores, in brackets the 95 % bootstrap interval"
    if result["multi_label"]:
        title += "; accuracy: all labels of a document right"
    return "\n".join([title, *without_width(result)]), table


def _classes(result: Mapping[str, Any]) -> tuple[str, Table]:
    thresholds = result["thresholds"]
    given_above = [] if thresholds is None else ["given above"]
    table = new_table(["label"], ["precision", "recall", "F1", "AUC", "documents", *given_above])
    for place in most_frequent(result, MAX_LABELS_SHOWN):
        row = result["classes"][place]
        cells = [number_or_dash(row[name]) for name in ("precision", "recall", "f1", "auc")]
        cells.append(f"{row['documents']:,}")
        if thresholds is not None:
            cells.append(number_or_dash(thresholds[place]))
        add_row(table, [short_name(row["label"]), *cells])
    title = "labels" if thresholds is None else "labels, each given above a probability chosen on val"
    return title + _only_some(result), table


def _confusion(result: Mapping[str, Any]) -> tuple[str, Table]:
    names = result["labels"]
    if result["multi_label"]:
        title = f"confusion of each label{_only_some(result)}"
        columns = ["true negatives", "false positives", "false negatives", "true positives"]
        table = new_table(["label"], columns)
    elif len(names) > MAX_LABELS_IN_MATRIX:
        return f"confusion of {len(names)} labels: too wide to print, see --json", new_table([], [])
    else:
        title = "confusion: rows are true, columns predicted"
        table = new_table([""], [short_name(name) for name in names])
    for place in most_frequent(result, MAX_LABELS_SHOWN):
        counts = result["confusion"][place]
        add_row(table, [short_name(names[place]), *(f"{count:,}" for count in counts)])
    return title, table


def _only_some(result: Mapping[str, Any]) -> str:
    """Return what a title adds where there are more labels than a table shows."""
    count = len(result["labels"])
    if count <= MAX_LABELS_SHOWN:
        return ""
    return f": the {MAX_LABELS_SHOWN} with the most documents of {count:,}, for all see --json"


def _calibration(result: Mapping[str, Any]) -> tuple[str, Table]:
    calibration = result["calibration"]
    title = f"calibration: expected error {number_or_dash(calibration['expected_calibration_error'])}"
    if calibration["temperature"] is not None:
        fitted_on = counted(calibration["temperature_fitted_on"], "document")
        title += f"; temperature {calibration['temperature']:.3f}, fitted on the {fitted_on} of val"
    after = calibration["expected_calibration_error_after"]
    if after is not None and after > calibration["expected_calibration_error"]:
        title += (
            f", makes it worse: {number_or_dash(after)}. Leave the probabilities as they are; "
            "val is too small to fit it, or unlike these documents"
        )
    elif after is not None:
        title += f", makes it {number_or_dash(after)}"
    table = new_table(["confidence"], ["decisions", "mean confidence", "accuracy"])
    for entry in calibration["reliability"]:
        confidence = f"{entry['low']:.2f} to {entry['high']:.2f}"
        add_row(
            table,
            [
                confidence,
                f"{entry['decisions']:,}",
                number_or_dash(entry["confidence"]),
                number_or_dash(entry["accuracy"]),
            ],
        )
    return title, table


def _by_length(result: Mapping[str, Any]) -> tuple[str, Table]:
    table = new_table(["tokens"], ["documents", "truncated", "accuracy", "macro F1"])
    for row in result["by_length"]:
        tokens = f"{row['tokens_from']:,} to {row['tokens_to']:,}"
        counts = [f"{row['documents']:,}", f"{row['truncated']:,}"]
        add_row(table, [tokens, *counts, number_or_dash(row["accuracy"]), number_or_dash(row["f1_macro"])])
    return "by length", table


def _coverage(result: Mapping[str, Any]) -> tuple[str, Table]:
    table = new_table(["decided by the model"], ["from confidence", "accuracy", "risk"])
    for row in result["coverage_risk"]:
        cells = [number_or_dash(row[name]) for name in ("confidence", "accuracy", "risk")]
        add_row(table, [f"{row['coverage']:.0%}", *cells])
    title = "coverage against risk: the least certain documents go to a person"
    some = next((row for row in result["coverage_risk"] if row["coverage"] < _PERSON_TAKES), None)
    if some is not None:
        everything = result["coverage_risk"][0]["accuracy"]
        title += (
            f"\nif a person takes the least certain {1 - some['coverage']:.0%}, the model is right in "
            f"{some['accuracy']:.1%} of the others (of all: {everything:.1%})"
        )
    return title, table


def _mistakes(result: Mapping[str, Any]) -> tuple[str, Table]:
    table = new_table(["id", "true", "predicted"], ["confidence"])
    for row in result["worst_mistakes"]:
        names = [short_name(row[key] or NO_LABEL, several=True) for key in ("true", "predicted")]
        add_row(table, [short_name(row["id"]), *names, number_or_dash(row["confidence"])])
    return "worst mistakes" if table.row_count else "no mistakes", table


def _evidence(console: Console, result: Mapping[str, Any]) -> None:
    """Show what decided each of the worst mistakes: by attention, and by occlusion where that differs."""
    rows = [row for row in result["worst_mistakes"] if row.get("by_attention") is not None]
    if not rows:
        return
    console.print()
    console.print(Text("the chunks that counted most in them", style="bold"))
    console.print(
        Text(
            "by attention: its weight in the document; by occlusion: how far the log-probability falls "
            "without it, near 0 where no single chunk decided"
        )
    )
    for row in rows:
        by_attention, by_occlusion = row["by_attention"], row["by_occlusion"]
        console.print()
        true, predicted = (short_name(row[key] or NO_LABEL, several=True) for key in ("true", "predicted"))
        console.print(Text(printable(f"{short_name(row['id'])}: {true}, taken for {predicted}")))
        if by_occlusion is not None and by_attention["chunk"] == by_occlusion["chunk"]:
            _passage(console, "attention and occlusion", by_attention)
            continue
        _passage(console, "attention", by_attention)
        if by_occlusion is not None:
            _passage(console, "occlusion", by_occlusion)


def _passage(console: Console, measure: str, passage: Mapping[str, Any]) -> None:
    value = f"weight {passage['attention_weight']:.2f}"
    if passage["occlusion_drop"] is not None:
        value += f", drop {passage['occlusion_drop']:+.3f}"
    # chunks are counted from 1 for people, as in the report, and from 0 in JSON
    words = f"by {measure}, chunk {passage['chunk'] + 1} ({value}): {printable(passage['text'])}"
    console.print(Padding(Text(words, style="dim"), (0, 0, 0, 2), expand=False))
