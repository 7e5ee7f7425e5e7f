"""Predictions as lines of CSV or JSONL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from textclf_transformer.evaluation.predict import Prediction, prediction_columns

# A spreadsheet takes a cell that begins so for a formula, which may call programs (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def jsonl_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield a line of JSON for each prediction; strings are exactly those of the input."""
    for prediction in predictions:
        yield json.dumps(prediction.row(), ensure_ascii=False, allow_nan=False) + "\n"


def csv_lines(
    predictions: Iterable[Prediction], *, label_names: Sequence[str], explain: bool
) -> Iterator[str]:
    """Yield the header and a record for each prediction, passages as JSON in one cell.

    A text cell that a spreadsheet would take for a formula gets an apostrophe in front, see ``escape_cell``.
    """
    columns = prediction_columns(label_names, explain=explain)
    yield _record(columns)
    for prediction in predictions:
        row = prediction.row()
        yield _record([_cell(row[name]) for name in columns])


def escape_cell(text: str) -> str:
    """Return ``text``, with an apostrophe in front where it begins with = + - @, a tab or a carriage return.

    Spreadsheets show such a cell as text, without the apostrophe. To read the file by program, take away one
    apostrophe from cells that begin with ``'`` and one of these characters, or use JSONL.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    # only text can be someone else's: a number that begins with - is a number
    return escape_cell(value) if isinstance(value, str) else repr(value)


def _record(cells: Sequence[str]) -> str:
    line = io.StringIO()
    # cells are quoted that hold a character of the line's end: a lone \r ends a record for many readers, too
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"
