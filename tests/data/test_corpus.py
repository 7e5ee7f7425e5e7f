from __future__ import annotations

import bz2
import csv
import errno
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.table_files import _csv_fault
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, StorageError, UsageError
from textclf_transformer.experiment import CHECKOUT


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def read(*inputs: Path, **options: Any) -> list[Document]:
    return list(Corpus(inputs, **options))


RECORDS = [
    {"text": "NA", "label": "no", "id": "007", "group": "g1"},
    {"text": "zwei\nZeilen, ein Komma; „Zitat“", "label": "NA", "id": "1e5", "group": "g2"},
]
EXPECTED = [("NA", "no", "007", "g1"), ("zwei\nZeilen, ein Komma; „Zitat“", "NA", "1e5", "g2")]


def fields(documents: list[Document]) -> list[tuple[Any, ...]]:
    return [(document.text, document.label, document.id, document.group) for document in documents]


def table(path: Path, delimiter: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "label", "text", "group"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(RECORDS)
    return path


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


def test_columns_have_the_names_one_gives_them(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"body": "b", "y": "l", "key": "k", "author": "a", "id": "unused"}]
    )
    found = read(path, text_column="body", label_column="y", id_column="key", group_column="author")
    assert fields(found) == [("b", "l", "k", "a")]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_column_is_what_it_was_named_for_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    """A label's column called ``group`` is no group: all documents of a label would stay in one split."""
    rows = [{"text": "a", "group": "x", "id": "1"}, {"text": "b", "group": "x", "id": "2"}]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        write(path, "text,group,id\na,x,1\nb,x,2\n")
    else:
        write_jsonl(path, rows)
    assert fields(read(path, label_column="group")) == [("a", "x", "1", None), ("b", "x", "2", None)]
    by_id = read(path, label_column=None, group_column="id")
    assert fields(by_id) == [("a", None, "a:1", "1"), ("b", None, "a:2", "2")]
    by_text = read(path, label_column=None, text_column="id")
    assert fields(by_text) == [("1", None, "a:1", "x"), ("2", None, "a:2", "x")]
    # two flags may name one column
    both = read(path, label_column=None, id_column="id", group_column="id")
    assert fields(both) == [("a", None, "1", "1"), ("b", None, "2", "2")]


def test_labels_may_be_numbers_truth_values_and_lists(tmp_path: Path) -> None:
    labels = [3, -1, True, ["a", "b"], [], [1, 2]]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": label} for label in labels])
    assert [document.label for document in read(path)] == ["3", "-1", "true", ("a", "b"), (), ("1", "2")]


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,b\nc\n", "a.csv:3; found 1, expected 2"),
        ("text,label\na,b\nc,d,e\n", "a.csv:3; found 3, expected 2"),
        ('text,label\n"a\nb",c\nd\n', "a.csv:4; found 1, expected 2"),
        ('text,label\n"a,b\n', "a.csv:2.*unexpected end.*double those inside"),
        ('text,label\n"a" said he,b\n', "a.csv:2.*expected after.*double those inside"),
        ("text,label\ra,b\rc,d\r", r"a.csv:1; found a CR.*end the lines with .*tr '"),
        ("text,text,label\na,b,c\n", "a.csv:1"),
        ("body,label\na,b\n", "no column 'text'; .*a.csv:1; found 'body', 'label'"),
        ("", "file is empty"),
    ],
)
def test_bad_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize("asks_for", ["in universal-newline mode", "with newline=''"])
def test_a_cr_is_named_whatever_python_says_of_it(asks_for: str) -> None:
    fault = f"new-line character seen in unquoted field - do you need to open the file {asks_for}?"
    assert _csv_fault(fault)[0] == "a CR that ends no line"  # Python 3.13 has other words than those before


