"""Reading documents from text files, one at a time: JSONL, CSV, TSV, Parquet, plain text, folders of text
files.

Everything is read as text: a cell ``NA`` or ``007`` and a word ``no`` stay what they are. The inputs are
streamed, so that memory does not grow with them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from textclf_transformer.atomic import storage_errors
from textclf_transformer.data.table_files import read_csv, read_parquet
from textclf_transformer.data.tables import Columns, row_document
from textclf_transformer.data.text_files import (
    MAX_LINE_BYTES,
    STDIN,
    TEXT_SUFFIXES,
    Document,
    format_suffix,
    packed_kind,
    plain_stem,
    read_lines,
    shows_something,
)
from textclf_transformer.data.text_folders import read_folder
from textclf_transformer.errors import DataError
from textclf_transformer.utils import real_path

JSONL_SUFFIXES = (".jsonl", ".ndjson")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET_SUFFIX = ".parquet"
STDIN_FORMATS = ("auto", "jsonl", "csv", "tsv", "txt")
FORMATS = ".jsonl, .csv, .tsv, .parquet, .txt (also with .gz, .bz2 or .xz), or a folder of .txt files"


class Corpus:
    """The documents of some files and folders; each pass over it reads them anew.

    Args:
        inputs: files, or folders whose sub-folders are the labels.
        text_column: the column, or JSON key, of the text.
        label_column: that of the label; None: labels are not read. Plain text files have none.
        id_column: that of the id, which must be there; None: ``id`` where there is one.
        group_column: that of the group, which must be there; None: ``group`` where there is one.
        skip_empty: whether documents without text, or with characters that show nothing only, are left out,
            and counted, instead of being an error.
        stdin_format: one of ``STDIN_FORMATS``, of the input ``-``, which can be read once; ``auto`` takes it
            for JSONL where it begins with a brace, for CSV or TSV where its first line names the column of
            the text, else for plain text, with a warning if it looks like a table. None: ``-`` is not read.

    Attributes:
        skipped: documents left out in the last pass.

    Raises:
        DataError: an input is named twice.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        *,
        text_column: str = "text",
        label_column: str | None = "label",
        id_column: str | None = None,
        group_column: str | None = None,
        skip_empty: bool = False,
        stdin_format: str | None = None,
    ) -> None:
        self._stdin_format = stdin_format
        self._inputs = tuple(inputs)
        _refuse_doubles(self._inputs, stdin=None if stdin_format is None else Path(STDIN))
        self._columns = Columns(text_column, label_column, id_column, group_column)
        self._skip_empty = skip_empty
        self.skipped = 0

    def check_inputs(self) -> None:
        """Raise DataError where an input is missing or of an unknown format, before anything is read."""
        for path in self._inputs:
            if str(path) != STDIN and not path.is_dir():
                _file_suffix(path)

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents in the order of the inputs; folders in the order of their files' names.

        Raises:
            DataError: an input is missing, of an unknown format or damaged, or a row is wrong; file, line and
                column are named.
            UsageError: a Parquet file, and pyarrow is not installed.
            StorageError: the disk or the permissions keep an input from being read.
        """
        self.skipped = 0
        for path in self._inputs:
            documents = 0
            with storage_errors(path):  # what fails in a read names no file
                for document in _read_input(path, self._columns, self._stdin_format):
                    documents += 1
                    if not self._is_left_out(document):
                        yield document
            if not documents and len(self._inputs) > 1:  # without any document the caller speaks
                warnings.warn(f"{path} holds no document", stacklevel=2)

    def _is_left_out(self, document: Document) -> bool:
        """Count a document that shows nothing and is to be left out; DataError where it may not be."""
        if shows_something(document.text):
            return False
        if not self._skip_empty:
            raise DataError(
                "the text is empty",
                where=f"{document.source}: {self._columns.text}",
                found=ascii(document.text[:40]) if document.text.strip() else None,
                mend="take the document out, or add --skip-empty",
            )
        self.skipped += 1
        return True


def _refuse_doubles(inputs: Sequence[Path], *, stdin: Path | None) -> None:
    """Raise DataError where an input is named twice, by itself or with a folder that it lies in.

    ``stdin`` is the input that lies in no folder, for all its name; None: there is none.
    """
    known: dict[Path, Path] = {}
    for path in inputs:
        place = path if path == stdin else real_path(path)
        if place in known:
            raise _named_twice(path, None if known[place] == path else f"the same as {known[place]}")
        known[place] = path
    for place, path in known.items():
        above = (known[folder] for folder in _visible_from(place) if folder in known)
        if (folder := next(above, None)) is not None:
            raise _named_twice(path, f"a part of {folder}")


def _named_twice(path: Path, found: str | None) -> DataError:
    mend = "name it once: its documents would count double"
    return DataError("an input is named twice", where=str(path), found=found, mend=mend)


def _visible_from(place: Path) -> Iterator[Path]:
    """Yield the folders above ``place`` whose reading comes by it: what is hidden is left out."""
    while not place.name.startswith(".") and place != place.parent:
        place = place.parent
        yield place


def _read_input(path: Path, columns: Columns, stdin_format: str | None) -> Iterator[Document]:
    if str(path) == STDIN and stdin_format is not None:
        suffix = f".{_stdin_format(columns.text, stdin_format)}"
    elif path.is_dir():
        return read_folder(path, with_labels=columns.label is not None)
    else:
        suffix = _file_suffix(path)
    if suffix in JSONL_SUFFIXES:
        return _read_jsonl(path, columns)
    if suffix in _DELIMITERS:
        return read_csv(path, columns, delimiter=_DELIMITERS[suffix])
    if suffix == _PARQUET_SUFFIX:
        return read_parquet(path, columns)
    return _read_plain_text(path)


def _file_suffix(path: Path) -> str:
    """Return the suffix of a file's format; DataError where there is no such file or format."""
    if not path.exists():
        raise DataError("there is no such file or folder", where=str(path))
    suffix = format_suffix(path)
    if suffix in (*JSONL_SUFFIXES, *_DELIMITERS, *TEXT_SUFFIXES) or path.suffix.lower() == _PARQUET_SUFFIX:
        return suffix
    raise DataError("unknown format", where=str(path), found=repr(path.name), expected=FORMATS)


