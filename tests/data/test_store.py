"""What goes into a store comes out of it: tokens, texts, labels, groups, names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_cases import TEXTS, documents, store_of, train

from textclf_transformer.data import encoding
from textclf_transformer.data.store_labels import sorted_names
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.training import train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper


def test_what_goes_in_comes_out(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    given = [
        Document(text, label, identity, group, f"in:{i}")
        for i, (text, label, identity, group) in enumerate(
            zip(TEXTS, "baab", ["1", "ü", "", "x:4"], ["g", None, "h", "g"], strict=True)
        )
    ]
    store = store_of(tmp_path / "s", given, tokenizer)
    assert len(store) == 4
    assert store.label_names == ("a", "b")
    assert store.labels is not None
    assert store.labels.tolist() == [1, 0, 0, 1]
    assert [store.document_id(i) for i in range(4)] == ["1", "ü", "", "x:4"]
    assert [store.group(i) for i in range(4)] == ["g", None, "h", "g"]
    assert (store.vocab_size, store.tokenizer_fingerprint) == (tokenizer.vocab_size, tokenizer.fingerprint)
    for i, (text, encoded) in enumerate(zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True)):
        assert store.text(i) == text
        assert store.tokens(i).dtype == np.int64
        assert store.tokens(i).tolist() == encoded.ids
        assert [tuple(span) for span in store.offsets(i).tolist()] == encoded.offsets
        assert store.lengths[i] == len(encoded.ids)


def test_nothing_depends_on_how_documents_come_in_batches(
    tmp_path: Path, tokenizer: TokenizerWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_of(tmp_path / "whole", documents(group="g"), tokenizer)
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 1)
    single = store_of(tmp_path / "single", documents(group="g"), tokenizer)
    assert whole.fingerprint == single.fingerprint
    for name in whole.header.files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()


def test_fingerprint_follows_the_content(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    given = [
        documents(),
        documents()[:3],
        documents(label="y"),
        documents(label=None),
        documents(text="The cat sat."),
        documents(text="sat The cat."),  # as many tokens, in another order
        [*documents()[:3], documents(label="y")[3]],
    ]
    prints = {store_of(tmp_path / str(i), found, tokenizer).fingerprint for i, found in enumerate(given)}
    assert len(prints) == len(given)


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_long_texts_give_the_tokens_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = train(kind)
    text = "The cat  sat. Ein Käfer\n\n läuft! a\tword " * 40
    [encoded] = wrapper.encode_batch([text])
    monkeypatch.setattr(encoding, "PIECE_CHARACTERS", 50)
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 200)
    batch = encoding.encode_documents(
        [Document(text, None, "", None, "")], wrapper, token_dtype=np.dtype("<u2"), with_text=True
    )
    assert len(list(encoding.pieces_of(text))) > 10
    assert batch.tokens.tolist() == encoded.ids
    assert batch.spans is not None
    assert [tuple(span) for span in batch.spans.tolist()] == encoded.offsets


def test_a_text_without_spaces_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE_CHARACTERS", 50)
    assert list(encoding.pieces_of("x" * 500)) == [(0, "x" * 500)]


def test_documents_stream(tokenizer: TokenizerWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents there are, only a few are read ahead of what is written."""
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 2)
    read = 0

    def counted() -> Iterator[Document]:
        nonlocal read
        for _ in range(100):
            yield from documents()
            read += len(TEXTS)

    written = 0
    for batch in encoding.encode_stream(counted(), tokenizer, token_dtype=np.dtype("<u2"), with_text=True):
        written += len(batch.documents)
        assert read - written <= 2 * (encoding.WORKERS + 3)
    assert written == 400


def test_many_short_documents_are_several_batches() -> None:
    short = [Document("x", None, str(i), None, "in") for i in range(2 * encoding.BATCH_DOCUMENTS + 1)]
    batches = list(encoding.batches_of(short))
    assert [len(batch) for batch in batches] == [encoding.BATCH_DOCUMENTS, encoding.BATCH_DOCUMENTS, 1]
    assert [document.id for batch in batches for document in batch] == [document.id for document in short]


