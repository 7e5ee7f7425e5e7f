"""Documents with their chunks shaded by how much each counted, as the report and the served page show them.

A chunk is shown from where it begins to where the next one does, so that overlapping chunks repeat no text.
Shades are relative to the document: the strongest chunk is the darkest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf_transformer.data.documents import Documents
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_labels import SEPARATOR
from textclf_transformer.data.text_documents import TextDocuments, document_id
from textclf_transformer.data.text_files import Document
from textclf_transformer.evaluation.breakdowns import right_documents
from textclf_transformer.evaluation.explain import Passage, decisive_passages
from textclf_transformer.evaluation.loaded_run import FloatArray, LoadedRun
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.predict import Prediction, predict_documents
from textclf_transformer.evaluation.probabilities import confidences, predicted_labels
from textclf_transformer.utils import derive_seed

ATTENTION_LEVELS = 10
OCCLUSION_LEVELS = 5

# Smaller drops than this, in nats (a tenth of the probability), are not shaded as if they decided.
SMALLEST_FULL_DROP = 0.1

# Beyond so many characters of a document only the decisive chunks are shown whole.
WHOLE_CHARACTERS = 30_000
PREVIEW_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class ShownChunk:
    """One chunk of a document.

    Attributes:
        number: from 1.
        attention: its weight, 0 to 1.
        attention_level: its shade, 0 to ``ATTENTION_LEVELS``.
        drop: its occlusion drop in nats; None for the only chunk.
        drop_level: its shade, −``OCCLUSION_LEVELS`` (speaks against) to ``OCCLUSION_LEVELS`` (speaks for).
        probability_without: that of the predicted label, or of all decisions together where a document has
            several labels, without the chunk; None for the only chunk.
        decisive: whether it is among the first by either measure.
        text: its text, as far as no later chunk begins.
        overlap: whether it reads on into the next chunk's text.
    """

    number: int
    attention: float
    attention_level: int
    drop: float | None
    drop_level: int
    probability_without: float | None
    decisive: bool
    text: str
    overlap: bool

    @property
    def preview(self) -> str:
        """The beginning of the text, on one line."""
        return " ".join(self.text[: 2 * PREVIEW_CHARACTERS].split())[:PREVIEW_CHARACTERS].rstrip()


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document with its prediction.

    Attributes:
        prediction: what the model says.
        true: the name of its label; None where it is not known.
        right: whether the prediction is; None where the label is not known.
        together: the probability of all decisions together; None where a document has one label.
        chunks: in their order.
        unread: the beginning of what no chunk holds.
        unread_characters: how long all of that is.
        shortened: whether chunks that did not decide are shown by their beginning only.
    """

    prediction: Prediction
    true: str | None
    right: bool | None
    together: float | None
    chunks: list[ShownChunk]
    unread: str
    unread_characters: int
    shortened: bool

    @property
    def one_decides(self) -> bool:
        """Whether the prediction rests on a single chunk, at least in part."""
        return any(abs(chunk.drop or 0.0) >= SMALLEST_FULL_DROP for chunk in self.chunks)

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """The five most probable labels."""
        ordered = sorted(self.prediction.probabilities.items(), key=lambda item: -item[1])
        return ordered[:5]


def shown_documents(run: LoadedRun, documents: Sequence[Document]) -> list[ShownDocument]:
    """Predict and explain ``documents``; a document's ``label`` is the true one, None where it is not known.

    Raises:
        DataError: a document has no tokens.
        NonFiniteError: a logit is NaN or infinite.
    """
    predictions = predict_documents(run, documents, explain=True)
    return [
        _shown(document, prediction, multi_label=run.multi_label)
        for document, prediction in zip(documents, predictions, strict=True)
    ]


