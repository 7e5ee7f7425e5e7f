"""Documents from rows with named columns: what a row must have."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import KeysView, Mapping, Set
from dataclasses import dataclass
from typing import Any

from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError

_EXACT = 2**53  # up to here a float is the integer that it was made of


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns.

    ``label`` None: no labels are read; ``id`` or ``group`` None: the column of that name, if there is one.
    """

    text: str
    label: str | None
    id: str | None
    group: str | None

    def required(self) -> list[str]:
        """Return the columns that every input must have."""
        return [name for name in (self.text, self.label, self.id, self.group) if name is not None]

    def optional(self) -> list[str]:
        """Return the columns that are read where they are there; one that was named for something else, as a
        label's column ``group`` may be, is that alone.
        """
        defaults = (("id", self.id), ("group", self.group))
        return [name for name, chosen in defaults if chosen is None and name not in self.required()]


def row_document(record: Mapping[str, Any], columns: Columns, *, where: str, default_id: str) -> Document:
    """Return the document of one row or JSON record.

    Raises:
        DataError: a column is missing, or holds what is no text, label, id or group; ``where`` and column are
            named.
    """
    for name in columns.required():
        if name not in record:
            raise missing_column(name, columns, found=list(record), where=where)
    text = record[columns.text]
    if not isinstance(text, str):
        raise _wrong_type(where, columns.text, text, "a string")
    _check_characters(text, where, columns.text)
    label = None if columns.label is None else _label(record[columns.label], where, columns.label)
    optional = columns.optional()
    identity, group = (
        _short_text(record.get(name), where, name) if chosen is not None or name in optional else ""
        for chosen, name in ((columns.id, columns.id or "id"), (columns.group, columns.group or "group"))
    )
    return Document(text, label, identity or default_id, group or None, where)


def missing_column(name: str, columns: Columns, *, found: list[str], where: str) -> DataError:
    """Return the error for a column that is not there; it says which flag names another."""
    shown = ", ".join(map(repr, found[:20])) or "no columns"
    mend = {
        columns.text: "name it with --text-column",
        columns.label: "name it with --label-column; textclf prepare --no-labels reads none",
    }.get(name)
    return DataError(f"there is no column {name!r}", where=where, found=shown, mend=mend)


def _label(value: Any, where: str, column: str) -> str | tuple[str, ...]:
    """Return the label as text: 3 is "3", true is "true"; a list of such is a tuple."""
    if isinstance(value, list):
        labels = tuple(one_label(item, where, column) for item in value)
        if len(set(labels)) < len(labels):
            raise DataError("a label stands twice", where=f"{where}: {column}", found=repr(value))
        return labels
    return one_label(value, where, column)


def one_label(value: Any, where: str, column: str) -> str:
    """Return the label as text, by which a store knows it: 3 is "3", true is "true".

    Raises:
        DataError: it is no string, integer or bool; the message names ``where`` and the ``column``.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise _wrong_type(where, column, value, "a string, an integer, or a list of them")
    _check_characters(value, where, column)
    return value


def plain_values(values: Any) -> list[Any]:
    """Return the items of a list, array, tensor or column as Python's own ints, bools, floats and strings.

    Raises:
        DataError: it is an array or tensor of more than one dimension.
    """
    if getattr(values, "ndim", 1) != 1:
        raise DataError(
            "a value for each text is needed",
            found=f"an array of shape {tuple(values.shape)}",
            expected="one dimension, or a list",
        )
    return [_plain(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]


def check_in_order(values: Any, name: str) -> None:
    """Refuse what would be gone through otherwise than meant: a string by its characters, a dict or DataFrame
    by its keys, a set in an order of its own.

    Raises:
        DataError: ``values`` are none of a list, an array, a tensor or a column.
    """
    # the keys of a dict are called a set, but have its order
    is_other = isinstance(values, str | bytes | Mapping | Set) and not isinstance(values, KeysView)
    if is_other or not hasattr(values, "__iter__") or _is_frame(values):
        raise DataError(
            f"{name} are no items in an order",
            found="one string" if isinstance(values, str) else type(values).__name__,
            expected="a list, an array or a column",
        )


def _is_frame(values: Any) -> bool:
    return hasattr(values, "columns") and hasattr(values, "keys")


def _plain(value: Any) -> Any:
    """Return what is taken out of an array or tensor, which is no int and no bool of Python, as one; several
    labels as a list, for a column of lists in a Parquet file is one of arrays in pandas.
    """
    if isinstance(value, list | tuple) or getattr(value, "ndim", None) == 1:
        return [_plain(item) for item in value]
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _short_text(value: Any, where: str, column: str) -> str:
    """Return an id or group as text, "" where there is none, or what is no number (NaN) or time (NaT) stands
    for none: as a group, it would bind all such documents together. 7.0 is "7", for a column of integers
    with a gap holds floats.
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        value = int(value)
    if isinstance(value, (int, float, decimal.Decimal, datetime.date)) and not isinstance(value, bool):
        return str(value) if value == value else ""
    if not isinstance(value, str):
        raise _wrong_type(where, column, value, "a string or a number")
    _check_characters(value, where, column)
    return value


def _check_characters(value: str, where: str, column: str) -> None:
    """Refuse halves of surrogate pairs, which JSON can spell (``\\ud800``) and UTF-8 cannot write."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "no valid character",
            where=f"{where}: {column}",
            found=f"character {error.start + 1} is half a pair",
        ) from error


def _wrong_type(where: str, column: str, value: Any, expected: str) -> DataError:
    shown = "nothing (null)" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
    return DataError(
        "the value is of a wrong type", where=f"{where}: {column}", found=shown, expected=expected
    )
