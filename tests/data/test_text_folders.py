from __future__ import annotations

import os
from pathlib import Path

import pytest

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.errors import DataError, StorageError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in" / "ship" / "1.txt", "rope")
    return tmp_path / "in"


def test_links_to_folders_and_files_are_followed(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "2.txt", "soil")
    (folder / "garden").symlink_to(tmp_path / "elsewhere")
    (folder / "ship" / "3.txt").symlink_to(folder / "ship" / "1.txt")
    found = [(document.id, document.label, document.text) for document in Corpus([folder])]
    assert found == [
        ("garden/deep/2.txt", "garden", "soil"),
        ("ship/1.txt", "ship", "rope"),
        ("ship/3.txt", "ship", "rope"),
    ]


def test_links_that_lead_in_a_circle_are_named(folder: Path) -> None:
    write(folder / "garden" / "2.txt", "soil")
    (folder / "garden" / "other").symlink_to(folder / "ship")
    (folder / "ship" / "other").symlink_to(folder / "garden")
    with pytest.raises(DataError, match=r"leads back to a folder.*other/other"):
        list(Corpus([folder]))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_named(folder: Path, kind: str) -> None:
    odd = folder / "ship" / "2.txt"
    if kind == "link":
        odd.symlink_to(folder / "gone.txt")
    else:
        os.mkfifo(odd)
    with pytest.raises(DataError, match=rf"not a text file; .*ship/2\.txt; found .*{kind}"):
        list(Corpus([folder]))


def test_a_token_store_is_no_text(folder: Path) -> None:
    """Its files are all called something else than text; what stands first says nothing to anybody."""
    for name in ("document_offsets.bin", "header.json", "tokens.bin"):
        write(folder / "test" / name, "x")
    for given in (folder, folder / "test"):
        with pytest.raises(DataError, match=rf"a token store, and no text; {folder / 'test'}; name the text"):
            list(Corpus([given]))


def test_a_folder_that_may_not_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("ship"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    write(folder / "garden" / "2.txt", "soil")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"ship; found Permission denied"):
        list(Corpus([folder]))


def test_names_that_are_not_utf8(folder: Path, tmp_path: Path) -> None:
    """A folder's names are ids and labels, which must stay what they are; a file's stem is only made up."""
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.txt")), "rope")
    alone = next(tmp_path.glob("a*.txt"))
    assert [document.id for document in Corpus([alone])] == ["a\N{REPLACEMENT CHARACTER}:1"]
    alone.rename(folder / "ship" / alone.name)
    with pytest.raises(DataError, match=r"a name is not UTF-8; .*ship"):
        list(Corpus([folder]))