def test_large_vocabulary_takes_four_bytes(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    class Large(WordPieceTokenizerWrapper):
        pass

    large = Large.from_tokenizer(train_wordpiece(TEXTS, vocab_size=200, min_frequency=2, lowercase=True))
    large.vocab_size = 70_000
    store = store_of(tmp_path / "s", documents(), large)
    assert store.header.token_dtype == "uint32"
    assert store.tokens(0).tolist() == large.encode_batch([TEXTS[0]])[0].ids


def test_without_text_says_so(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    store = store_of(tmp_path / "s", documents(), tokenizer, keep_text=False)
    assert store.tokens(3).tolist() == tokenizer.encode_batch([TEXTS[3]])[0].ids
    for ask in (store.text, store.offsets):
        with pytest.raises(DataError, match="--no-text"):
            ask(0)
    assert not list((tmp_path / "s").glob("text*"))


def test_without_labels_and_groups(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    store = store_of(tmp_path / "s", documents(label=None), tokenizer)
    assert (store.labels, store.label_names, store.group(0)) == (None, None, None)


def test_several_labels(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    given = [
        Document(text, label, "", None, "in:1")
        for text, label in zip(TEXTS, ["b|a", "", ("c",), "a"], strict=True)
    ]
    store = store_of(tmp_path / "s", given, tokenizer, multi_label=True)
    assert store.label_names == ("a", "b", "c")
    assert store.labels is not None
    assert store.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_names_may_hold_what_means_nothing_there(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    odd = ["[draft]|b", "[1", "[1] note"]
    store = store_of(
        tmp_path / "several",
        [Document("cat", label, "", None, "in:1") for label in odd],
        tokenizer,
        multi_label=True,
    )
    assert store.label_names == ("[1", "[1] note", "[draft]", "b")
    one = [Document("cat", label, "", None, "in:1") for label in ("a|b", '["a"]')]
    assert store_of(tmp_path / "one", one, tokenizer).label_names == ('["a"]', "a|b")


def test_whole_numbers_are_sorted_by_value() -> None:
    assert sorted_names(["10", "9", "-1", "0"]) == ("-1", "0", "9", "10")
    assert sorted_names(["10", "9", "007"]) == ("007", "10", "9")


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (("a", "b"), {}, "in:1.*--multi-label"),
        ("", {}, "in:1"),
        ("a||b", {"multi_label": True}, "label is empty.*in:1"),
        ("a|a", {"multi_label": True}, "twice.*in:1"),
        ('["a", "b"]', {"multi_label": True}, r"a list in one cell; in:1; found .*write a\|b"),
        ("['a', 'b']", {"multi_label": True}, "a list in one cell; in:1"),
        ("[1, 2]", {"multi_label": True}, "a list in one cell; in:1"),
        ("[]", {"multi_label": True}, "a list in one cell; in:1"),
        (("a", "b|c"), {"multi_label": True}, r"holds '\|'.*in:1; found 'b\|c'; rename"),
        ("z", {"label_names": ("a", "b")}, "in:1; found 'z', expected 'a', 'b'"),
        (None, {"label_names": ("a", "b")}, "others have none.*in:1"),
    ],
)
def test_bad_labels_are_named(
    tmp_path: Path, tokenizer: TokenizerWrapper, label: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        store_of(tmp_path / "s", documents(label=label), tokenizer, **options)


def test_labels_must_be_there_for_all_or_none(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    with pytest.raises(DataError, match="others have none; in:2"):
        store_of(tmp_path / "s", [documents()[0], documents(label=None)[1]], tokenizer)


def test_text_without_tokens_is_named(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    with pytest.raises(DataError, match=r"no tokens; in:1; found '\\x00'"):
        store_of(tmp_path / "s", documents(text="\x00"), tokenizer)


def test_no_documents_is_an_error(tmp_path: Path, tokenizer: TokenizerWrapper) -> None:
    with pytest.raises(DataError, match="no documents"):
        store_of(tmp_path / "s", [], tokenizer)
