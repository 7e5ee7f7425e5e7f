"""Is one model better than another, or were the documents kind to it: the paired bootstrap (Koehn 2004).

Both are judged on the same resamples of the same documents, so that what makes a document hard for all
models cancels out. N documents, L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textclf_transformer.data.documents import align_labels
from textclf_transformer.data.text_documents import document_id
from textclf_transformer.evaluation.bootstrap import resamples, weighted_scores
from textclf_transformer.evaluation.loaded_run import LoadedRun
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import Float64Array, predicted_labels
from textclf_transformer.evaluation.run_data import open_run_split
from textclf_transformer.evaluation.scores import one_hot
from textclf_transformer.utils import derive_seed

SCORES = ("accuracy", "f1_macro")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run said of a split's documents.

    Attributes:
        split: val or test.
        ids: of the documents.
        label_names: L names, sorted, so that runs with another order agree.
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L), in that order.
        predictions: of the same shape.
    """

    split: str
    ids: tuple[str, ...]
    label_names: tuple[str, ...]
    labels: IntArray
    predictions: IntArray

    def same_documents(self, other: Judged) -> bool:
        """Whether both runs were judged on the same documents: equal ids, labels and names of labels."""
        return (
            self.ids == other.ids
            and self.label_names == other.label_names
            and np.array_equal(self.labels, other.labels)
        )


def judge(run: LoadedRun) -> Judged:
    """Classify the run's own test documents, or val where it has no test.

    Raises:
        UserError: the documents are not there any more, or are faulty.
    """
    documents = open_run_split(run, None)
    labels = align_labels(documents, run.label_names)
    assert labels is not None, "see run_data.check_labels"
    logits = run.logits(run.batches(documents))
    predictions = predicted_labels(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    order = np.argsort(run.label_names)
    if run.multi_label:
        labels, predictions = labels[:, order], predictions[:, order]
    else:
        place = np.argsort(order)
        labels, predictions = place[labels], place[predictions]
    return Judged(
        split="test" if "test" in run.data_paths else "val",
        ids=tuple(document_id(documents, index) for index in range(len(documents))),
        label_names=tuple(run.label_names[int(index)] for index in order),
        labels=labels,
        predictions=predictions,
    )


def paired_differences(
    first: Sequence[IntArray], second: Sequence[IntArray], labels: IntArray, *, num_labels: int
) -> dict[str, dict[str, float]]:
    """Return, for each of ``SCORES``, the difference of second and first, see ``comparison.Pairing``.

    Args:
        first: the predictions of each seed, shaped as ``labels``; their scores are averaged.
        second: those of the other setting.
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        num_labels: L.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed("paired bootstrap", 0)))
    everything = _differences(np.ones((1, len(labels))), first, second, labels, num_labels=num_labels)
    parts = [
        _differences(weights, first, second, labels, num_labels=num_labels)
        for weights in resamples(len(labels), generator)
    ]
    result = {}
    for name in SCORES:
        values = np.concatenate([part[name] for part in parts])
        low, high = np.percentile(values, [2.5, 97.5])
        result[name] = {
            "difference": float(everything[name][0]),
            "low": float(low),
            "high": float(high),
            "better": float((values > 0).mean()),
        }
    return result


def _differences(
    weights: Float64Array,
    first: Sequence[IntArray],
    second: Sequence[IntArray],
    labels: IntArray,
    *,
    num_labels: int,
) -> Mapping[str, Float64Array]:
    """Return score → (R,) differences of the means over seeds on the resamples ``weights`` (R, N)."""
    true = one_hot(labels, num_labels=num_labels)

    def mean(predictions: Sequence[IntArray]) -> dict[str, Float64Array]:
        scores = [
            weighted_scores(weights, true, one_hot(one, num_labels=num_labels), several=labels.ndim == 2)
            for one in predictions
        ]
        # a resample in which no label is there or predicted has no F1, and tells nothing of the models apart
        return {name: np.mean([np.nan_to_num(score[name]) for score in scores], axis=0) for name in SCORES}

    one, two = mean(first), mean(second)
    return {name: two[name] - one[name] for name in SCORES}
