"""Labels for new documents, one after the other, with what a user wants to know beside each label."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textclf_transformer.data.chunking import chunk_counts, tokens_read
from textclf_transformer.data.encoding import EncodedBatch, encode_stream
from textclf_transformer.data.records import Records, as_frame
from textclf_transformer.data.store_labels import SEPARATOR
from textclf_transformer.data.text_documents import TOKEN_DTYPE, TextDocuments
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import counted
from textclf_transformer.evaluation.explain import (
    Passage,
    all_passages,
    decisive_passages,
    explain_documents,
)
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.probabilities import confidences, predicted_labels, probabilities

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one document.

    Attributes:
        id: the document's id.
        label: the predicted label's name; of several, all of them with ``|`` between.
        confidence: its probability; of several labels, that of the least certain decision.
        probabilities: label name → probability, in the model's order.
        n_chunks: chunks that were read.
        n_tokens: content tokens of the document.
        truncated: whether some of them stand in no chunk, because of ``max_chunks``.
        passages: its chunks with their scores, in their order; None where nobody asked.
        n_unknown: content tokens that stand for what the tokenizer's vocabulary cannot write.
    """

    id: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    n_chunks: int
    n_tokens: int
    truncated: bool
    passages: list[Passage] | None
    n_unknown: int = 0

    @property
    def mostly_unknown(self) -> bool:
        """Whether the tokenizer cannot write half of the text: of another language or script, say. The model
        has then seen next to nothing, and its confidence does not show it.
        """
        return 2 * self.n_unknown >= self.n_tokens

    def row(self) -> dict[str, Any]:
        """Return the columns ``id, label, confidence, prob_<name>…, n_chunks, n_tokens, truncated`` and,
        where asked for, ``passages``: those that decided, as a list of dicts.
        """
        row: dict[str, Any] = {"id": self.id, "label": self.label, "confidence": self.confidence}
        row |= {f"prob_{name}": value for name, value in self.probabilities.items()}
        row |= {"n_chunks": self.n_chunks, "n_tokens": self.n_tokens, "truncated": self.truncated}
        if self.passages is not None:
            row["passages"] = [asdict(passage) for passage in decisive_passages(self.passages)]
        return row


def prediction_columns(label_names: Sequence[str], *, explain: bool) -> list[str]:
    """Return the names of ``Prediction.row``, which are those of a table without rows, too."""
    columns = ["id", "label", "confidence", *(f"prob_{name}" for name in label_names)]
    return [*columns, "n_chunks", "n_tokens", "truncated", *(["passages"] if explain else [])]


def predict_documents(
    run: LoadedRun, documents: Iterable[Document], *, explain: bool
) -> Iterator[Prediction]:
    """Yield a prediction for each document, in their order, holding a few hundred thousand characters at a
    time.

    Raises:
        DataError: a document has no tokens, or cannot be read.
        NonFiniteError: a logit is NaN or infinite.
    """
    for batch in encode_stream(documents, run.tokenizer, token_dtype=TOKEN_DTYPE, with_text=explain):
        yield from _predict_batch(run, batch, explain=explain)


def _predict_batch(run: LoadedRun, batch: EncodedBatch, *, explain: bool) -> Iterator[Prediction]:
    documents = TextDocuments.from_batch(batch, run.tokenizer, path=batch.documents[0].source)
    batches = run.batches(documents)
    logits, scores = explain_documents(run, batches) if explain else (run.logits(batches), None)
    probs = probabilities(logits, multi_label=run.multi_label)
    confidence = confidences(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    decided = predicted_labels(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    chunking = {"chunk_size": run.chunk_size, "stride": run.stride, "max_chunks": run.max_chunks}
    counts = chunk_counts(documents.lengths, **chunking)
    truncated = tokens_read(documents.lengths, **chunking) < documents.lengths
    starts = np.cumsum(batch.lengths) - batch.lengths  # no document is empty
    unknown = np.add.reduceat(batch.tokens == run.tokenizer.unk_token_id, starts, dtype=np.int64)
    for index, document in enumerate(batch.documents):
        if run.multi_label:
            pairs = zip(run.label_names, decided[index], strict=True)
            label = SEPARATOR.join(name for name, is_there in pairs if is_there)
        else:
            label = run.label_names[decided[index]]
        yield Prediction(
            id=document.id,
            label=label,
            confidence=float(confidence[index]),
            probabilities=dict(zip(run.label_names, probs[index].tolist(), strict=True)),
            n_chunks=int(counts[index]),
            n_tokens=int(documents.lengths[index]),
            truncated=bool(truncated[index]),
            passages=None if scores is None else all_passages(run, documents, index, scores[index]),
            n_unknown=int(unknown[index]),
        )


def unknown_text(count: int, first: str) -> str:
    """Return what there is to say of ``count`` documents that are ``mostly_unknown``."""
    return (
        f"half or more of the text of {counted(count, 'document')} is unknown to the tokenizer, the first is "
        f"{first}; what is predicted there means little (is it in the language of the training text?)"
    )


def predict(
    run: str | os.PathLike[str] | LoadedRun,
    texts: Sequence[str] | pandas.DataFrame,
    *,
    explain: bool = False,
    trust_code: bool = False,
) -> pandas.DataFrame | list[dict[str, Any]]:
    """Classify texts with a finetuning run.

    Args:
        run: the run's name, the path of its folder, or what ``load_run`` returned.
        texts: strings, or a DataFrame with a column ``text`` and, optionally, ``id``.
        explain: whether to add the column ``passages``: which passages decided, see ``evaluation.explain``.
        trust_code: whether a tokenizer class outside this package may be run.

    Returns:
        A row for each text, in their order (see ``Prediction.row``): a DataFrame, with the index of a
        DataFrame given, if pandas is installed, else a list of dicts. A text without an id of its own is
        called by its place, from 0.

    Raises:
        UserError: there is no such run, it cannot be read, or a text is empty or no string.
        TypeError: ``texts`` is one string.
    """
    frame = as_frame(texts)
    records = Records.of(texts, columns=("text", "id"))
    loaded = run if isinstance(run, LoadedRun) else load_run(run, trust_code=trust_code)
    rows, unknown = [], []
    for prediction in predict_documents(loaded, records, explain=explain):
        rows.append(prediction.row())
        if prediction.mostly_unknown:
            unknown.append(prediction.id)
    if unknown:
        warnings.warn(unknown_text(len(unknown), unknown[0]), stacklevel=2)
    try:
        import pandas
    except ImportError:
        return rows
    columns = prediction_columns(loaded.label_names, explain=explain)
    return pandas.DataFrame(rows, columns=columns, index=None if frame is None else frame.index)
