"""The files of a token store and its header, which the writer and the reader share.

A store is a folder of flat little-endian arrays, one element or one row for each token or document::

    header.json            what the other files hold, how long each of them is, and the checksums of all
    tokens.bin             uint16, or uint32 for more than 65,536 tokens: (T,) content tokens of all documents
    document_offsets.bin   int64 (N + 1,): document i is tokens[offsets[i] : offsets[i + 1]]
    labels.bin             int64 (N,), or uint8 0/1 (N, L) where documents carry several labels
    ids.bin  groups.bin    UTF-8, one after the other
    spans.bin              uint32 (T, 2): first character of each token in its document's text, and the one
                           after its last
    text.bin               each document's UTF-8 text as a zlib stream, one after the other
    ids_offsets.bin  groups_offsets.bin  text_offsets.bin
                           int64 (N + 1,): document i has the bytes [offsets[i] : offsets[i + 1]] of the file

``labels.bin``, the two files of groups, and ``spans.bin`` with the two files of the text, are there only
where documents have them.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf_transformer.errors import DataError

FORMAT = "textclf_transformer token store"
FORMAT_VERSION = 1
HEADER = "header.json"
OWN_CHECKSUM = "header_checksum"
_READ_AT_A_TIME = 1 << 22  # bytes

TOKENS = "tokens.bin"
DOCUMENT_OFFSETS = "document_offsets.bin"
LABELS = "labels.bin"
IDS = "ids"
GROUPS = "groups"
TEXT = "text"
SPANS = "spans.bin"

ROLES = ("pad", "unk", "cls", "sep", "mask")
"""Of special tokens."""

OFFSET_DTYPE = np.dtype("<i8")
SPAN_DTYPE = np.dtype("<u4")
LABEL_DTYPE = np.dtype("<i8")
MULTI_LABEL_DTYPE = np.dtype("u1")
TOKEN_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


@dataclass(frozen=True, slots=True)
class Header:
    """What ``header.json`` says.

    Attributes:
        documents: N.
        tokens: T, of all documents.
        unknown_tokens: how many of them are the unknown token.
        token_dtype: ``uint16`` or ``uint32``.
        label_names: names of the labels 0, 1, …; None without labels.
        multi_label: whether a document carries any number of labels.
        has_text: whether the text and the tokens' characters are kept.
        has_groups: whether documents have groups.
        tokenizer_kind: the name that loads the tokenizer.
        tokenizer_fingerprint: of the tokenizer that made the tokens.
        vocab_size: V of that tokenizer.
        special_token_ids: each of ``ROLES`` to its id.
        content_hash: hash of tokens, document lengths, labels and label names.
        files: file name to size in bytes.
        checksums: file name to CRC-32; None in a store that an older version made.
    """

    documents: int
    tokens: int
    unknown_tokens: int
    token_dtype: str
    label_names: tuple[str, ...] | None
    multi_label: bool
    has_text: bool
    has_groups: bool
    tokenizer_kind: str
    tokenizer_fingerprint: str
    vocab_size: int
    special_token_ids: dict[str, int]
    content_hash: str
    files: dict[str, int]
    checksums: dict[str, int] | None = None

    def expected_sizes(self) -> dict[str, int | None]:
        """Return file name to size in bytes as the counts demand; None where the content decides."""
        offsets = OFFSET_DTYPE.itemsize * (self.documents + 1)
        sizes: dict[str, int | None] = {
            TOKENS: TOKEN_DTYPES[self.token_dtype].itemsize * self.tokens,
            DOCUMENT_OFFSETS: offsets,
            **_strings(IDS, offsets),
        }
        if self.label_names is not None and self.multi_label:
            sizes[LABELS] = MULTI_LABEL_DTYPE.itemsize * self.documents * len(self.label_names)
        elif self.label_names is not None:
            sizes[LABELS] = LABEL_DTYPE.itemsize * self.documents
        if self.has_groups:
            sizes |= _strings(GROUPS, offsets)
        if self.has_text:
            sizes |= {SPANS: 2 * SPAN_DTYPE.itemsize * self.tokens, **_strings(TEXT, offsets)}
        return sizes

    def to_json(self) -> str:
        """Return the text of ``header.json``."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        content[OWN_CHECKSUM] = _checksum_of_header(content)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Header:
        """Read and check the header of the store in ``folder``.

        Raises:
            DataError: there is no store, the header is damaged or of another version, or does not agree with
                itself.
        """
        path = folder / HEADER
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            parts = sorted(entry.parent.name for entry in folder.glob(f"*/{HEADER}"))
            raise DataError(
                "there is no token store here",
                where=str(folder),
                mend=f"name one of the stores in it: {', '.join(str(folder / part) for part in parts)}"
                if parts
                else "make one with `textclf prepare`",
            ) from error
        except (ValueError, RecursionError) as error:
            raise DataError("the header is damaged", where=str(path), found=str(error)) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError("this is not the header of a token store", where=str(path))
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(
                "the store is of another version",
                where=str(path),
                found=repr(version),
                expected=str(FORMAT_VERSION),
                mend="make it anew with `textclf prepare`",
            )
        noted = content.pop(OWN_CHECKSUM, None)
        actual = _checksum_of_header(content)
        header = _checked({k: v for k, v in content.items() if k not in ("format", "format_version")}, path)
        # what cannot be told from the values is told by the checksum: a name with another letter, a count
        if noted != actual and (noted is not None or header.checksums is not None):
            raise DataError(
                "the header is damaged: its checksum does not match",
                where=str(path),
                mend="make the store anew with `textclf prepare`",
            )
        return header


