"""Documents tokenised in memory are those that a store of the same text would give."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest
from end_to_end.conftest import Checkout

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.encoding import encode_documents
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_documents import (
    TOKEN_DTYPE,
    TextDocuments,
    document_id,
    document_texts,
    has_text,
)
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper


def test_equal_to_the_store(checkout: Checkout) -> None:
    tokenizer = WordPieceTokenizerWrapper.load(checkout.root / "tokenizer")
    store = Store.open(checkout.root / "store" / "test")
    lines = [
        {"id": store.document_id(i), "text": store.text(i), "label": store.label_names[store.labels[i]]}  # type: ignore[index]
        for i in range(len(store))
    ]
    path = checkout.root / "test.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    documents = TextDocuments.read(Corpus([path]), tokenizer, multi_label=False, path=str(path))
    assert len(documents) == len(store) and documents.label_names == store.label_names
    assert np.array_equal(documents.labels, store.labels) and np.array_equal(documents.lengths, store.lengths)
    assert documents.tokenizer_fingerprint == store.tokenizer_fingerprint
    assert has_text(documents) and document_texts(documents) == document_texts(store)
    with pytest.raises(ValueError, match="without the tokens' places"):
        documents.offsets(0)
    batch = encode_documents(list(Corpus([path])), tokenizer, token_dtype=TOKEN_DTYPE, with_text=True)
    with_places = TextDocuments.from_batch(batch, tokenizer, path=str(path))
    for index in range(len(store)):
        assert np.array_equal(documents.tokens(index), store.tokens(index))
        for part in ((1, 3), (2, None), (0, 10**6)):
            whole = store.tokens(index)[slice(*part)]
            assert np.array_equal(documents.tokens(index, *part), whole)
            assert np.array_equal(store.tokens(index, *part), whole)
        assert np.array_equal(with_places.offsets(index), store.offsets(index))
        assert document_id(documents, index) == document_id(store, index)


def test_no_documents(checkout: Checkout) -> None:
    tokenizer = WordPieceTokenizerWrapper.load(checkout.root / "tokenizer")
    path = Path("empty.jsonl")
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"no documents.*empty\.jsonl"):
        TextDocuments.read(Corpus([path]), tokenizer, multi_label=False, path=str(path))


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    stream = io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream, encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "stdin_format", "found"),
    [
        ('\ufeff {"text": "a"}\n', "auto", ["a"]),
        ("a\nb\n\nc", "auto", ["a\nb", "c"]),
        ('{"text": "a"}', "txt", ['{"text": "a"}']),
        ("x\ttext\n1\ta\n", "tsv", ["a"]),
        ("10 %\r100 % done\n\nb", "auto", ["10 %\r100 % done", "b"]),
    ],
)
def test_stdin_is_an_input_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, text: str, stdin_format: str, found: list[str]
) -> None:
    give_stdin(monkeypatch, text.encode("utf-8"))
    documents = list(Corpus([Path("-")], label_column=None, stdin_format=stdin_format))
    assert [document.text for document in documents] == found
    assert documents[0].id == "stdin:1"


@pytest.mark.parametrize(
    ("content", "stdin_format", "words"),
    [
        (b'[{"text": "a"}]', "auto", "JSON array.*one JSON object a line.*jq.*--stdin-format txt"),
        (b'\xef\xbb\xbf\n[\n  {"text": "a"}]', "auto", "JSON array"),
        (gzip.compress(b"a", mtime=0), "auto", r"compressed with gzip.*zcat FILE \|"),
        (gzip.compress(b"a", mtime=0), "jsonl", "compressed with gzip"),
        (bz2.compress(b"a"), "auto", "bzip2.*bzcat"),
        (lzma.compress(b"a"), "auto", "xz.*xzcat"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "auto", "zstd.*zstdcat"),
        (b"PK\x03\x04\x14\x00", "auto", "zip.*unzip -p"),
        (b"PAR1\x15\x04\x15", "auto", "input is Parquet.*name the file"),
        (b"text,label\ra,b\r", "auto", "a CR that ends no line"),
    ],
)
def test_what_stdin_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, content: bytes, stdin_format: str, words: str
) -> None:
    give_stdin(monkeypatch, content)
    with pytest.raises(DataError, match=words):
        list(Corpus([Path("-")], label_column=None, stdin_format=stdin_format))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"a", mtime=0), r"gzip; .*a\.jsonl:1; give its name the ending \.gz"),
        (bz2.compress(b"a"), r"bzip2; .*\.bz2"),
        (lzma.compress(b"a"), r"xz; .*\.xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd; .*zstdcat FILE > NEW"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_packed_file_named_as_text_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(Corpus([tmp_path / "a.jsonl"]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["[1] a footnote", "[see {a}]", "BZh9 is no bzip2", "PAR1 and PK too"])
def test_text_said_to_be_text_is_read(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    give_stdin(monkeypatch, text.encode())
    (document,) = Corpus([Path("-")], label_column=None, stdin_format="txt")
    assert document.text == text


def test_elsewhere_stdin_is_no_input() -> None:
    with pytest.raises(DataError, match="no such file"):
        list(Corpus([Path("-")]))
