"""A store that is cut off, changed or none at all is named, and not read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_cases import documents, store_of

from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import Header, checksum_of
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper


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


def test_a_folder_of_stores_names_them(tmp_path: Path) -> None:
    for name in ("val", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "header.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"name one of the stores in it: \S+train, \S+val$"):
        Store.open(tmp_path)
