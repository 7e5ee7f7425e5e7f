"""The labelled documents that a run is judged on, and those of its own training where they still are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf_transformer.atomic import storage_errors
from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.documents import Documents, align_labels, check_label_kind
from textclf_transformer.data.opening import TENSOR_SUFFIX, open_documents, store_parts
from textclf_transformer.data.splitting import WHOLE
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.errors import ConfigError, DataError, UsageError, UserError
from textclf_transformer.evaluation.loaded_run import LoadedRun
from textclf_transformer.evaluation.report_run import read_facts

JUDGED_SPLITS = ("val", "test")


def open_run_split(run: LoadedRun, split: str | None) -> Documents:
    """Open a split of the run's own data.

    Args:
        run: the run.
        split: ``val`` or ``test``; None: test where the run has one, else val.

    Raises:
        ConfigError: the run names no such data.
        DataError: they are not there any more, were changed since the training, are faulty, have no labels,
            or other ones.
    """
    chosen = split or ("test" if "test" in run.data_paths else "val")
    if chosen not in run.data_paths:
        raise ConfigError(
            f"the run has no {chosen} data",
            where=str(run.run.root),
            found=f"data.{chosen}: null",
            mend="name documents with --data, or another --split",
        )
    documents = _open_own(run, chosen)
    check_labels(run, documents)
    return documents


def _open_own(run: LoadedRun, split: str) -> Documents:
    """Open a split as it was in training; DataError where other documents lie there now.

    A store that was made anew may have other documents in each split: those of test may then be documents
    that the run was trained on, and no score would show it.
    """
    path = run.data_paths[split]
    documents = open_documents(path, tokenizer=run.tokenizer, key=f"data.{split}.dataset_path")
    then: set[str | None] = {run.data_fingerprints.get(split, documents.fingerprint)}
    if split == "test":
        then.add(read_facts(run.run).test_data)  # after --allow-changed it is another than the best's
    if documents.fingerprint not in then:
        raise DataError(
            f"the {split} data were changed since the run was trained",
            where=str(path),
            found="other documents, maybe some that it was trained on",
            mend=f"restore them, or name them with textclf evaluate --data {path}",
        )
    return documents


def tokenised_data(paths: Sequence[Path], split: str | None) -> Path | None:
    """Return the store or ``.pt`` file that ``--data`` means; None for text.

    Args:
        paths: a store, a folder of stores, a ``.pt`` file, or inputs of text.
        split: which store of a folder of stores; None: test where there is one, else val.

    Raises:
        UsageError: ``split`` is given where there is nothing to choose from.
        DataError: the folder has no such store.
    """
    stores = store_parts(paths[0]) if len(paths) == 1 else {}
    choices = {name: store for name, store in stores.items() if name != WHOLE}
    wanted = tuple(reversed(JUDGED_SPLITS)) if split is None else (split,)
    if split is not None and not choices:
        raise UsageError(
            "--split chooses among the run's own splits or the stores of a folder",
            found=f"--data {paths[0]}",
            mend="leave --split out",
        )
    if choices and not choices.keys() & set(wanted):
        raise DataError(
            f"there is no store of {' or '.join(wanted)} in this folder",
            where=f"--data {paths[0]}",
            found=", ".join(choices),
            mend=f"name one of them: --data {next(iter(choices.values()))}",
        )
    if len(paths) == 1 and paths[0].suffix == TENSOR_SUFFIX:
        return paths[0]
    return next((stores[name] for name in (WHOLE, *wanted) if name in stores), None)


def open_tokenised(run: LoadedRun, path: Path) -> Documents:
    """Open a labelled store or ``.pt`` file that the user names.

    Raises:
        DataError: it is faulty, was made with another tokenizer, or has no labels or other ones.
    """
    documents = open_documents(path, tokenizer=run.tokenizer, key="--data")
    check_labels(run, documents)
    return documents


def open_texts(run: LoadedRun, corpus: Corpus, *, path: str) -> Documents:
    """Tokenise labelled text that the user names by ``path``.

    Raises:
        DataError: there is none, it is faulty, or has no labels or other ones.
    """
    documents = TextDocuments.read(corpus, run.tokenizer, multi_label=run.multi_label, path=path)
    check_labels(run, documents)
    return documents


def check_labels(run: LoadedRun, documents: Documents) -> None:
    """Raise DataError unless the documents have labels, one each or several, as the run's have."""
    if documents.labels is None:
        raise DataError(
            "the documents have no labels, so there is nothing to compare with",
            where=documents.path,
            mend="textclf predict needs none",
        )
    check_label_kind(documents, multi_label=run.multi_label, others="the run", where=documents.path)


def try_own_split(run: LoadedRun, split: str) -> tuple[Documents | None, str | None]:
    """Return the run's own documents of ``split``, or None and why they cannot be had."""
    try:
        if split not in run.data_paths:
            return None, f"the run has no {split} data"
        path = run.data_paths[split]
        with storage_errors(path):  # a run may be shared, and its data in a folder that is not
            if not path.exists():
                return None, f"its {split} data are not here any more: {path}"
            documents = _open_own(run, split)
        check_labels(run, documents)
        align_labels(documents, run.label_names)
    except UserError as error:
        return None, str(error)
    return documents, None
