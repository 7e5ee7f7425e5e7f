"""Why single documents were classified as they were: the one chunk that counted most, by each measure.

The passages are those of ``textclf predict --explain``, from the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textclf_transformer.data.documents import Documents
from textclf_transformer.data.encoding import encode_documents
from textclf_transformer.data.text_documents import TOKEN_DTYPE, TextDocuments, document_text
from textclf_transformer.data.text_files import Document
from textclf_transformer.evaluation.explain import Passage, all_passages, explain_documents
from textclf_transformer.evaluation.loaded_run import LoadedRun

CHARACTERS_SHOWN = 240


def add_evidence(run: LoadedRun, documents: Documents, rows: Sequence[dict[str, Any]]) -> None:
    """Give each row ``by_attention`` and ``by_occlusion``: the chunk that counted most by that measure.

    Both are dicts of ``chunk, start, end`` (characters), ``attention_weight, occlusion_drop`` and ``text``,
    shortened; ``by_occlusion`` is None for a document of one chunk, which nothing can be taken from.

    Args:
        run: what classified.
        documents: with text, see ``text_documents.has_text``.
        rows: each with ``index``, a document's number.
    """
    if not rows:
        return
    texts = [
        Document(document_text(documents, row["index"]), None, row["id"], None, documents.path)
        for row in rows
    ]
    batch = encode_documents(texts, run.tokenizer, token_dtype=TOKEN_DTYPE, with_text=True)
    chosen = TextDocuments.from_batch(batch, run.tokenizer, path=documents.path)
    _, scores = explain_documents(run, run.batches(chosen))
    for place, (row, own) in enumerate(zip(rows, scores, strict=True)):
        passages = all_passages(run, chosen, place, own)
        row["by_attention"] = _shown(max(passages, key=lambda passage: passage.attention_weight))
        drops = [(p.occlusion_drop, p) for p in passages if p.occlusion_drop is not None]
        row["by_occlusion"] = _shown(max(drops, key=lambda pair: pair[0])[1]) if drops else None


def shortened(text: str, *, characters: int = CHARACTERS_SHOWN) -> str:
    """Return ``text`` on one line: its beginning and its end, if it is longer than ``characters``."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    half = (characters - 3) // 2
    return f"{line[:half].rstrip()} … {line[-half:].lstrip()}"


def _shown(passage: Passage) -> dict[str, Any]:
    return {
        "chunk": passage.chunk,
        "start": passage.start,
        "end": passage.end,
        "attention_weight": passage.attention_weight,
        "occlusion_drop": passage.occlusion_drop,
        "text": shortened(passage.text),
    }
