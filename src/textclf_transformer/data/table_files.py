"""Reading files of rows with named columns: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf_transformer.data.tables import Columns, missing_column, row_document
from textclf_transformer.data.text_files import MAX_LINE_BYTES, Document, plain_stem, read_lines
from textclf_transformer.errors import DataError, UsageError, counted

PARQUET_ROWS = 256  # rows held at a time; documents may be long


def read_csv(path: Path, columns: Columns, *, delimiter: str) -> Iterator[Document]:
    """Yield the documents of a CSV or TSV file with a header row; every cell is text.

    Raises:
        DataError: a column is missing or doubled, a row has too few or too many cells, or the quoting is
            broken.
    """
    lines = (line for _, line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    stem = plain_stem(path)
    header: list[str] | None = None
    row, warned = 0, False
    while True:
        where = f"{path}:{reader.line_num + 1}"
        before = csv.field_size_limit(MAX_LINE_BYTES)  # of the whole process, hence back after each row
        try:
            cells = next(reader, None)
        except csv.Error as error:
            found, mend = _csv_fault(str(error))
            raise DataError("the row cannot be read", where=where, found=found, mend=mend) from error
        finally:
            csv.field_size_limit(before)
        if cells is None:
            break
        if not cells:
            continue  # a blank line
        if header is None:
            header = cells
            _check_header(header, columns, where)
            continue
        row += 1
        if len(cells) != len(header):
            raise DataError(
                "the row has a wrong number of columns",
                where=where,
                found=len(cells),
                expected=f"{len(header)} as in the header",
            )
        if delimiter == "\t" and not warned and (warned := _swallows_rows(cells)):  # a comma may be prose
            warnings.warn(_swallowing(where, reader.line_num), stacklevel=2)
        record = dict(zip(header, cells, strict=True))
        yield row_document(record, columns, where=where, default_id=f"{stem}:{row}")
    if header is None:
        raise DataError("the file is empty", where=str(path), expected="a header row")


def _swallows_rows(cells: Sequence[str]) -> bool:
    """Whether a cell holds line ends, and each of its lines, with the cells around it, is a whole row."""
    for place, cell in enumerate(cells):
        if "\n" not in cell:
            continue
        lines = [line.split("\t") for line in cell.split("\n")]
        widths = [len(line) for line in lines]
        wanted = [len(cells) - place, *[len(cells)] * (len(lines) - 2), place + 1]
        if len(cells) > 1 and widths == wanted and all(map(all, lines)):
            return True
    return False


def _swallowing(where: str, last_line: int) -> str:
    return (
        f"{where}: the row ends at line {last_line}, over lines that look like rows of their own, as a cell "
        "that begins with a quote goes on to the next quote; if that is wrong, quote the cell and double the "
        'quotes inside it: """No"", he said"'
    )


def _csv_fault(fault: str) -> tuple[str, str | None]:
    """Return what the csv module found and what to do about it, None where that is not known."""
    if "new-line character" in fault:  # its own text asks for an argument of Python's open()
        return "a CR that ends no line", "end the lines with \\n: tr '\\r' '\\n' < OLD > NEW"
    if "expected after" in fault or "unexpected end" in fault:
        return (
            fault,
            'a cell that begins with a quote ends with one; double those inside it: "he said ""no"""',
        )
    return fault, None


def read_parquet(path: Path, columns: Columns) -> Iterator[Document]:
    """Yield the documents of a Parquet file.

    Raises:
        UsageError: pyarrow is not installed.
        DataError: the file is damaged, a column is missing, or a value is of a type that is no text or label.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "reading Parquet needs pyarrow",
            where=str(path),
            found=str(error),
            mend="pip install 'textclf_transformer[parquet]', or convert the file to JSONL",
        ) from error
    stem = plain_stem(path)
    row = 0
    try:
        # checksums are there only if the writer was asked for them
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names = list(file.schema_arrow.names)
            _check_header(names, columns, str(path))
            wanted = [name for name in (*columns.required(), *columns.optional()) if name in names]
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                for record in batch.to_pylist():
                    row += 1
                    where = f"{path}:row {row}"
                    yield row_document(record, columns, where=where, default_id=f"{stem}:{row}")
            if row != file.metadata.num_rows:
                raise DataError(
                    "the Parquet file is damaged",
                    where=str(path),
                    found=counted(row, "row"),
                    expected=f"{file.metadata.num_rows}, as its footer says",
                )
    except UnicodeDecodeError as error:
        where = f"{path}, after row {row}"
        raise DataError("a text is not UTF-8", where=where, found=str(error)) from error
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        # pyarrow reports damage as OSError without a number, too; with one it is the disk's
        if isinstance(error, OSError) and error.errno is not None:
            raise
        where = f"{path}, after row {row}"
        raise DataError("the Parquet file cannot be read", where=where, found=str(error)) from error


def _check_header(header: list[str], columns: Columns, where: str) -> None:
    for name in columns.required():
        if name not in header:
            raise missing_column(name, columns, found=header, where=where)
    for name in (*columns.required(), *columns.optional()):
        if header.count(name) > 1:
            raise DataError(f"the column {name!r} stands twice", where=where)
