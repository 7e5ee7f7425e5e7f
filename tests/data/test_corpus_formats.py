"""Every format gives the same text: plain, compressed and UTF-16 files, JSON Lines, folders of texts."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest
from corpus_cases import EXPECTED, RECORDS, fields, read, table, write, write_jsonl

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.errors import DataError
from textclf_transformer.experiment import CHECKOUT


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet"])
def test_every_format_gives_the_same_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".jsonl"):
        write_jsonl(path, RECORDS)
    elif name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        pyarrow.parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    else:
        table(path, "," if name.endswith(".csv") else "\t")
    assert fields(read(path)) == EXPECTED


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
@pytest.mark.parametrize("plain", ["a.jsonl", "a.csv", "a.txt"])
def test_compressed_files_read_like_plain_ones(
    tmp_path: Path, suffix: str, compress: Any, plain: str
) -> None:
    path = tmp_path / plain
    if plain.endswith("csv"):
        table(path, ",")
    elif plain.endswith("jsonl"):
        write_jsonl(path, RECORDS)
    else:
        write(path, "one\n\ntwo\n")
    packed = tmp_path / f"{plain}{suffix}"
    packed.write_bytes(compress.compress(path.read_bytes()))
    assert fields(read(packed)) == fields(read(path))


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_cut_off_and_damaged_compression_name_the_file(tmp_path: Path, suffix: str, compress: Any) -> None:
    # Text that does not compress away, so that half a stream still holds some of it.
    whole = compress.compress("\n\n".join(str(hash((i, "x"))) for i in range(20_000)).encode())
    cut = tmp_path / f"cut.txt{suffix}"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"cut off.*cut.txt{suffix}"):
        read(cut)
    damaged = tmp_path / f"damaged.txt{suffix}"
    damaged.write_bytes(b"this was never compressed")
    with pytest.raises(DataError, match=f"damaged.*damaged.txt{suffix}"):
        read(damaged)


@pytest.mark.parametrize("name", ["a.ndjson", "a.text", "a.text.gz", "a.ndjson.xz"])
def test_every_ending_that_is_read_stands_on_the_page(tmp_path: Path, name: str) -> None:
    page = (CHECKOUT / "docs" / "own_documents.md").read_text(encoding="utf-8")
    assert all(f"`.{ending}`" in page for ending in name.split(".")[1:])
    packed = {"gz": gzip.compress, "xz": lzma.compress}.get(name.rpartition(".")[2], bytes)
    text = '{"text": "some words"}' if "json" in name else "some words"
    (tmp_path / name).write_bytes(packed(text.encode()))
    (document,) = Corpus([tmp_path / name], label_column=None)
    assert document.text == "some words"


def test_plain_text_is_divided_at_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeff\n\none\ntwo\n \t \n\nthree\r\n\r\nfour")
    documents = read(path)
    assert [document.text for document in documents] == ["one\ntwo", "three", "four"]
    assert [document.id for document in documents] == ["a:1", "a:2", "a:3"]
    assert [document.source for document in documents] == [f"{path}:3", f"{path}:7", f"{path}:9"]
    assert {document.label for document in documents} == {None}


def test_plain_text_without_blank_lines_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textclf_transformer.data.corpus.MAX_LINE_BYTES", 100)
    lines = "a document of its own, it seems\n"
    assert len(read(write(tmp_path / "a.txt", 9 * f"{lines}\n"))) == 9
    with pytest.raises(DataError, match=r"document is too long; .*b\.txt:3; .*put blank lines between"):
        read(write(tmp_path / "b.txt", f"one\n\n{9 * lines}"))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_and_a_file_of_a_folder_are_held_in_memory_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("textclf_transformer.data.text_files.MAX_LINE_BYTES", 30)
    packed = gzip.compress if suffix else bytes
    for name, what in (("a.txt", r"line is too long; .*a\.txt.*:3"), ("in/x/a.txt", "document is too long")):
        path = tmp_path / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path if name == "a.txt" else tmp_path / "in"
        start = b"short\n\n" if name == "a.txt" else b""
        path.write_bytes(packed(start + b"x" * 30))
        assert read(source)[-1].text == "x" * 30
        path.write_bytes(packed(start + b"x" * 31))
        with pytest.raises(DataError, match=what):
            read(source)


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\ufefftext,label\nx,y\n")
    assert fields(read(path)) == [("x", "y", "a:1", None)]


def test_folder_of_text_files(tmp_path: Path) -> None:
    for name in ("pos/b.txt", "neg/a.txt", "pos/deep/c.txt", ".hidden/x.txt", "pos/.DS_Store"):
        write(tmp_path / "set" / name, f"text of {name}\n\nwith a blank line")
    (tmp_path / "set" / "pos" / "d.txt.gz").write_bytes(gzip.compress(b"packed"))
    documents = read(tmp_path / "set")
    assert [(document.id, document.label) for document in documents] == [
        ("neg/a.txt", "neg"),
        ("pos/b.txt", "pos"),
        ("pos/d.txt.gz", "pos"),
        ("pos/deep/c.txt", "pos"),
    ]
    assert documents[0].text == "text of neg/a.txt\n\nwith a blank line"
    assert {document.label for document in read(tmp_path / "set", label_column=None)} == {None}


def test_folder_with_something_else_in_it_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "set" / "pos" / "a.txt", "x")
    write(tmp_path / "set" / "pos" / "b.pdf", "x")
    with pytest.raises(DataError, match=r"not a text file.*b\.pdf"):
        read(tmp_path / "set")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": 7, "label": "a"}, "text; found int '7'"),
        ({"text": None, "label": "a"}, "text; found nothing"),
        ({"text": "x", "label": 1.5}, "label; found float"),
        ({"text": "x", "label": None}, "label; found nothing"),
        ({"text": "x", "label": {"a": 1}}, "label; found dict"),
        ({"text": "x", "label": ["a", "a"]}, "stands twice"),
        ({"text": "x"}, "no column 'label'.*--no-labels"),
        ({"label": "x"}, "no column 'text'.*--text-column"),
        ({"text": " \n ", "label": "a"}, "text is empty"),
        ({"text": "\ud800", "label": "a"}, "no valid character"),
        ([1], "found list, expected an object"),
    ],
)
def test_bad_record_is_named_with_its_line(tmp_path: Path, record: Any, message: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}, record])
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert f"{path}:2" in str(caught.value)


@pytest.mark.parametrize(
    "line", ["{", "text", '{"text": "a", "text": "b", "label": "c"}', "[" * 50_000, "9" * 5000]
)
def test_bad_json_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": "a"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:3"):
        read(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_bad_utf8_is_named_with_line_and_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"text,label\nfine,a\n\xc3\xa9 ok \xff,a\n")
    if name == "a.jsonl":
        path.write_bytes(b'{"text": "x", "label": "a"}\n\n\xc3\xa9 ok \xff\n')
    with pytest.raises(DataError, match=rf"not UTF-8; .*{name}:3, byte 7; found 0xff"):
        read(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "folder/a"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_its_mark_is_refused(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes("text,label\ngrün,a\n".encode(encoding))
    with pytest.raises(DataError, match=rf"UTF-16, without the mark.*{name}.*iconv -f UTF-16LE"):
        read(path.parent if "/" in name else path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "folder/a"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["text,label\ngrün,a\n", "好书"])
def test_utf16_with_its_mark_is_called_so(tmp_path: Path, name: str, encoding: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(f"\ufeff{text}".encode(encoding))
    with pytest.raises(DataError, match=rf"not UTF-8 but UTF-16.*{name}.*iconv -f UTF-16 -t UTF-8"):
        read(path.parent if "/" in name else path)


def test_unknown_format_and_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown format.*\.jsonl, \.csv"):
        read(write(tmp_path / "a.docx", "x"))
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "gone.jsonl")
