"""Documents in memory: texts in a list, or the rows of a DataFrame."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from textclf_transformer.data.tables import Columns, check_in_order, plain_values, row_document
from textclf_transformer.data.text_files import Document, shows_something
from textclf_transformer.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

COLUMNS = ("text", "label", "id", "group")


class Records:
    """The documents of texts in memory, in their order; a text without an id of its own is called by its
    place, from 0.

    Args:
        rows: each with ``text``, and maybe ``label``, ``id`` and ``group``.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    @classmethod
    def of(
        cls,
        texts: Any,
        *,
        labels: Sequence[Any] | NDArray[Any] | Tensor | None = None,
        columns: Sequence[str] = COLUMNS,
    ) -> Records:
        """Take strings with their labels, if they have any, or the ``columns`` of a DataFrame.

        Raises:
            DataError: the DataFrame has no such column, there is not one label for each text, or texts or
                labels are a dict or a set.
            TypeError: ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise TypeError("texts is one string; put it into a list")
        frame = as_frame(texts)
        if frame is not None:
            if labels is not None:
                raise DataError("a DataFrame has its labels in a column 'label'", found="labels beside it")
            return cls(_frame_rows(frame, columns))
        check_in_order(texts, "texts")
        texts = list(texts)
        if labels is None:
            return cls([{"text": text} for text in texts])
        check_in_order(labels, "labels")
        values = plain_values(labels)
        if len(values) != len(texts):
            found = f"{len(values)} for {len(texts)} texts"
            raise DataError("one label for each text is needed", found=found)
        return cls([{"text": text, "label": label} for text, label in zip(texts, values, strict=True)])

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents; DataError, with its place, where a text is empty or a value is faulty."""
        has_labels = any("label" in row for row in self._rows)
        columns = Columns(text="text", label="label" if has_labels else None, id=None, group=None)
        for place, row in enumerate(self._rows):
            document = row_document(row, columns, where=f"texts[{place}]", default_id=str(place))
            if not shows_something(document.text):
                raise DataError("the text is empty", where=document.source)
            yield document


def as_frame(texts: Any) -> Any:
    """Return ``texts`` if it is a DataFrame, else None; without importing pandas for those who do not use
    it.
    """
    module = sys.modules.get("pandas")
    return texts if module is not None and isinstance(texts, module.DataFrame) else None


def _frame_rows(frame: Any, wanted: Sequence[str]) -> list[dict[str, Any]]:
    columns = [name for name in wanted if name in frame.columns]
    if "text" not in columns:
        found = ", ".join(map(repr, frame.columns))
        raise DataError("the DataFrame has no column 'text'", found=found or "no columns")
    for name in columns:
        if list(frame.columns).count(name) != 1 or frame[name].ndim != 1:
            raise DataError(f"the DataFrame has several columns {name!r}")
    lists = {name: plain_values(frame[name]) for name in columns}
    missing = sys.modules["pandas"].NA  # the nothing of its own columns of strings and integers
    lists |= {
        name: [None if value is missing else value for value in lists[name]]
        for name in ("id", "group")
        if name in lists
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists.values(), strict=True)]
