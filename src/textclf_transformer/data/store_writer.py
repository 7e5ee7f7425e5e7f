"""Writing a token store, a batch of documents at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.encoding import EncodedBatch, encode_stream
from textclf_transformer.data.store_format import (
    DOCUMENT_OFFSETS,
    GROUPS,
    HEADER,
    IDS,
    LABEL_DTYPE,
    LABELS,
    MULTI_LABEL_DTYPE,
    OFFSET_DTYPE,
    ROLES,
    SPANS,
    TEXT,
    TOKEN_DTYPES,
    TOKENS,
    Header,
    checksum_of,
    strings_files,
    token_dtype_for,
)
from textclf_transformer.data.store_labels import LabelCodes
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper

BUFFER_BYTES = 1 << 20


def write_store(
    folder: Path,
    documents: Iterable[Document],
    *,
    tokenizer: TokenizerWrapper,
    tokenizer_kind: str,
    keep_text: bool,
    multi_label: bool,
    label_names: Sequence[str] | None = None,
) -> Header:
    """Tokenise ``documents`` and write them as a store into the empty folder ``folder``.

    The folder is being built: ``folders.building_folder`` gives one that is put in its place, or removed, as
    a whole.

    Args:
        folder: an empty folder.
        documents: at least one; either all of them have labels or none.
        tokenizer: makes the tokens.
        tokenizer_kind: the name that loads it, for the header.
        keep_text: whether the text, and the place of each token in it, are kept.
        multi_label: whether a document carries any number of labels.
        label_names: the labels that may occur, in their order; None: those that do occur, sorted.

    Raises:
        DataError: there are no documents, or a document has no tokens or no valid label.
    """
    dtype = TOKEN_DTYPES[token_dtype_for(tokenizer.vocab_size)]
    with StoreWriter(
        folder,
        tokenizer=tokenizer,
        tokenizer_kind=tokenizer_kind,
        keep_text=keep_text,
        multi_label=multi_label,
        label_names=label_names,
    ) as writer:
        for batch in encode_stream(documents, tokenizer, token_dtype=dtype, with_text=keep_text):
            writer.append(batch)
        return writer.finish()


class StoreWriter:
    """A store that is being written: ``append`` batches, then ``finish``, inside a ``with`` block."""

    def __init__(
        self,
        folder: Path,
        *,
        tokenizer: TokenizerWrapper,
        tokenizer_kind: str,
        keep_text: bool,
        multi_label: bool,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._tokenizer_kind = tokenizer_kind
        self._keep_text = keep_text
        self._labels = LabelCodes(multi_label=multi_label, names=label_names)
        self._documents = self._unknown = 0
        self._has_groups = False
        self._hash = blake2b(digest_size=32)
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self._ends: Counter[str] = Counter()  # offsets file to its last offset

    def __enter__(self) -> Self:
        self._open(TOKENS)
        self._open_offsets(DOCUMENT_OFFSETS)
        for name in (IDS, GROUPS, *([TEXT] if self._keep_text else [])):
            content, offsets = strings_files(name)
            self._open(content)
            self._open_offsets(offsets)
        if self._keep_text:
            self._open(SPANS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, batch: EncodedBatch) -> None:
        """Write some documents; DataError if one has no valid label."""
        for document in batch.documents:
            self._labels.add(document)
        tokens = np.ascontiguousarray(batch.tokens)
        self._files[TOKENS].write(tokens.data)
        self._hash.update(tokens.data)
        self._write_offsets(DOCUMENT_OFFSETS, batch.lengths)
        self._write_strings(IDS, [document.id.encode("utf-8") for document in batch.documents])
        groups = [(document.group or "").encode("utf-8") for document in batch.documents]
        self._has_groups |= any(groups)
        self._write_strings(GROUPS, groups)
        if batch.spans is not None and batch.texts is not None:
            self._files[SPANS].write(np.ascontiguousarray(batch.spans, dtype="<u4").data)
            self._write_strings(TEXT, batch.texts)
        self._documents += len(batch.documents)
        self._unknown += batch.unknown

    def finish(self) -> Header:
        """Write labels and header, flush all to the disk, return the header; DataError without documents."""
        if not self._documents:
            raise DataError("there are no documents")
        names, labels = self._labels.finish()
        if labels is not None:
            dtype = MULTI_LABEL_DTYPE if self._labels.multi_label else LABEL_DTYPE
            self._open(LABELS).write(np.ascontiguousarray(labels, dtype=dtype).data)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._stack.close()
        if not self._has_groups:
            for name in strings_files(GROUPS):
                (self._folder / name).unlink()
        header = self._header(names, self._content_hash(names, labels))
        with (self._folder / HEADER).open("x", encoding="utf-8", newline="\n") as file_:
            file_.write(header.to_json())
            file_.flush()
            os.fsync(file_.fileno())
        return header

    def _header(self, names: tuple[str, ...] | None, content_hash: str) -> Header:
        files = sorted(self._folder.iterdir())
        return Header(
            documents=self._documents,
            tokens=self._ends[DOCUMENT_OFFSETS],
            unknown_tokens=self._unknown,
            token_dtype=token_dtype_for(self._tokenizer.vocab_size),
            label_names=names,
            multi_label=self._labels.multi_label and names is not None,
            has_text=self._keep_text,
            has_groups=self._has_groups,
            tokenizer_kind=self._tokenizer_kind,
            tokenizer_fingerprint=self._tokenizer.fingerprint,
            vocab_size=self._tokenizer.vocab_size,
            special_token_ids={role: int(getattr(self._tokenizer, f"{role}_token_id")) for role in ROLES},
            content_hash=content_hash,
            files={path.name: path.stat().st_size for path in files},
            checksums={path.name: checksum_of(path) for path in files},
        )

    def _content_hash(self, names: tuple[str, ...] | None, labels: NDArray[np.int64] | None) -> str:
        """Return a hash that does not depend on how the documents came in batches."""
        self._hash.update((self._folder / DOCUMENT_OFFSETS).read_bytes())
        self._hash.update(repr(names).encode("utf-8"))
        if labels is not None:
            self._hash.update(np.ascontiguousarray(labels, dtype="<i8").data)
        return self._hash.hexdigest()

    def _open(self, name: str) -> BinaryIO:
        file = self._stack.enter_context((self._folder / name).open("xb", buffering=BUFFER_BYTES))
        self._files[name] = file
        return file

    def _open_offsets(self, name: str) -> None:
        self._open(name).write(np.zeros(1, dtype=OFFSET_DTYPE).data)

    def _write_offsets(self, name: str, lengths: NDArray[np.int64]) -> None:
        offsets = self._ends[name] + np.cumsum(lengths)
        self._files[name].write(offsets.astype(OFFSET_DTYPE).data)
        self._ends[name] = int(offsets[-1])

    def _write_strings(self, name: str, strings: Sequence[bytes]) -> None:
        content, offsets = strings_files(name)
        self._files[content].write(b"".join(strings))
        self._write_offsets(offsets, np.fromiter(map(len, strings), dtype=np.int64, count=len(strings)))
