"""Reading a token store: memory-mapped, so that opening is quick and memory does not grow with the store."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.store_format import (
    DOCUMENT_OFFSETS,
    GROUPS,
    HEADER,
    IDS,
    LABEL_DTYPE,
    LABELS,
    MULTI_LABEL_DTYPE,
    OFFSET_DTYPE,
    SPAN_DTYPE,
    SPANS,
    TEXT,
    TOKEN_DTYPES,
    TOKENS,
    Header,
    checksum_of,
    strings_files,
)
from textclf_transformer.data.text_files import MAX_LINE_BYTES
from textclf_transformer.errors import DataError

Int64Array = NDArray[np.int64]

# Ids are compared with the vocabulary so many at a time, so that memory does not grow with the store.
CHECK_AT_A_TIME = 4_000_000


class Store:
    """Tokenised documents in a folder, made by ``textclf prepare``; an implementation of
    ``documents.Documents``.

    Attributes:
        path: the folder.
        header: what the store says of itself.
        lengths: content tokens of each document, int64 (documents,).
        labels: int64 (documents,), or 0/1 of (documents, L) where documents carry several labels; None
            without labels.
        label_names: names of the labels 0, 1, …; None without labels.
        vocab_size: vocabulary that the tokens come from.
        tokenizer_fingerprint: fingerprint of the tokenizer that made the tokens.
        fingerprint: hash of tokens, lengths and labels.
        preset_chunks: False; documents are cut into chunks when they are read.
        has_text: whether the store keeps the text.
    """

    preset_chunks = False

    def __init__(self, folder: Path, header: Header) -> None:
        self._folder = folder
        self.header = header
        self.path = str(folder)
        self.label_names = header.label_names
        self.vocab_size = header.vocab_size
        self.tokenizer_fingerprint = header.tokenizer_fingerprint
        self.fingerprint = header.content_hash
        self.has_text = header.has_text
        self.verify_unchanged()
        self._offsets: Int64Array = self._read_offsets(DOCUMENT_OFFSETS, header.tokens)
        self.lengths: Int64Array = np.diff(self._offsets)
        if self.lengths.size and not self.lengths.min():
            raise self._damaged(DOCUMENT_OFFSETS, f"document {int(self.lengths.argmin())} is empty")
        self._tokens = self._map(TOKENS, TOKEN_DTYPES[header.token_dtype])
        self._check_ids()
        self.labels: Int64Array | None = self._read_labels()
        for name in (DOCUMENT_OFFSETS, TOKENS, *([LABELS] if header.label_names is not None else [])):
            self._verify(name)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the store in ``folder`` and check all that training reads, about half a second a gigabyte.

        Text, ids, groups and places are checked when they are first asked for.

        Raises:
            DataError: there is no store, or a file is missing, cut off or damaged; file and place are named.
        """
        return cls(folder, Header.read(folder))

    def __len__(self) -> int:
        return self.header.documents

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> Int64Array:
        """Return the content tokens of one document, int64 (tokens,), or those from ``start`` to ``stop``."""
        begin, end = self._bounds(index)
        return self._tokens[begin:end][start:stop].astype(np.int64)

    def text(self, index: int) -> str:
        """Return the text of one document; DataError if the store was made with ``--no-text``."""
        self._require_text("the text")
        compressed = self._string(TEXT, index)
        try:
            # Bounded, so that a forged stream cannot fill the memory.
            stream = zlib.decompressobj()
            text = stream.decompress(compressed, MAX_LINE_BYTES).decode("utf-8")
            if not stream.eof:
                raise zlib.error(f"the text does not end within {MAX_LINE_BYTES:,} bytes")
            return text
        except (zlib.error, UnicodeDecodeError) as error:
            raise self._damaged(strings_files(TEXT)[0], f"document {index}: {error}") from error

    def offsets(self, index: int) -> NDArray[np.uint32]:
        """Return where each token of a document stands in its text, uint32 (tokens, 2): first character, one
        past the last.

        Raises:
            DataError: the store was made with ``--no-text``.
        """
        self._require_text("the tokens' places in the text")
        start, end = self._bounds(index)
        return np.array(self._spans[start:end])

    def document_id(self, index: int) -> str:
        """Return the id that the input gave to the document, or ``<file stem>:<row>``."""
        return self._decoded(IDS, index)

    def group(self, index: int) -> str | None:
        """Return the group of the document, None without one."""
        if not self.header.has_groups:
            self._bounds(index)
            return None
        return self._decoded(GROUPS, index) or None

    def verify_unchanged(self) -> None:
        """Check that each file still has the size that it is read with.

        Reading a mapped file that was cut off behind one's back kills the process (SIGBUS), so a long job
        calls this before each pass.

        Raises:
            DataError: a file is missing or has another size.
        """
        for name, expected in self.header.files.items():
            file = self._folder / name
            try:
                found = file.stat().st_size
            except FileNotFoundError as error:
                raise DataError("a file of the store is missing", where=str(file)) from error
            if found != expected:
                raise DataError(
                    "a file of the store has a wrong size",
                    where=str(file),
                    found=f"{found} bytes",
                    expected=f"{expected} bytes",
                    mend="make the store anew with `textclf prepare`",
                )

    def _verify(self, name: str) -> None:
        """Compare a file with its checksum, where the store has one."""
        if (
            self.header.checksums is not None
            and checksum_of(self._folder / name) != self.header.checksums[name]
        ):
            raise self._damaged(name, "another content than the checksum tells")

    @cached_property
    def _spans(self) -> NDArray[np.uint32]:
        self._verify(SPANS)
        return self._map(SPANS, SPAN_DTYPE).reshape(-1, 2)

    @cached_property
    def _strings(self) -> dict[str, tuple[NDArray[np.uint8], Int64Array]]:
        """Bytes and offsets of the strings that have been asked for."""
        return {}

    def _decoded(self, name: str, index: int) -> str:
        try:
            return self._string(name, index).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(strings_files(name)[0], f"document {index}: {error}") from error

    def _string(self, name: str, index: int) -> bytes:
        self._bounds(index)
        if name not in self._strings:
            content, offsets = strings_files(name)
            self._verify(content)
            self._verify(offsets)
            size = self.header.files[content]
            self._strings[name] = self._map(content, np.dtype("u1")), self._read_offsets(offsets, size)
        mapped, bounds = self._strings[name]
        return mapped[bounds[index] : bounds[index + 1]].tobytes()

    def _bounds(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        return int(self._offsets[index]), int(self._offsets[index + 1])

    def _map(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        if not self.header.files[name]:
            return np.zeros(0, dtype=dtype)  # an empty file cannot be mapped
        return np.memmap(self._folder / name, dtype=dtype, mode="r")

    def _read_offsets(self, name: str, end: int) -> Int64Array:
        """Return an offsets file as an array in memory (8 bytes a document) after checking it."""
        offsets = np.fromfile(self._folder / name, dtype=OFFSET_DTYPE).astype(np.int64)
        if (
            len(offsets) != len(self) + 1
            or offsets[0] != 0
            or offsets[-1] != end
            or (np.diff(offsets) < 0).any()
        ):
            raise self._damaged(name, "offsets do not rise from 0 to the end")
        return offsets

    def _read_labels(self) -> Int64Array | None:
        if self.label_names is None:
            return None
        count = len(self.label_names)
        if self.header.multi_label:
            labels = np.fromfile(self._folder / LABELS, dtype=MULTI_LABEL_DTYPE).reshape(len(self), count)
            limit = 2
        else:
            labels = np.fromfile(self._folder / LABELS, dtype=LABEL_DTYPE)
            limit = count
        wrong = (labels < 0) | (labels >= limit)
        if wrong.any():
            raise self._damaged(LABELS, f"document {int(np.argwhere(wrong)[0, 0])} has no valid label")
        return labels.astype(np.int64)

    def _check_ids(self) -> None:
        for start in range(0, len(self._tokens), CHECK_AT_A_TIME):
            part = self._tokens[start : start + CHECK_AT_A_TIME]
            if part.max() >= self.vocab_size:
                raise self._id_out_of_range(start + int((part >= self.vocab_size).argmax()))

    def _id_out_of_range(self, place: int) -> DataError:
        document = int(np.searchsorted(self._offsets, place, side="right")) - 1
        token = place - int(self._offsets[document])
        return DataError(
            "a token id lies outside the vocabulary",
            where=f"{self._folder / TOKENS}: document {document}, token {token}",
            found=str(int(self._tokens[place])),
            expected=f"below {self.vocab_size}",
            mend="make the store anew with `textclf prepare`",
        )

    def _require_text(self, what: str) -> None:
        if not self.has_text:
            raise DataError(
                f"the store does not keep {what}",
                where=str(self._folder / HEADER),
                mend="make it anew with `textclf prepare` and without --no-text",
            )

    def _damaged(self, name: str, found: str) -> DataError:
        return DataError(
            "the store is damaged",
            where=str(self._folder / name),
            found=found,
            mend="make the store anew with `textclf prepare`",
        )
