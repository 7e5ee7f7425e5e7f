"""From documents to token stores: one, or one for each split; for the command and for Python alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textclf_transformer.data.folders import building_folder
from textclf_transformer.data.records import Records
from textclf_transformer.data.splitting import SPLITS, WHOLE, are_shares, stratified_split
from textclf_transformer.data.store_format import HEADER, Header, all_files
from textclf_transformer.data.store_labels import labels_of, sorted_names
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError, UsageError, counted
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer, tokenizer_kind
from textclf_transformer.utils import check_integer, check_path

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray
    from torch import Tensor


def prepare(
    texts: Sequence[str] | pandas.DataFrame,
    out: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str],
    labels: Sequence[Any] | NDArray[Any] | Tensor | None = None,
    split: Sequence[float] | None = None,
    seed: int = 42,
    multi_label: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the store that ``textclf prepare`` writes, from texts in memory.

    Args:
        texts: strings, or a DataFrame with a column ``text`` and maybe ``label``, ``id`` and ``group``.
        out: the folder to write.
        tokenizer: folder of the tokenizer, as ``get_tokenizer`` takes it.
        labels: one for each string, in a list, an array or a tensor (N,); None: no labels. A
            DataFrame brings its own.
        split: shares of train, val and test, say ``(0.8, 0.1, 0.1)``; None: one store without splits.
        seed: of the split.
        multi_label: whether a label is a list of any number of labels.
        overwrite: whether a store that is there may be replaced.

    Returns:
        ``out``.

    Raises:
        UserError: a text or a label is faulty, the tokenizer cannot be read, or the folder is there.
        TypeError: ``texts`` is one string.
    """
    check_path(out, "out")
    check_path(tokenizer, "tokenizer")
    check_integer(seed, "seed", at_least=0)
    records = Records.of(texts, labels=labels)
    if split is not None and not are_shares(split):
        raise UsageError("not a split", found=split, expected="three shares that add up to 1")
    kind = tokenizer_kind(Path(tokenizer))
    shared: Mapping[str, Any] = {
        "tokenizer": load_tokenizer(kind, Path(tokenizer)),
        "tokenizer_kind": kind,
        "keep_text": True,
        "multi_label": multi_label,
        "source": "texts",
    }
    with building_folder(Path(out), overwrite=overwrite, is_ours=is_store_folder) as folder:
        if split is None:
            write_documents(folder, records, label_names=None, **shared)
        else:
            chosen, names = cut(
                records, fractions=tuple(split), seed=seed, multi_label=multi_label, source="texts"
            )
            for name, documents in chosen.items():
                write_documents(folder / name, documents, label_names=names, **shared)
    return Path(out)


def cut(
    documents: Iterable[Document],
    *,
    fractions: Sequence[float],
    seed: int,
    multi_label: bool,
    source: str,
) -> tuple[dict[str, Iterable[Document]], tuple[str, ...] | None]:
    """Return the documents of each split, and the names of the labels, None without labels.

    Args:
        documents: read once for labels and groups, and once more for each split.
        fractions: shares of train, val and test.
        seed: of the choice.
        multi_label: whether a document carries any number of labels.
        source: where the documents come from, for messages.

    Raises:
        DataError: there is no document, or a label is faulty.
    """
    labels: list[tuple[str, ...]] = []
    groups: list[str | None] = []
    labelled = 0
    for document in documents:
        own = labels_of(document, multi_label=multi_label)
        labelled += own is not None
        labels.append(own or ())
        groups.append(document.group)
    if not labels:
        raise DataError("there are no documents", where=source)
    part_of = stratified_split(labels, groups, fractions=tuple(fractions), seed=seed)
    names = sorted_names(label for own in labels for label in own) if labelled else None
    return {name: _Selected(documents, part_of == part) for part, name in enumerate(SPLITS)}, names


def write_documents(
    place: Path,
    documents: Iterable[Document],
    *,
    tokenizer: TokenizerWrapper,
    tokenizer_kind: str,
    keep_text: bool,
    multi_label: bool,
    label_names: tuple[str, ...] | None,
    source: str,
) -> Header:
    """Write one store into the folder ``place``, which is made if need be; see ``write_store``.

    Raises:
        DataError: there is no document, which ``source`` tells, or one is faulty.
    """
    place.mkdir(exist_ok=True)
    return write_store(
        place,
        _at_least_one(documents, source=source),
        tokenizer=tokenizer,
        tokenizer_kind=tokenizer_kind,
        keep_text=keep_text,
        multi_label=multi_label,
        label_names=label_names,
    )


def _at_least_one(documents: Iterable[Document], *, source: str) -> Iterator[Document]:
    """Yield ``documents``; DataError that names ``source`` where there are none."""
    found = False
    for document in documents:
        found = True
        yield document
    if not found:
        raise DataError("there are no documents", where=source)


class _Selected:
    """Some of the documents: those where ``chosen`` is true."""

    def __init__(self, documents: Iterable[Document], chosen: Sequence[bool]) -> None:
        self._documents = documents
        self._chosen = chosen

    def __iter__(self) -> Iterator[Document]:
        choices = iter(self._chosen)
        for document in self._documents:
            chosen = next(choices, None)
            if chosen is None:
                raise _changed(f"a new one behind the last; {document.source}")
            if chosen:
                yield document
        if missing := len(list(choices)):
            raise _changed(f"{counted(missing, 'document')} less than before")


def _changed(found: str) -> DataError:
    return DataError(
        "the inputs changed while they were read", found=found, mend="run it again once nobody writes them"
    )


def is_store_folder(folder: Path) -> bool:
    """Whether ``folder`` holds what ``textclf prepare`` writes and nothing else."""
    tensors = {f"{name}.pt" for name in (*SPLITS, WHOLE)}
    entries = list(folder.iterdir())
    files = {path.name for path in entries if path.is_file() and not path.is_symlink()}
    folders = [path for path in entries if path.name not in files]
    is_known = files <= all_files() | tensors and (HEADER in files or bool(folders) or bool(files & tensors))
    return is_known and all(
        path.name in SPLITS and path.is_dir() and not path.is_symlink() and _is_single_store(path)
        for path in folders
    )


def _is_single_store(folder: Path) -> bool:
    entries = list(folder.iterdir())
    names = {path.name for path in entries}
    return HEADER in names and names <= all_files() and all(path.is_file() for path in entries)
