"""From documents to arrays of token ids, on all cores and in bounded memory."""

from __future__ import annotations

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
# the few batches on their way (about 100 bytes for each token) take tens of megabytes.
BATCH_CHARACTERS = 400_000
BATCH_DOCUMENTS = 2_000

# Batches worked on at the same time. The library encodes each with threads of its own; the others meanwhile
# turn results into arrays and compress text, so that no core waits. Two were measured a tenth slower, four no
# faster.
WORKERS = 3

# The text is for reading back, one document at a time; higher levels take twice the time for a tenth of the
# space.
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
    encodings = tokenizer.encode_batch([document.text for document in documents], with_offsets=with_text)
    lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    if lengths.size and not lengths.min():
        document = documents[int(lengths.argmin())]
        raise DataError(
            "the text has no tokens",
            where=document.source,
            found=repr(document.text[:40]),
            mend="take the document out",
        )
    parts = [np.array(encoding.ids, dtype=token_dtype) for encoding in encodings]
    tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=token_dtype)
    spans = texts = None
    if with_text:
        flat = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        spans = np.fromiter(flat, dtype=np.uint32, count=2 * len(tokens)).reshape(-1, 2)
        texts = [zlib.compress(document.text.encode("utf-8"), COMPRESSION_LEVEL) for document in documents]
    unknown = int(np.count_nonzero(tokens == tokenizer.unk_token_id))
    return EncodedBatch(documents, tokens, lengths, spans, texts, unknown)


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
