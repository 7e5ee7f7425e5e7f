"""Which passages decided: attention over chunks, and occlusion, side by side.

The two answer different questions. *Attention* is how much of a chunk's vector the model took into the
document's vector. *Occlusion* is what the prediction loses without the chunk (Zeiler & Fergus 2014, section
4.2): the fall of the log-probability of the predicted label when the chunk is left out and the others stay.
A chunk may be attended to without mattering ("Attention is not Explanation", Jain & Wallace 2019), so that
occlusion is the one to trust where they differ.

C chunks of a document, M chunks of a batch, D hidden size, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.chunking import chunk_spans
from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.evaluation.inference import chunk_vectors, evaluation_mode
from textclf_transformer.evaluation.loaded_run import LoadedRun, check_finite
from textclf_transformer.evaluation.probabilities import log_probabilities, predicted_labels
from textclf_transformer.utils import send

PASSAGES_BY_EACH_MEASURE = 3

# Chunk vectors that variants of one document take at once.
_VECTORS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class ChunkScores:
    """How much each chunk of one document counted.

    Attributes:
        attention_weights: float64 (C,), summing to 1.
        occlusion_drops: float64 (C,), in nats: log-probability of the predicted label with all chunks minus
            that without this one; above 0 the chunk speaks for the prediction. None for a document of one
            chunk, of which nothing would be left.
    """

    attention_weights: NDArray[np.float64]
    occlusion_drops: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk as a passage of the document's text.

    Attributes:
        chunk: its number, from 0.
        start: its first character in the original text.
        end: one past its last character.
        attention_weight: see ``ChunkScores``.
        occlusion_drop: see ``ChunkScores``.
        text: ``original[start:end]``.
    """

    chunk: int
    start: int
    end: int
    attention_weight: float
    occlusion_drop: float | None
    text: str


def explain_documents(
    run: LoadedRun, batches: DocumentBatches
) -> tuple[NDArray[np.float32], list[ChunkScores]]:
    """Return the logits, to the bit those of ``LoadedRun.logits``, and the scores of each document's chunks.

    Raises:
        NonFiniteError: a logit is NaN or infinite; its document is named.
    """
    logits = np.full((batches.num_samples, len(run.label_names)), np.nan, dtype=np.float32)
    scores: dict[int, ChunkScores] = {}
    with evaluation_mode(run.model), closing(prefetch(batches.evaluation())) as upcoming:
        for batch in upcoming:
            vectors = chunk_vectors(run.model, batch, device=run.device, amp_dtype=run.amp_dtype)
            output = run.model.classify_vectors(vectors, batch.chunk_counts)
            samples = batch.sample_indices.tolist()
            logits[samples] = output["logits"].float().cpu().numpy()
            weights = output["attention_weights"].double().cpu().numpy()
            parts = vectors.split(batch.chunk_counts.tolist())
            for row, (sample, part) in enumerate(zip(samples, parts, strict=True)):
                drops = _occlusion_drops(run, part, logits[sample : sample + 1])
                scores[sample] = ChunkScores(weights[row, : len(part)], drops)
    check_finite(logits)
    return logits, [scores[sample] for sample in range(batches.num_samples)]


def _occlusion_drops(
    run: LoadedRun, vectors: Tensor, logits: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Return the drops of the chunks with ``vectors`` (C, D) of a document with ``logits`` (1, L)."""
    count = len(vectors)
    if count == 1:
        return None
    places = torch.arange(count - 1, device="cpu")
    without = []
    for left_out in torch.arange(count, device="cpu").split(max(1, _VECTORS_AT_ONCE // (count - 1))):
        variants = places + (places >= left_out.unsqueeze(1))  # (variants, C − 1), all places but one
        counts = torch.full((len(variants),), count - 1, device="cpu")
        output = run.model.classify_vectors(vectors[send(variants.flatten(), vectors.device)], counts)
        without.append(output["logits"].float().cpu().numpy())
    decided = predicted_labels(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    full = _log_probability_of(decided, logits, multi_label=run.multi_label)
    return full - _log_probability_of(decided, np.concatenate(without), multi_label=run.multi_label)


def _log_probability_of(
    decided: NDArray[np.int64], logits: NDArray[np.float32], *, multi_label: bool
) -> NDArray[np.float64]:
    """Return (rows,): the log-probability of one decision, label (1,) or 0/1 of (1, L), for each row."""
    if multi_label:
        signed = np.where(decided == 1, logits, -logits)
        return log_probabilities(signed, multi_label=True).sum(axis=1)
    return log_probabilities(logits, multi_label=False)[:, int(decided[0])]


def all_passages(run: LoadedRun, documents: TextDocuments, index: int, scores: ChunkScores) -> list[Passage]:
    """Return the chunks of one document as passages of its text, in their order."""
    spans = chunk_spans(
        int(documents.lengths[index]),
        chunk_size=run.chunk_size,
        stride=run.stride,
        max_chunks=run.max_chunks,
    )
    offsets, text = documents.offsets(index), documents.text(index)
    drops = scores.occlusion_drops
    passages = []
    for chunk, (first, stop) in enumerate(spans):
        start, end = int(offsets[first, 0]), int(offsets[stop - 1, 1])
        passages.append(
            Passage(
                chunk=chunk,
                start=start,
                end=end,
                attention_weight=float(scores.attention_weights[chunk]),
                occlusion_drop=None if drops is None else float(drops[chunk]),
                text=text[start:end],
            )
        )
    return passages


def decisive_passages(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages of one document that decided: the first ``PASSAGES_BY_EACH_MEASURE`` by each
    measure, in the order of their occlusion drop (of their attention weight, where there is one chunk).
    """
    by_attention = sorted(passages, key=lambda passage: -passage.attention_weight)
    by_drop = sorted(passages, key=lambda passage: -(passage.occlusion_drop or 0.0))
    chosen = {
        passage.chunk for ordered in (by_attention, by_drop) for passage in ordered[:PASSAGES_BY_EACH_MEASURE]
    }
    return [passage for passage in by_drop if passage.chunk in chosen]
