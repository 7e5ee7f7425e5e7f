from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textclf_transformer.data import encoding
from textclf_transformer.data.folders import building_folder
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import Header, checksum_of
from textclf_transformer.data.store_labels import sorted_names
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, UsageError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.byte_bpe_tokenizer_wrapper import ByteLevelBPETokenizerWrapper
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["The cat sat.", "Ein Käfer – läuft!", "a [MASK] in the text", "word " * 30 + "end"]


def train(kind: str) -> TokenizerWrapper:
    if kind == "wordpiece":
        trained = train_wordpiece(TEXTS * 5, vocab_size=200, min_frequency=2, lowercase=True)
        return WordPieceTokenizerWrapper.from_tokenizer(trained)
    return ByteLevelBPETokenizerWrapper.from_tokenizer(
        train_byte_level_bpe(TEXTS * 5, vocab_size=300, min_frequency=2)
    )


@pytest.fixture(scope="module")
def tokenizer() -> TokenizerWrapper:
    return train("wordpiece")


def documents(**changes: Any) -> list[Document]:
    base = {"label": "x", "group": None}
    return [
        Document(**{"text": text, "id": f"d:{i}", "source": f"in:{i + 1}", **base, **changes})
        for i, text in enumerate(TEXTS)
    ]


def store_of(folder: Path, found: list[Document], tokenizer: TokenizerWrapper, **options: Any) -> Store:
    settings: dict[str, Any] = {"keep_text": True, "multi_label": False, **options}
    folder.mkdir(exist_ok=True)
    write_store(folder, found, tokenizer=tokenizer, tokenizer_kind="wordpiece", **settings)
    return Store.open(folder)


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


@pytest.fixture
def folder(tmp_path: Path, tokenizer: TokenizerWrapper) -> Path:
    store_of(tmp_path / "s", documents(group="g"), tokenizer)
    return tmp_path / "s"


def test_every_file_that_is_cut_off_is_named(folder: Path) -> None:
    names = [path.name for path in folder.iterdir() if path.name != "header.json"]
    assert len(names) == 10
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(
            DataError, match=f"{name}; found {len(content) - 1} bytes, expected {len(content)}"
        ):
            Store.open(folder)
        (folder / name).unlink()
        with pytest.raises(DataError, match=f"missing.*{name}"):
            Store.open(folder)
        (folder / name).write_bytes(content)
    Store.open(folder)


