"""Reading folders of text files, a document in each; nothing that stands there is passed over in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf_transformer.atomic import storage_errors
from textclf_transformer.data.store_format import HEADER
from textclf_transformer.data.text_files import TEXT_SUFFIXES, Document, format_suffix, read_whole
from textclf_transformer.errors import DataError


def read_folder(folder: Path, *, with_labels: bool) -> Iterator[Document]:
    """Yield one document for each text file below ``folder``, in the order of their names.

    Hidden files and folders are left out; links are followed.

    Args:
        folder: the folder.
        with_labels: whether the first sub-folder is a file's label.

    Raises:
        DataError: there is no text file, or something that is none, as a token store is; a name is not
            UTF-8; links lead in a circle.
        StorageError: a folder or a file cannot be read.
    """
    files = sorted(_files_below(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not files:
        raise DataError("the folder has no text files", where=str(folder))
    _refuse_store(files)
    for path in files:
        _check_file(path, path.relative_to(folder).as_posix())
    for path in files:
        relative = path.relative_to(folder)
        label = relative.parts[0] if with_labels and len(relative.parts) > 1 else None
        with storage_errors(path):
            text = read_whole(path)
        yield Document(text, label, relative.as_posix(), None, str(path))


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield what is no folder below ``folder``, hidden ones left out."""
    # Path.rglob passes over linked folders and those that it may not read
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            _check_no_circle(Path(place, name))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    with storage_errors(Path(error.filename)):
        raise error


def _check_no_circle(folder: Path) -> None:
    if folder.is_symlink() and any(parent.resolve() == folder.resolve() for parent in folder.parents):
        raise DataError(
            "a link leads back to a folder that it stands in",
            where=str(folder),
            found=str(folder.resolve()),
            mend="remove the link",
        )


def _refuse_store(files: Sequence[Path]) -> None:
    store = next((path.parent for path in files if path.name == HEADER), None)
    if store is not None:
        raise DataError(
            "this is a token store, and no text",
            where=str(store),
            mend="name the text that it was made from; textclf audit, evaluate --data and the training read "
            "stores, one at a time",
        )


def _check_file(path: Path, identity: str) -> None:
    if not path.is_file():
        raise DataError(
            "not a text file",
            where=str(path),
            found="a link that leads nowhere" if not path.exists() else "no file, but a pipe or a device",
            mend="mend or remove it",
        )
    if format_suffix(path) not in (*TEXT_SUFFIXES, ""):
        raise DataError(
            "not a text file",
            where=str(path),
            expected=".txt, maybe with .gz, .bz2 or .xz: a folder holds a document in each file",
            mend="name files of other formats themselves, not their folder",
        )
    try:
        identity.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "a name is not UTF-8",
            where=str(path),
            expected="UTF-8, as it becomes the document's id",
            mend="rename it, e.g. with `convmv -t utf8`",
        ) from error
