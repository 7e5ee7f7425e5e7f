"""Numbering labels while documents stream by; their order does not depend on the order of the rows."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, listed

SEPARATOR = "|"
"""Between the labels of one document in a cell: ``politics|law``."""

_MAX_SHOWN = 60
_LIST = r"""\[(\s*["'].*["']\s*|[\s\d,-]*)\]"""


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return label names in their order: by value where all are whole numbers, else by their characters."""
    found = set(names)
    if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def labels_of(document: Document, *, multi_label: bool) -> tuple[str, ...] | None:
    """Return the labels of a document, None if it was read without one.

    Raises:
        DataError: the label is empty, stands twice, or there are several and ``multi_label`` is off; with it,
            a cell holds a list, or a name the separator.
    """
    if document.label is None:
        return None
    if not multi_label:
        if isinstance(document.label, tuple):
            raise DataError(
                "the label is a list",
                where=document.source,
                found=repr(list(document.label)),
                mend="add --multi-label if documents carry several labels",
            )
        labels: tuple[str, ...] = (document.label,)
    elif isinstance(document.label, tuple):
        labels = document.label
    else:
        _refuse_list_in_cell(document.label, document.source)
        labels = tuple(document.label.split(SEPARATOR)) if document.label else ()
    if multi_label and (unclear := [label for label in labels if SEPARATOR in label]):
        raise DataError(
            f"a label holds {SEPARATOR!r}, which stands between labels in tables of predictions",
            where=document.source,
            found=repr(unclear[0]),
            mend="rename it, or give several labels as several items of the list",
        )
    if any(not label or label.isspace() for label in labels):
        raise DataError("a label is empty", where=document.source, found=repr(document.label))
    if len(set(labels)) < len(labels):
        raise DataError("a label stands twice", where=document.source, found=repr(document.label))
    return labels


def _refuse_list_in_cell(cell: str, where: str) -> None:
    """Raise DataError where a cell of several labels is a list as JSON or Python writes it, which would be
    taken for one name.
    """
    if re.fullmatch(_LIST, cell.strip(), flags=re.DOTALL):
        raise DataError(
            "the label is a list in one cell",
            where=where,
            found=repr(cell[:_MAX_SHOWN]),
            mend=f"write a{SEPARATOR}b in a cell",
        )


class LabelCodes:
    """The labels of the documents so far: 4 bytes a label.

    Args:
        multi_label: whether a document carries any number of labels.
        names: the labels that may occur, in their order; None: whichever occur.
    """

    def __init__(self, *, multi_label: bool, names: Sequence[str] | None) -> None:
        self.multi_label = multi_label
        self._given = None if names is None else tuple(names)
        self._code = {name: code for code, name in enumerate(self._given or ())}
        self._codes = array("i")
        self._counts = array("i")  # labels of each document
        self._labelled: bool | None = None if names is None else True

    def add(self, document: Document) -> None:
        """Take in the labels of the next document.

        Raises:
            DataError: a label is not among the given names, or some documents have labels and others none.
        """
        labels = labels_of(document, multi_label=self.multi_label)
        if self._labelled is None:
            self._labelled = labels is not None
        if self._labelled != (labels is not None):
            raise DataError(
                "some documents have labels and others have none",
                where=document.source,
                mend="add --no-labels to read none, or give all documents a label",
            )
        for label in labels or ():
            if self._given is not None and label not in self._code:
                raise DataError(
                    "the label does not occur in the training data",
                    where=document.source,
                    found=repr(label),
                    expected=_shown(self._given),
                )
            self._codes.append(self._code.setdefault(label, len(self._code)))
        self._counts.append(len(labels or ()))

    def finish(self) -> tuple[tuple[str, ...] | None, NDArray[np.int64] | None]:
        """Return the names in their order and the labels, both None without labels.

        The labels are int64 (documents,), or 0/1 of (documents, L) where documents carry several.
        """
        if not self._labelled:
            return None, None
        names = self._given if self._given is not None else sorted_names(self._code)
        position = {name: index for index, name in enumerate(names)}
        order = np.array([position[name] for name in self._code], dtype=np.int64)
        codes = (
            order[np.frombuffer(self._codes, dtype=np.intc)] if self._codes else np.zeros(0, dtype=np.int64)
        )
        if not self.multi_label:
            return names, codes
        labels = np.zeros((len(self._counts), len(names)), dtype=np.int64)
        labels[np.repeat(np.arange(len(self._counts)), np.frombuffer(self._counts, dtype=np.intc)), codes] = 1
        return names, labels


def _shown(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], at_most=10)
