"""Several inputs read as one corpus: which, in what order, what is skipped, what is refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from corpus_cases import fields, read, write, write_jsonl

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.errors import DataError, StorageError


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
