"""Documents in the rows of CSV, TSV and Parquet files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from corpus_cases import read, write

from textclf_transformer.data.table_files import _csv_fault
from textclf_transformer.errors import DataError, UsageError


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