@pytest.mark.parametrize("columns", [["text", "label"], ["label", "text"], ["id", "text", "label"]])
def test_a_quote_that_swallows_rows_is_told(tmp_path: Path, columns: list[str]) -> None:
    """The file has as many quotes as it should, and no row has a wrong number of columns."""
    rows = [("1", "fine", "a"), ("2", '"No, he said', "a"), ("3", "soil", "b"), ("4", 'nor she"', "b")]
    names = ("id", "text", "label")
    lines = ["\t".join(columns)]
    lines += ["\t".join(dict(zip(names, row, strict=True))[name] for name in columns) for row in rows]
    path = write(tmp_path / "a.tsv", "\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match=r"a\.tsv:3: the row ends at line 5, over lines that look like rows"):
        assert len(read(path)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "one line\nanother",
        "def f():\n\treturn 1\n\treturn 2",  # of a column that is the last of two
        'he said "no"\nand went',
        "one\n\ntwo\tthree",
    ],
)
@pytest.mark.parametrize("columns", [["text", "label"], ["label", "text"]])
def test_cells_of_several_lines_are_taken_as_they_are(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, columns: list[str], text: str
) -> None:
    with (tmp_path / "a.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t")
        writer.writeheader()
        writer.writerow({"text": text, "label": "a"})
    assert [document.text for document in read(tmp_path / "a.tsv")] == [text]
    assert not recwarn.list


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "folder/a"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_its_mark_is_refused(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes("text,label\ngrün,a\n".encode(encoding))
    with pytest.raises(DataError, match=rf"UTF-16, without the mark.*{name}.*iconv -f UTF-16LE"):
        read(path.parent if "/" in name else path)


def test_integers_beside_a_gap_are_integers(tmp_path: Path) -> None:
    """So pandas writes them: a column with a gap holds floats."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = pyarrow.array([7.0, None, 1.5, 2.0**60])
    rows = {"text": ["a", "b", "c", "d"], "label": ["x"] * 4, "id": column, "group": column}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    found = [(document.id, document.group) for document in read(tmp_path / "a.parquet")]
    assert found == [
        ("7", "7"),
        ("a:2", None),
        ("1.5", "1.5"),
        ("1.152921504606847e+18", "1.152921504606847e+18"),
    ]


def test_csv_cells_may_be_long_and_odd(tmp_path: Path) -> None:
    odd = "a\x00b\r\nc,'\"\t" + "long " * 100_000
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], [odd, " 007 "], [], ["x", "None"]])
    documents = read(tmp_path / "a.csv")
    assert [(document.text, document.label) for document in documents] == [(odd, " 007 "), ("x", "None")]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"textclf_transformer\[parquet\]"):
        read(write(tmp_path / "a.parquet", "x"))


def test_damaged_parquet_is_a_data_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"a\.parquet"):
        read(write(tmp_path / "a.parquet", "this is no parquet file"))


def test_unknown_format_and_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown format.*\.jsonl, \.csv"):
        read(write(tmp_path / "a.docx", "x"))
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "gone.jsonl")


def test_a_corpus_can_be_read_again_and_counts_what_it_skips(tmp_path: Path) -> None:
    records = [{"text": text, "label": "a"} for text in ("x", "", " ", "y")]
    paths = [write_jsonl(tmp_path / name, records) for name in ("a.jsonl", "b.jsonl")]
    corpus = Corpus(paths, skip_empty=True)
    for _ in range(2):
        assert [document.text for document in corpus] == ["x", "y", "x", "y"]
        assert corpus.skipped == 4


@pytest.mark.parametrize(
    "text", ["\u200b", "\ufeff \u00ad\u200d", "\x01\x7f", "\ufffd\ufffd", "\u3000\u2028"]
)
def test_characters_that_show_nothing_are_no_text(tmp_path: Path, text: str) -> None:
    shown = ["\u200bx", "…", "\U0001f600\ufe0f", "\u0915\u094d\u200d"]
    records = [{"text": text, "label": "a"} for text in (*shown, text)]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    corpus = Corpus([path], skip_empty=True)
    assert [document.text for document in corpus] == shown
    assert corpus.skipped == 1
    with pytest.raises(DataError, match=r"the text is empty; .*a\.jsonl:5: text.*add --skip-empty"):
        list(Corpus([path]))


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": "a"}\n{broken\n')
    assert next(iter(Corpus([path]))).text == "x"


def test_nan_is_no_group_and_no_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": "a", "id": NaN, "group": NaN}\n')
    assert fields(read(path)) == [("x", "a", "a:1", None)]


def test_a_parquet_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = pyarrow.array([b"x", b"\xff\xfe"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": column, "label": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"not UTF-8; .*a\.parquet, after row 0.*0xff"):
        read(tmp_path / "a.parquet")


def test_a_parquet_file_that_is_damaged_is_named_or_has_all_its_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    records = [{"text": f"some words {i} and more", "label": "ab"[i % 2]} for i in range(8)]
    parquet.write_table(pyarrow.Table.from_pylist(records), path)
    whole = path.read_bytes()
    named = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert len(read(path)) == len(records), f"byte {place}"
        except DataError as error:
            named += str(path) in str(error)
    assert named > 100


def test_page_checksums_of_a_parquet_file_are_compared(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": ["some words", "some more"], "label": ["a", "b"]})
    parquet.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"some words", b"some wordz"))
    with pytest.raises(DataError, match=r"cannot be read; .*a\.parquet.*CRC"):
        read(path)


def test_an_input_without_documents_among_others_is_told(tmp_path: Path) -> None:
    full, empty = (
        write(tmp_path / "a.jsonl", '{"text": "x", "label": "a"}\n'),
        write(tmp_path / "b.jsonl", ""),
    )
    with pytest.warns(UserWarning, match=r"b\.jsonl holds no document"):
        assert len(read(full, empty)) == 1
    assert read(empty) == []


def test_an_input_named_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    (tmp_path / "link.txt").symlink_to(path)
    for again in (path, tmp_path / "link.txt"):
        with pytest.raises(DataError, match=r"named twice; .*\.txt.*would count double$"):
            Corpus([path, again])


@pytest.mark.parametrize("order", [1, -1])
def test_an_input_named_with_a_folder_that_it_lies_in_is_refused(tmp_path: Path, order: int) -> None:
    folder, path = tmp_path / "texts", write(tmp_path / "texts" / "ship" / "a.txt", "x")
    for part in (path, path.parent):
        with pytest.raises(DataError, match=rf"named twice; {part}; found a part of {folder}; name it once"):
            Corpus([part, folder][::order])
    # what a folder leaves out, and what lies beside it, is no part of it
    hidden = write(folder / ".drafts" / "b.txt", "y")
    beside = write(tmp_path / "texts2" / "c.txt", "z")
    assert [document.text for document in Corpus([folder, hidden, beside])] == ["x", "y", "z"]


@pytest.mark.parametrize("name", ["a.jsonl", "folder/a.txt"])
def test_a_disk_that_fails_names_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write(tmp_path / name, "x")

    def fail(*args: object, **more: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StorageError, match=rf"{path}; found Input/output error"):
        read(path.parent if "/" in name else path)
