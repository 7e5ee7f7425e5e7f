"""What a document of text is, and reading text files: any compression, UTF-8 only, faults named."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from textclf_transformer.data.decompressing import StreamReader
from textclf_transformer.errors import DataError

COMPRESSIONS = (".gz", ".bz2", ".xz")
TEXT_SUFFIXES = (".txt", ".text")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Packed:
    """What bytes are that are no text.

    Attributes:
        name: for messages.
        mend_file: what to do about a file that is named as text.
        mend_stdin: what to do about standard input.
    """

    name: str
    mend_file: str
    mend_stdin: str

    @classmethod
    def compressed(cls, kind: str, unpack: str, suffix: str | None) -> Self:
        """Return what ``unpack`` unpacks; None: no suffix of ours."""
        unpacked = f"unpack it: {unpack} FILE > NEW"
        return cls(
            f"compressed with {kind}",
            unpacked if suffix is None else f"give its name the ending {suffix}",
            f"unpack it on the way: {unpack} FILE | textclf predict …",
        )


_PACKED = {
    rb"\x1f\x8b": Packed.compressed("gzip", "zcat", ".gz"),
    rb"\xfd7zXZ\x00": Packed.compressed("xz", "xzcat", ".xz"),
    rb"BZh[1-9]1AY&SY": Packed.compressed("bzip2", "bzcat", ".bz2"),
    rb"\x28\xb5\x2f\xfd": Packed.compressed("zstd", "zstdcat", None),
    rb"PK\x03\x04": Packed.compressed("zip", "unzip -p", None),
    rb"PAR1[\x00-\x1f]": Packed("Parquet", "give its name the ending .parquet", "name the file itself"),
}
"""Patterns of how it begins."""

STDIN = "-"
"""Stands for standard input where a path is asked for."""

# Spaces, control and format characters (a zero-width space, a byte order mark): a WordPiece tokenizer drops
# them, and the mark of bytes that could not be decoded.
_SHOWS_NOTHING = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})
_UNDECODED = "\N{REPLACEMENT CHARACTER}"

_FEW_NULS = 3  # that may stand in a short line of UTF-8

# A line, and so a document of a line-based format, is held in memory; a file without line ends must not fill
# it.
MAX_LINE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it stands in the input.

    Attributes:
        text: the text, never empty.
        label: the label's text as written; a tuple where the input gives a list; None without a label.
        id: the id the input gives, else ``<file stem>:<row>``.
        group: documents of one group must not be torn apart by a split; None without a group.
        source: ``file:line``, for messages.
    """

    text: str
    label: str | tuple[str, ...] | None
    id: str
    group: str | None
    source: str


def shows_something(text: str) -> bool:
    """Whether a text is one: it has a character that is neither a space nor invisible."""
    return any(
        unicodedata.category(character) not in _SHOWS_NOTHING and character != _UNDECODED
        for character in text
    )


def format_suffix(path: Path) -> str:
    """Return the suffix that tells the format, in lower case: ``.jsonl`` of ``a.jsonl.gz``."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return plain.suffix.lower()


def plain_stem(path: Path) -> str:
    """Return the file's name without the suffixes of format and compression: ``a`` of a.jsonl.gz.

    Standard input is called ``stdin``. It becomes a part of ids, so bytes that are not UTF-8 are replaced.
    """
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return "stdin" if str(plain) == STDIN else os.fsencode(plain.stem).decode("utf-8", errors="replace")


@contextmanager
def open_decompressed(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for reading bytes, decompressing by its suffix; damage found while reading is a
    DataError. ``STDIN`` is not opened and not closed.

    Raises:
        DataError: there is no such file, or the compressed stream is cut off or damaged.
    """
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    try:
        raw = path.open("rb")
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path)) from error
    suffix = path.suffix.lower()
    with raw:
        stream: IO[bytes]
        if suffix in COMPRESSIONS and not raw.peek(1):  # gzip would take it for a whole file of nothing
            raise _cut_off(path)
        if suffix == ".gz":
            stream = gzip.GzipFile(fileobj=raw, mode="rb")  # type: ignore[assignment]
        elif suffix == ".bz2":
            stream = io.BufferedReader(StreamReader(raw, bz2.BZ2Decompressor))
        elif suffix == ".xz":
            stream = io.BufferedReader(StreamReader(raw, lzma.LZMADecompressor))
        else:
            stream = raw
        try:
            yield stream
        except EOFError as error:
            raise _cut_off(path) from error
        except (lzma.LZMAError, zlib.error) as error:
            raise _damaged(path, error) from error
        except OSError as error:
            # gzip and bz2 report damage as OSError without a number; with one it is the disk's.
            if error.errno is not None:
                raise
            raise _damaged(path, error) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line with its end) of a UTF-8 text file; a byte order mark is dropped.

    Lines end at ``\\n`` only; what else Unicode calls a line end is text.

    Raises:
        DataError: no such file, damaged compression, a line that is not UTF-8 or longer than 1 GiB.
    """
    with open_decompressed(path) as stream:
        number = 0
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise DataError("the line is too long", where=f"{path}:{number}", expected="at most 1 GiB")
            line = decode(raw, f"{path}:{number}")
            yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line


def read_whole(path: Path) -> str:
    """Return the text of a file of at most 1 GiB; DataError as in ``read_lines``."""
    with open_decompressed(path) as stream:
        raw = stream.read(MAX_LINE_BYTES + 1)
    if len(raw) > MAX_LINE_BYTES:
        raise DataError("the document is too long", where=str(path), expected="at most 1 GiB")
    return decode(raw, str(path)).removeprefix(BYTE_ORDER_MARK)


def packed_kind(begin: bytes) -> Packed | None:
    """Return what it is that begins so; None where nothing is known but text."""
    return next((packed for pattern, packed in _PACKED.items() if re.match(pattern, begin)), None)


def decode(raw: bytes, where: str) -> str:
    """Return ``raw`` as text; DataError with the byte's place where it is not UTF-8, or is packed."""
    if b"\0" in raw and _looks_like_utf16(raw) and packed_kind(raw) is None and not _has_utf16_mark(raw):
        raise DataError(
            "not UTF-8 but UTF-16, without the mark that says so",
            where=where,
            found="a zero in every second byte",
            mend="convert the file with `iconv -f UTF-16LE -t UTF-8` (or UTF-16BE)",
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if _has_utf16_mark(raw):
            raise DataError(
                "not UTF-8 but UTF-16, as spreadsheets write Unicode text",
                where=where,
                mend="convert the file with `iconv -f UTF-16 -t UTF-8`",
            ) from error
        packed = packed_kind(raw)
        if packed is not None:
            raise DataError(
                f"this is no text but {packed.name}", where=where, mend=packed.mend_file
            ) from error
        raise DataError(
            "not UTF-8",
            where=f"{where}, byte {error.start + 1}",
            found=f"0x{raw[error.start]:02x}",
            mend="convert the file from the encoding that it has: `iconv -f WINDOWS-1252 -t UTF-8` "
            "(or GB18030, SHIFT_JIS, KOI8-R …)",
        ) from error


def _has_utf16_mark(raw: bytes) -> bool:
    return raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _looks_like_utf16(raw: bytes) -> bool:
    """Whether most bytes at even or at odd places are zero, as in UTF-16 of a Latin script."""
    zeros = max(raw[::2].count(0), raw[1::2].count(0))
    return zeros > max(_FEW_NULS, len(raw) // 3)


def _cut_off(path: Path) -> DataError:
    return DataError("the compressed file is cut off", where=str(path), mend="copy it again")


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError("the compressed file is damaged", where=str(path), found=str(error))