def test_a_store_that_shrinks_while_it_is_open_is_noticed(folder: Path) -> None:
    store = Store.open(folder)
    store.verify_unchanged()
    with (folder / "tokens.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match=r"tokens\.bin"):
        store.verify_unchanged()


@pytest.mark.parametrize(
    ("name", "dtype", "place", "value", "message"),
    [
        ("document_offsets.bin", "<i8", 1, 10**9, "offsets do not rise"),
        ("document_offsets.bin", "<i8", 2, -1, "offsets do not rise"),
        ("document_offsets.bin", "<i8", 1, 0, "document 0 is empty"),
        ("labels.bin", "<i8", 2, 1, "document 2 has no valid label"),
        ("labels.bin", "<i8", 2, -1, "document 2 has no valid label"),
    ],
)
def test_damage_within_the_right_size_is_named(
    folder: Path, name: str, dtype: str, place: int, value: int, message: str
) -> None:
    content = np.fromfile(folder / name, dtype=dtype)
    content[place] = value
    content.tofile(folder / name)
    with pytest.raises(DataError, match=message):
        Store.open(folder)


def test_id_outside_the_vocabulary_is_named(folder: Path) -> None:
    place = int(Store.open(folder).lengths[0]) + 2
    tokens = np.fromfile(folder / "tokens.bin", dtype="<u2")
    tokens[place] = 60_000
    tokens.tofile(folder / "tokens.bin")
    with pytest.raises(DataError, match=r"tokens\.bin: document 1, token 2; found 60000, expected below"):
        Store.open(folder)


def renew_checksums(folder: Path) -> None:
    """Make the store agree with itself again, as a forger would."""
    header = Header.read(folder)
    checksums = {name: checksum_of(folder / name) for name in header.files}
    (folder / "header.json").write_text(replace(header, checksums=checksums).to_json(), encoding="utf-8")


def test_a_changed_token_is_found_although_it_is_a_valid_one(folder: Path) -> None:
    tokens = np.fromfile(folder / "tokens.bin", dtype="<u2")
    tokens[0] ^= 1
    tokens.tofile(folder / "tokens.bin")
    with pytest.raises(DataError, match=r"damaged.*tokens\.bin.*checksum"):
        Store.open(folder)
    renew_checksums(folder)
    assert Store.open(folder).tokens(0)[0] == tokens[0]


def test_a_changed_label_is_found_although_it_is_a_valid_one(
    tmp_path: Path, tokenizer: TokenizerWrapper
) -> None:
    first, *others = documents()
    store_of(folder := tmp_path / "s", [replace(first, label="y"), *others], tokenizer)
    labels = np.fromfile(folder / "labels.bin", dtype="<i8")
    labels[0] = 1 - labels[0]
    labels.tofile(folder / "labels.bin")
    with pytest.raises(DataError, match=r"damaged.*labels\.bin.*checksum"):
        Store.open(folder)


@pytest.mark.parametrize(("old", "new"), [('"x"', '"y"'), ('"unknown_tokens": 0', '"unknown_tokens": 1')])
def test_a_changed_header_is_found_although_it_agrees_with_itself(folder: Path, old: str, new: str) -> None:
    text = (folder / "header.json").read_text(encoding="utf-8")
    assert old in text
    (folder / "header.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"header\.json"):
        Store.open(folder)


def test_a_store_of_an_older_version_has_no_checksums_and_is_read(folder: Path) -> None:
    header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
    del header["checksums"], header["header_checksum"]
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")
    store = Store.open(folder)
    assert len(store) == 4
    assert store.text(0)


def test_a_text_that_unpacks_to_more_than_a_line_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textclf_transformer.data.store.MAX_LINE_BYTES", 3)
    with pytest.raises(DataError, match=r"text\.bin.*does not end within 3 bytes"):
        Store.open(folder).text(0)


def test_damaged_text_is_named(folder: Path) -> None:
    content = bytearray((folder / "text.bin").read_bytes())
    content[0] ^= 0xFF
    (folder / "text.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"text\.bin.*checksum"):
        Store.open(folder).text(0)
    renew_checksums(folder)
    with pytest.raises(DataError, match=r"text\.bin; found document 0"):
        Store.open(folder).text(0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "other", "not the header"),
        ("format_version", 2, "another version"),
        ("documents", 3, "does not agree with itself"),
        ("documents", -1, "damaged.*documents"),
        ("tokens", 10**18, "does not agree with itself"),
        ("token_dtype", "object", "damaged.*token_dtype"),
        ("token_dtype", "uint32", "does not agree with itself"),
        ("label_names", ["a", "a"], "damaged.*label_names"),
        ("has_text", False, "does not agree with itself"),
        ("special_token_ids", {"pad": 0, "cls": 2}, "damaged.*special_token_ids"),  # the audit asks for unk
        ("files", {"../../etc/passwd": 3}, "does not agree with itself"),
        ("extra", 1, "damaged.*extra"),
    ],
)
def test_wrong_header_is_refused(folder: Path, key: str, value: Any, message: str) -> None:
    header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
    (folder / "header.json").write_text(json.dumps({**header, key: value}), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Store.open(folder)


def test_folder_without_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no token store here.*textclf prepare"):
        Store.open(tmp_path)


@pytest.mark.parametrize("name", ["ids", "groups"])
def test_names_that_are_not_utf8_are_damage(tmp_path: Path, tokenizer: TokenizerWrapper, name: str) -> None:
    folder = tmp_path / "store"
    store_of(folder, documents(group="one"), tokenizer)
    path = folder / f"{name}.bin"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
    del header["header_checksum"]
    header["checksums"] = None  # a forger would renew them
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")
    store = Store.open(folder)
    with pytest.raises(DataError, match=rf"the store is damaged; .*{name}\.bin; found document 0: "):
        store.document_id(0) if name == "ids" else store.group(0)


def test_documents_outside_the_store_are_refused(folder: Path) -> None:
    store = Store.open(folder)
    for ask in (store.tokens, store.text, store.offsets, store.document_id, store.group):
        for index in (-1, 4):
            with pytest.raises(IndexError):
                ask(index)


def anything(folder: Path) -> bool:
    return True


def nothing(folder: Path) -> bool:
    return False


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, stop: type[BaseException]) -> None:
    def build(overwrite: bool) -> None:
        with building_folder(tmp_path / "out", overwrite=overwrite, is_ours=anything) as folder:
            (folder / "half").write_text("x", encoding="utf-8")
            raise stop

    with pytest.raises(stop):
        build(overwrite=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old", encoding="utf-8")
    with pytest.raises(stop):
        build(overwrite=True)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/old"]


def test_overwrite_replaces_the_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with building_folder(tmp_path / "deep" / "out", overwrite=True, is_ours=anything) as folder:
            (folder / name).write_text("x", encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "out", "new"]


@pytest.mark.parametrize(
    ("overwrite", "message"), [(False, "--overwrite to replace"), (True, "holds other files")]
)
def test_other_peoples_folders_stay(tmp_path: Path, overwrite: bool, message: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("x", encoding="utf-8")
    with (
        pytest.raises(UsageError, match=message),
        building_folder(tmp_path / "out", overwrite=overwrite, is_ours=nothing),
    ):
        raise AssertionError("the block must not run")
    assert (tmp_path / "out" / "thesis.doc").exists()


def test_a_folder_of_stores_names_them(tmp_path: Path) -> None:
    for name in ("val", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "header.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"name one of the stores in it: \S+train, \S+val$"):
        Store.open(tmp_path)