def checksum_of(path: Path) -> int:
    """Return the CRC-32 of a file: it finds damage, not forgery, and several times faster than a hash."""
    checksum = 0
    with path.open("rb") as stream:
        while part := stream.read(_READ_AT_A_TIME):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _checksum_of_header(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, ensure_ascii=True, sort_keys=True).encode("ascii"))


def strings_files(name: str) -> tuple[str, str]:
    """Return the two files that hold one string for each document: the bytes and their offsets."""
    return f"{name}.bin", f"{name}_offsets.bin"


def all_files() -> frozenset[str]:
    """Return the names of all files that a store may have."""
    strings = [file for name in (IDS, GROUPS, TEXT) for file in strings_files(name)]
    return frozenset({HEADER, TOKENS, DOCUMENT_OFFSETS, LABELS, SPANS, *strings})


def token_dtype_for(vocab_size: int) -> str:
    """Return the smallest of the token dtypes that holds every id below ``vocab_size``."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _strings(name: str, offsets: int) -> dict[str, int | None]:
    content, offsets_file = strings_files(name)
    return {content: None, offsets_file: offsets}


def _checked(content: dict[str, Any], path: Path) -> Header:
    """Return the header made of ``content`` if values have their types and sizes follow from counts."""
    counts = ("documents", "tokens", "unknown_tokens", "vocab_size")
    names = content.get("label_names")
    special: Any = content.get("special_token_ids")
    right = {
        **{name: _is_count(content.get(name)) for name in counts},
        "token_dtype": content.get("token_dtype") in tuple(TOKEN_DTYPES),
        "label_names": names is None or _is_list_of_unique_strings(names),
        "multi_label": isinstance(content.get("multi_label"), bool),
        "has_text": isinstance(content.get("has_text"), bool),
        "has_groups": isinstance(content.get("has_groups"), bool),
        "tokenizer_kind": isinstance(content.get("tokenizer_kind"), str),
        "tokenizer_fingerprint": isinstance(content.get("tokenizer_fingerprint"), str),
        "special_token_ids": _is_counts(special) and special.keys() == set(ROLES),
        "content_hash": isinstance(content.get("content_hash"), str),
        "files": _is_counts(content.get("files")),
        "checksums": content.get("checksums") is None or _is_counts(content["checksums"]),
    }
    wrong = [name for name, holds in right.items() if not holds]
    foreign = [name for name in content if name not in right]
    if wrong or foreign:
        raise DataError("the header is damaged", where=f"{path}: {(wrong + foreign)[0]}")
    header = Header(**{**content, "label_names": None if names is None else tuple(names)})
    expected = header.expected_sizes()
    disagreeing = header.files.keys() ^ expected.keys()
    if header.checksums is not None:
        disagreeing |= header.files.keys() ^ header.checksums.keys()
    disagreeing |= {
        name for name, size in expected.items() if size is not None and header.files.get(name) != size
    }
    if disagreeing:
        raise DataError("the header does not agree with itself", where=f"{path}: {min(disagreeing)}")
    return header


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(count) for count in value.values())


def _is_list_of_unique_strings(value: Any) -> bool:
    return (
        isinstance(value, list) and all(isinstance(v, str) for v in value) and len(set(value)) == len(value)
    )