# Names side by side, as no sentence has them: after a comma it has a space.
_HEADER = re.compile(r"[\"']?\w+[\"']?(?:[,;|\t][\"']?\w+[\"']?)+")


def _stdin_format(text_column: str, given: str) -> str:
    """Return the format of standard input, with ``auto`` the one it begins like; nothing of it is consumed.

    Raises:
        DataError: it is compressed or Parquet, or begins like a JSON array and ``given`` is ``auto``.
    """
    stream = sys.stdin.buffer
    begin = stream.peek(io.DEFAULT_BUFFER_SIZE) if isinstance(stream, io.BufferedReader) else b""
    packed = packed_kind(begin)
    if packed is not None:
        raise DataError(f"standard input is {packed.name}", where=STDIN, mend=packed.mend_stdin)
    if given != "auto":
        return given
    begin = begin.lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin.startswith(b"{"):
        return "jsonl"
    if begin.startswith(b"[") and begin[1:].lstrip().startswith(b"{"):
        raise DataError(
            "standard input begins like a JSON array",
            where=STDIN,
            expected="one JSON object a line",
            mend="convert it, e.g. with `jq -c '.[]'`; if it is plain text, add --stdin-format txt",
        )
    first_line = (begin.splitlines() or [b""])[0].decode("utf-8", errors="replace")
    for suffix, delimiter in _DELIMITERS.items():
        if text_column in next(csv.reader([first_line], delimiter=delimiter), []):
            return suffix.removeprefix(".")
    if _HEADER.fullmatch(first_line):
        warnings.warn(
            f"standard input begins like a table without a column {text_column!r} and is read as plain text, "
            "a document between blank lines; if that is right, add --stdin-format txt",
            stacklevel=2,
        )
    return "txt"


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Document]:
    stem = plain_stem(path)
    row = 0
    for number, line in read_lines(path):
        if line.isspace():
            continue
        row += 1
        where = f"{path}:{number}"
        try:
            record: Any = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise DataError("not a JSON record", where=where, found=str(error)) from error
        if not isinstance(record, dict):
            raise DataError(
                "not a JSON record", where=where, found=type(record).__name__, expected="an object"
            )
        yield row_document(record, columns, where=where, default_id=f"{stem}:{row}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} stands twice")
    return record


def _read_plain_text(path: Path) -> Iterator[Document]:
    """Yield the documents of a text file: what stands between blank lines, line ends inside it kept."""
    stem = plain_stem(path)
    lines: list[str] = []
    first = 1
    row = characters = 0
    for number, line in read_lines(path):
        if not line.isspace():
            if not lines:
                first, characters = number, 0
            lines.append(line)
            characters += len(line)
            if characters > MAX_LINE_BYTES:
                raise DataError(
                    "the document is too long",
                    where=f"{path}:{first}",
                    expected="at most 1 GiB",
                    mend="put blank lines between documents",
                )
        elif lines:
            row += 1
            yield Document("".join(lines).rstrip("\r\n"), None, f"{stem}:{row}", None, f"{path}:{first}")
            lines = []
    if lines:
        yield Document("".join(lines).rstrip("\r\n"), None, f"{stem}:{row + 1}", None, f"{path}:{first}")
