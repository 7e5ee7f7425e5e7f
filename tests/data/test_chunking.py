from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textclf_transformer.data.chunking import chunk_counts, chunk_spans, coverage, sequence_spans
from textclf_transformer.errors import ConfigError


@pytest.mark.parametrize(
    ("length", "stride", "max_chunks", "expected"),
    [
        (0, 8, 9, [(0, 0)]),
        (1, 8, 9, [(0, 1)]),
        (8, 8, 9, [(0, 8)]),
        (9, 8, 9, [(0, 8), (8, 9)]),
        (16, 8, 9, [(0, 8), (8, 16)]),
        (9, 3, 9, [(0, 8), (3, 9)]),
        (11, 3, 9, [(0, 8), (3, 11)]),
        (12, 3, 9, [(0, 8), (3, 11), (6, 12)]),
        (100, 8, 2, [(0, 8), (8, 16)]),
    ],
)
def test_spans_at_exact_lengths(length, stride, max_chunks, expected):
    assert chunk_spans(length, chunk_size=10, stride=stride, max_chunks=max_chunks) == expected


def spans_one_by_one(length: int, *, capacity: int, stride: int, max_chunks: int) -> list[tuple[int, int]]:
    """The definition read aloud: advance by stride, stop at the first chunk that reaches the end."""
    spans: list[tuple[int, int]] = []
    start = 0
    while len(spans) < max_chunks:
        spans.append((start, min(start + capacity, length)))
        if start + capacity >= length:
            break
        start += stride
    return spans


@given(st.lists(st.integers(0, 200), min_size=1), st.integers(1, 30), st.data(), st.integers(1, 12))
def test_spans_counts_and_coverage_follow_the_definition(lengths, capacity, data, max_chunks):
    chunking = {
        "chunk_size": capacity + 2,
        "stride": data.draw(st.integers(1, capacity)),
        "max_chunks": max_chunks,
    }
    expected = [
        spans_one_by_one(length, capacity=capacity, stride=chunking["stride"], max_chunks=max_chunks)
        for length in lengths
    ]
    assert [chunk_spans(length, **chunking) for length in lengths] == expected
    assert chunk_counts(lengths, **chunking).tolist() == [len(spans) for spans in expected]

    read = [len({token for span in spans for token in range(*span)}) for spans in expected]
    result = coverage(np.array(lengths), **chunking)
    assert (result.documents, result.tokens, result.tokens_read) == (len(lengths), sum(lengths), sum(read))
    assert result.tokens_dropped == sum(lengths) - sum(read)
    assert result.documents_cut == sum(kept < length for kept, length in zip(read, lengths, strict=True))


@pytest.mark.parametrize(
    ("chunking", "key"),
    [
        ({"chunk_size": 2, "stride": 1, "max_chunks": 1}, "chunk_size"),
        ({"chunk_size": 10, "stride": 0, "max_chunks": 1}, "stride"),
        ({"chunk_size": 10, "stride": 9, "max_chunks": 1}, "stride"),
        ({"chunk_size": 10, "stride": 8, "max_chunks": 0}, "max_chunks"),
    ],
)
def test_chunking_that_skips_or_stands_still_is_refused(chunking, key):
    with pytest.raises(ConfigError, match=f"chunking.{key}"):
        chunk_spans(5, **chunking)
    with pytest.raises(ConfigError, match=f"chunking.{key}"):
        coverage(np.array([5]), **chunking)


@given(st.lists(st.integers(0, 60), min_size=1), st.integers(3, 20))
def test_sequence_rows_hold_every_token_once_and_in_order(lengths, max_sequence_length):
    spans = sequence_spans(np.array(lengths, dtype=np.int64), max_sequence_length=max_sequence_length)
    seen = [
        (int(document), position)
        for document, start, stop in zip(*spans.locate(np.arange(len(spans))), strict=True)
        for position in range(start, stop)
    ]
    assert seen == [
        (document, position) for document, length in enumerate(lengths) for position in range(length)
    ]
    _, starts, stops = spans.locate(np.arange(len(spans)))
    assert all(0 < size <= max_sequence_length - 2 for size in stops - starts)


def test_ten_million_documents_are_planned_without_a_loop():
    lengths = np.full(10_000_000, 700)
    spans = sequence_spans(lengths, max_sequence_length=256)
    assert len(spans) == 30_000_000
    document, start, stop = spans.locate(np.array([29_999_999]))
    assert (document[0], start[0], stop[0]) == (9_999_999, 508, 700)


def test_a_sequence_without_room_for_a_token_is_refused():
    with pytest.raises(ConfigError, match="max_sequence_length"):
        sequence_spans(np.array([5]), max_sequence_length=2)


@pytest.mark.parametrize(
    ("chunk_size", "max_chunks", "message"),
    [(10**29, 1, "chunk_size is too large"), (8, 10**29, "max_chunks is too large")],
)
def test_numbers_that_fit_into_no_array_are_refused(chunk_size: int, max_chunks: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chunk_counts([5, 9], chunk_size=chunk_size, stride=6, max_chunks=max_chunks)


def test_the_largest_number_that_fits_means_all_chunks() -> None:
    counts = chunk_counts([5, 9, 10**9], chunk_size=8, stride=6, max_chunks=sys.maxsize)
    assert counts.tolist() == [1, 2, 166_666_667]
