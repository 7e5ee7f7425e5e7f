"""Four short documents, a tokenizer that knows them, and stores of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textclf_transformer.data.store import Store
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.text_files import Document
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.byte_bpe_tokenizer_wrapper import ByteLevelBPETokenizerWrapper
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["The cat sat.", "Ein Käfer – läuft!", "a [MASK] in the text", "word " * 30 + "end"]


def train(kind: str) -> TokenizerWrapper:
    if kind == "wordpiece":
        trained = train_wordpiece(TEXTS * 5, vocab_size=200, min_frequency=2, lowercase=True)
        return WordPieceTokenizerWrapper.from_tokenizer(trained)
    return ByteLevelBPETokenizerWrapper.from_tokenizer(
        train_byte_level_bpe(TEXTS * 5, vocab_size=300, min_frequency=2)
    )


def documents(**changes: Any) -> list[Document]:
    base = {"label": "x", "group": None}
    return [
        Document(**{"text": text, "id": f"d:{i}", "source": f"in:{i + 1}", **base, **changes})
        for i, text in enumerate(TEXTS)
    ]


def store_of(folder: Path, found: list[Document], tokenizer: TokenizerWrapper, **options: Any) -> Store:
    settings: dict[str, Any] = {"keep_text": True, "multi_label": False, **options}
    folder.mkdir(exist_ok=True)
    write_store(folder, found, tokenizer=tokenizer, tokenizer_kind="wordpiece", **settings)
    return Store.open(folder)