def choose_documents(
    run: LoadedRun, documents: Documents, logits: FloatArray, *, count: int
) -> list[Document]:
    """Return documents worth looking at: half of them mistakes, the surest first, then right ones at random,
    one of each label in turn. The choice depends on the run's seed and the documents only.

    Args:
        run: whose predictions they are.
        documents: labelled, with their text.
        logits: (documents, L).
        count: how many, at most.
    """
    labels = run.batches(documents).labels
    assert labels is not None and isinstance(documents, Store | TextDocuments)
    predictions = predicted_labels(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    right = right_documents(labels, predictions)
    confidence = confidences(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    wrong = np.flatnonzero(~right)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")]
    generator = np.random.default_rng(derive_seed(run.seed, "report"))
    fitting = _in_turn(generator.permutation(np.flatnonzero(right)), labels)
    few_right = max(count // 2, count - len(fitting))
    chosen = [*mistakes[:few_right], *fitting[: count - min(few_right, len(mistakes))]]
    return [
        Document(
            text=documents.text(int(index)),
            label=tuple(_names(labels[index], run.label_names)),
            id=document_id(documents, int(index)),
            group=None,
            source=f"{documents.path}: document {index}",
        )
        for index in chosen
    ]


def _in_turn(indices: IntArray, labels: IntArray) -> list[int]:
    """Return ``indices`` so that equal labels stand as far apart as can be, otherwise in their order."""
    seen: dict[bytes, int] = {}
    rounds = []
    for index in indices:
        key = labels[index].tobytes()
        rounds.append(seen.get(key, 0))
        seen[key] = rounds[-1] + 1
    return [int(indices[place]) for place in np.argsort(rounds, kind="stable")]


def _names(label: IntArray, label_names: Sequence[str]) -> list[str]:
    if np.ndim(label) == 0:
        return [label_names[int(label)]]
    return [label_names[int(place)] for place in np.flatnonzero(label)]


def _shown(document: Document, prediction: Prediction, *, multi_label: bool) -> ShownDocument:
    passages = prediction.passages
    assert passages is not None
    decisive = {passage.chunk for passage in decisive_passages(passages)}
    read_to = max(passage.end for passage in passages)
    true = None if document.label is None else SEPARATOR.join(document.label)
    together = _probability_of_all(prediction) if multi_label else None
    probability = prediction.confidence if together is None else together
    return ShownDocument(
        prediction=prediction,
        true=true,
        right=None if true is None else true == prediction.label,
        together=together,
        chunks=_chunks(document.text, passages, decisive, probability),
        unread=document.text[read_to : read_to + PREVIEW_CHARACTERS],
        unread_characters=len(document.text) - read_to if prediction.truncated else 0,
        shortened=read_to > WHOLE_CHARACTERS,
    )


def _probability_of_all(prediction: Prediction) -> float:
    """Return the probability of all decisions together, of which ``occlusion_drop`` tells the fall; the
    confidence is that of the least certain one.
    """
    given = prediction.label.split(SEPARATOR)
    return math.prod(p if name in given else 1.0 - p for name, p in prediction.probabilities.items())


def _chunks(
    text: str, passages: Sequence[Passage], decisive: set[int], probability: float
) -> list[ShownChunk]:
    # equal weights are shaded alike, in the middle, and not as if each were the largest
    most = max(max(passage.attention_weight for passage in passages), 2 / len(passages))
    drops = [passage.occlusion_drop or 0.0 for passage in passages]
    largest = max(SMALLEST_FULL_DROP, *map(abs, drops))
    shown = []
    for place, (passage, drop) in enumerate(zip(passages, drops, strict=True)):
        following = passages[place + 1].start if place + 1 < len(passages) else passage.end
        known = passage.occlusion_drop is not None
        shown.append(
            ShownChunk(
                number=passage.chunk + 1,
                attention=passage.attention_weight,
                attention_level=round(ATTENTION_LEVELS * passage.attention_weight / most),
                drop=passage.occlusion_drop,
                drop_level=round(OCCLUSION_LEVELS * drop / largest),
                probability_without=float(min(1.0, probability * np.exp(-drop))) if known else None,
                decisive=passage.chunk in decisive,
                text=text[passage.start : following],
                overlap=following < passage.end,
            )
        )
    return shown
