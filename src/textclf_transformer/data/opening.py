"""Opening tokenised documents, whichever form they have, and checking that they fit the tokenizer."""

from __future__ import annotations

from pathlib import Path

from textclf_transformer.data.documents import Documents
from textclf_transformer.data.splitting import SPLITS, WHOLE
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import HEADER
from textclf_transformer.data.tensor_documents import TensorDocuments
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper

TENSOR_SUFFIX = ".pt"


def open_documents(path: Path, *, tokenizer: TokenizerWrapper, key: str | None = None) -> Documents:
    """Open a store (a folder made by ``textclf prepare``) or a ``.pt`` file.

    Args:
        path: the folder or file.
        tokenizer: the one that the model uses; the documents must have been made with it.
        key: the config key that names ``path``, for messages, such as ``data.train.dataset_path``.

    Raises:
        DataError: there is nothing at ``path``, it is of another kind, its content is faulty, or it was made
            with another tokenizer.
    """
    where = str(path) if key is None else f"{key}: {path}"
    if path.is_dir():
        documents: Documents = Store.open(path)
    elif path.suffix == TENSOR_SUFFIX and path.is_file():
        documents = TensorDocuments.open(
            path,
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            pad_token_id=tokenizer.pad_token_id,
            vocab_size=tokenizer.vocab_size,
        )
    elif path.exists():
        raise DataError(
            "not a data set",
            where=where,
            expected="a folder made by textclf prepare, or a .pt file",
            mend=f"make one with: textclf prepare {path} --out STORE",
        )
    else:
        raise DataError(
            "data set does not exist",
            where=where,
            mend=f"make it with: textclf prepare INPUT --out {path}",
        )
    _check_tokenizer(documents, tokenizer=tokenizer, where=where)
    return documents


def store_parts(folder: Path) -> dict[str, Path]:
    """Return name → folder of the stores at ``folder``: its splits, or itself; empty where there are none."""
    if (folder / HEADER).is_file():
        return {WHOLE: folder}
    return {name: folder / name for name in SPLITS if (folder / name / HEADER).is_file()}


def _check_tokenizer(documents: Documents, *, tokenizer: TokenizerWrapper, where: str) -> None:
    """Refuse documents of another tokenizer; a ``.pt`` file names none, but its ids were checked."""
    mend = "prepare the text again with this tokenizer, or name the tokenizer that made the data"
    if documents.vocab_size is not None and documents.vocab_size != tokenizer.vocab_size:
        raise DataError(
            "data and tokenizer have different vocabularies",
            where=where,
            found=f"{documents.vocab_size} tokens in the data",
            expected=f"{tokenizer.vocab_size} as in the tokenizer",
            mend=mend,
        )
    fingerprint = documents.tokenizer_fingerprint
    if fingerprint is not None and fingerprint != tokenizer.fingerprint:
        raise DataError(
            "data was made with another tokenizer",
            where=where,
            found=f"tokenizer {fingerprint[:16]}…",
            expected=f"{tokenizer.fingerprint[:16]}…",
            mend=mend,
        )
