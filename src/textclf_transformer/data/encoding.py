"""From documents to arrays of token ids, on all cores and in bounded memory."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper

# Characters in one batch. Large enough that the tokenizers library keeps its threads busy, small enough that
# the few batches on their way take tens of megabytes.
BATCH_CHARACTERS = 400_000
BATCH_DOCUMENTS = 2_000

# A longer text is tokenised in pieces, as the library holds all tokens of a text at the same time: on books
# of up to 280,000 tokens the peak fell from 790 to 340 MB.
PIECE_CHARACTERS = 50_000
_WORD_BOUNDARY = re.compile(r"[A-Za-z] (?=[A-Za-z])")

# Batches worked on at the same time. The library encodes each with threads of its own; the others meanwhile
# turn results into arrays and compress text, so that no core waits. Three were measured a
# little faster than two.
WORKERS = 3

# The text is for reading back, one document at a time; level 6 takes a third longer and saves
# 3 % of the space.
COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Some documents as arrays.

    Attributes:
        documents: the documents.
        tokens: content tokens of all of them, one after the other, of the token dtype.
        lengths: tokens of each document, int64 (documents,).
        spans: uint32 (tokens, 2), characters of each token; None without text.
        texts: each document's zlib stream; None without text.
        unknown: how many tokens are the unknown token.
    """

    documents: Sequence[Document]
    tokens: NDArray[np.unsignedinteger]
    lengths: NDArray[np.int64]
    spans: NDArray[np.uint32] | None
    texts: list[bytes] | None
    unknown: int


def encode_documents(
    documents: Sequence[Document],
    tokenizer: TokenizerWrapper,
    *,
    token_dtype: np.dtype[np.unsignedinteger],
    with_text: bool,
) -> EncodedBatch:
    """Tokenise ``documents``.

    Raises:
        DataError: a document has no tokens (it holds control characters only, say).
    """
    can_cut = getattr(tokenizer, "can_cut_at_spaces", False)  # a class of someone's own may not say
    pieces = [
        _Piece(row, start, text)
        for row, document in enumerate(documents)
        for start, text in (pieces_of(document.text) if can_cut else [(0, document.text)])
    ]
    lengths = np.zeros(len(documents), dtype=np.int64)
    tokens: list[NDArray[np.unsignedinteger]] = []
    spans: list[NDArray[np.uint32]] = []
    for group in _grouped(pieces):
        texts = [piece.text for piece in group]
        encode = _encode_with_places if with_text else _encode
        group_tokens, counts, group_spans = encode(texts, tokenizer, token_dtype)
        tokens.append(group_tokens)
        np.add.at(lengths, [piece.row for piece in group], counts)
        if group_spans is not None:
            starts = np.array([piece.start for piece in group], dtype=np.uint32)
            spans.append(group_spans + np.repeat(starts, counts)[:, None] if starts.any() else group_spans)
    if lengths.size and not lengths.min():
        document = documents[int(lengths.argmin())]
        raise DataError(
            "the text has no tokens",
            where=document.source,
            found=repr(document.text[:40]),
            mend="take the document out",
        )
    all_tokens = np.concatenate(tokens)
    return EncodedBatch(
        documents,
        all_tokens,
        lengths,
        np.concatenate(spans) if with_text else None,
        [_compressed(document.text) for document in documents] if with_text else None,
        int(np.count_nonzero(all_tokens == tokenizer.unk_token_id)),
    )


_Encoded = tuple[NDArray[np.unsignedinteger], NDArray[np.int64], NDArray[np.uint32] | None]
"""Tokens of some texts, how many each text has, and their places (tokens, 2)."""


def _encode(texts: list[str], tokenizer: TokenizerWrapper, dtype: np.dtype[np.unsignedinteger]) -> _Encoded:
    encodings = tokenizer.encode_batch(texts, with_offsets=False)
    counts = np.fromiter(map(len, encodings), dtype=np.int64, count=len(texts))
    return np.concatenate([np.array(encoding.ids, dtype=dtype) for encoding in encodings]), counts, None


def _encode_with_places(
    texts: list[str], tokenizer: TokenizerWrapper, dtype: np.dtype[np.unsignedinteger]
) -> _Encoded:
    """Take the places of tokens from the library only where they do not follow from the tokens' lengths."""
    ids: list[NDArray[np.unsignedinteger]] = [np.empty(0, dtype)] * len(texts)
    places: list[NDArray[np.uint32]] = [np.empty((0, 2), np.uint32)] * len(texts)
    remaining = np.ones(len(texts), dtype=bool)
    alignment = tokenizer.plain_alignment
    if alignment is not None:
        remaining = ~alignment.characters(texts).plain
        plain = np.flatnonzero(~remaining)
        plain_texts = [texts[index] for index in plain]
        if plain_texts:
            tokens, counts, _ = _encode(plain_texts, tokenizer, dtype)
            starts = np.concatenate(([0], np.cumsum(counts)))
            spans, right = alignment.places(alignment.characters(plain_texts), tokens, starts)
            remaining[plain[~right]] = True
            for index, start, stop in zip(plain, starts[:-1], starts[1:], strict=True):
                ids[index], places[index] = tokens[start:stop], spans[start:stop]
    others = np.flatnonzero(remaining)
    encodings = tokenizer.encode_batch([texts[index] for index in others], with_offsets=True)
    for index, encoding in zip(others, encodings, strict=True):
        ids[index] = np.array(encoding.ids, dtype=dtype)
        flat = np.fromiter(chain.from_iterable(encoding.offsets), np.uint32, count=2 * len(encoding))
        places[index] = flat.reshape(-1, 2)
    counts = np.fromiter(map(len, ids), dtype=np.int64, count=len(texts))
    return np.concatenate(ids), counts, np.concatenate(places)


def encode_stream(
    documents: Iterable[Document],
    tokenizer: TokenizerWrapper,
    *,
    token_dtype: np.dtype[np.unsignedinteger],
    with_text: bool,
) -> Iterator[EncodedBatch]:
    """Yield the documents tokenised, in their order; a few batches are worked on ahead of the reader."""
    waiting: deque[Future[EncodedBatch]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for batch in batches_of(documents):
                waiting.append(
                    pool.submit(
                        encode_documents, batch, tokenizer, token_dtype=token_dtype, with_text=with_text
                    )
                )
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def batches_of(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield the documents in batches of at most ``BATCH_CHARACTERS``; a longer document is a batch alone."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        if batch and (characters + len(document.text) > BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
    if batch:
        yield batch


def pieces_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield (first character, piece) of a text; only texts longer than ``PIECE_CHARACTERS`` have several
    pieces.

    A long text is cut before a single space between two words. There WordPiece has a word boundary, and
    byte-level BPE, whose words begin with the space before them, has one too, so that the tokens are those of
    the whole text; a tokenizer's ``can_cut_at_spaces`` tells it of others. A text without such a place stays
    whole.
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        boundary = _WORD_BOUNDARY.search(text, start + PIECE_CHARACTERS - 1)
        if boundary is None:
            break
        end = boundary.start() + 1
        yield start, text[start:end]
        start = end
    yield start, text[start:]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the document ``row`` that begins at the character ``start``."""

    row: int
    start: int
    text: str


def _grouped(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Yield the pieces in groups of about ``BATCH_CHARACTERS``."""
    group: list[_Piece] = []
    characters = 0
    for piece in pieces:
        if group and characters + len(piece.text) > BATCH_CHARACTERS:
            yield group
            group, characters = [], 0
        group.append(piece)
        characters += len(piece.text)
    if group:
        yield group


def _compressed(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8"), COMPRESSION_LEVEL)
