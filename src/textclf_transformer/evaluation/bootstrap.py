"""How far a score could have come out otherwise: percentile bootstrap over documents (Efron 1979).

The scores of many resamples are computed at once from weighted counts; a test compares them with
scikit-learn's on the resampled documents themselves.

N documents, L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.errors import counted
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import Float64Array
from textclf_transformer.evaluation.scores import KAPPA, one_hot
from textclf_transformer.utils import derive_seed

RESAMPLES = 1_000
_RESAMPLES_AT_ONCE = 50
_CELLS_AT_ONCE = 4_000_000  # resamples × documents; 50 resamples of a million documents took 1.1 GiB


def bootstrap_intervals(
    labels: IntArray, predictions: IntArray, *, num_labels: int, ordered: bool, seed: int
) -> dict[str, tuple[float, float]]:
    """Return score name → the 2.5 % and 97.5 % points over ``RESAMPLES`` resamples of the documents.

    A score that no resample has (0/0 in each) is left out.

    Args:
        labels: (N,) of 0 … L − 1, or 0/1 of (N, L).
        predictions: of the shape of ``labels``.
        num_labels: L.
        ordered: whether labels are steps of a scale, which adds the kappa.
        seed: decides the resamples, which are the same for all models judged on the same documents.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed("bootstrap", seed)))
    true, predicted = (one_hot(values, num_labels=num_labels) for values in (labels, predictions))
    several = labels.ndim == 2
    parts = []
    for weights in resamples(len(labels), generator):
        part = weighted_scores(weights, true, predicted, several=several)
        if ordered:
            part[KAPPA] = weighted_kappa(weights, true, predicted)
        parts.append(part)
    intervals = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        if not np.isnan(values).all():
            low, high = np.nanpercentile(values, [2.5, 97.5])
            intervals[name] = (float(low), float(high))
    return intervals


def without_width(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each interval without width in a result of ``evaluate_run``: that it is no certainty.

    Where all documents are right, or all wrong, so are those of each resample. What is plausible all the same
    is the exact bound of Clopper and Pearson (1934), one-sided: if more were of the other kind, none of N
    documents would be so in less than one case of twenty.
    """
    documents = result["documents"]
    plausible = f"{100 * (1 - 0.05 ** (1 / documents)):.3g} %"
    accuracies = {row["accuracy"] for row in result["scores"]}
    return [
        f"an accuracy of {accuracy} % on {counted(documents, 'document')} has an interval without width; "
        f"up to {plausible} {otherwise} would still be plausible (exact binomial, 95 %)"
        for accuracy, otherwise in ((100, "wrong"), (0, "right"))
        if accuracy / 100 in accuracies
    ]


def resamples(num_documents: int, generator: np.random.Generator) -> Iterator[Float64Array]:
    """Yield the weights of ``RESAMPLES`` resamples, see ``resample_weights``, a few at a time."""
    at_once = max(1, min(_RESAMPLES_AT_ONCE, _CELLS_AT_ONCE // num_documents))
    for start in range(0, RESAMPLES, at_once):
        yield resample_weights(num_documents, min(at_once, RESAMPLES - start), generator)


def resample_weights(num_documents: int, count: int, generator: np.random.Generator) -> Float64Array:
    """Return (count, N): how often each document stands in each resample of N documents."""
    drawn = generator.integers(num_documents, size=(count, num_documents))
    return np.stack([np.bincount(row, minlength=num_documents) for row in drawn]).astype(np.float64)


def weighted_scores(
    weights: Float64Array, true: NDArray[np.bool_], predicted: NDArray[np.bool_], *, several: bool
) -> dict[str, Float64Array]:
    """Return the scores of ``scores.SCORE_NAMES``, each (R,), of documents that count ``weights`` times.

    Where no label is there or predicted the three F1 are NaN.

    Args:
        weights: (R, N).
        true: (N, L), the labels that each document carries.
        predicted: (N, L).
        several: whether documents carry any number of labels.
    """
    hits = weights @ (true & predicted)  # (R, L), true positives of each label; the next two alike
    support, chosen = weights @ true, weights @ predicted
    with np.errstate(invalid="ignore", divide="ignore"):
        by_label = 2 * hits / (support + chosen)  # NaN where a label is neither there nor predicted
        f1_micro = 2 * hits.sum(axis=1) / (support + chosen).sum(axis=1)
        with_f1 = ~np.isnan(by_label)
        f1_macro = np.where(with_f1, by_label, 0.0).sum(axis=1) / with_f1.sum(axis=1)
        f1_weighted = np.nansum(by_label * support, axis=1) / support.sum(axis=1)
    # where no document carries a label scikit-learn has no weights, and says 0 if one is predicted
    f1_weighted = np.where(with_f1.any(axis=1) & ~support.any(axis=1), 0.0, f1_weighted)
    totals = weights.sum(axis=1)
    if several:
        mcc = _binary_mcc(hits.sum(axis=1), support.sum(axis=1), chosen.sum(axis=1), totals * true.shape[1])
    else:
        mcc = _multiclass_mcc(hits.sum(axis=1), support, chosen, totals)
    exact = (true == predicted).all(axis=1)
    return {
        "accuracy": weights @ exact / totals,
        "f1_macro": f1_macro,
        "f1_micro": f1_micro,
        "f1_weighted": f1_weighted,
        "mcc": mcc,
    }


def weighted_kappa(
    weights: Float64Array, true: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> Float64Array:
    """Return the quadratic kappa (R,) of documents with one of L ordered labels; arguments as above.

    It is 1 minus the mean squared distance of label and prediction, divided by that of labels and predictions
    dealt out anew by chance; NaN where that is 0.
    """
    places = np.arange(true.shape[1])
    distance = (places[:, None] - places) ** 2
    observed = weights @ (true.argmax(axis=1) - predicted.argmax(axis=1)) ** 2
    by_chance = ((weights @ true @ distance) * (weights @ predicted)).sum(axis=1) / weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - observed / by_chance


def _multiclass_mcc(
    hits: Float64Array, support: Float64Array, chosen: Float64Array, totals: Float64Array
) -> Float64Array:
    """Return (R,): Gorodkin 2004; 0 where all labels or all predictions are one, as scikit-learn has it."""
    covariance = hits * totals - (support * chosen).sum(axis=1)
    spread = (totals**2 - (support**2).sum(axis=1)) * (totals**2 - (chosen**2).sum(axis=1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def _binary_mcc(
    hits: Float64Array, support: Float64Array, chosen: Float64Array, totals: Float64Array
) -> Float64Array:
    """Return (R,): that of yes-or-no decisions, from the counts of yes."""
    misses = totals - support - chosen + hits  # true negatives
    return _multiclass_mcc(
        hits + misses,
        np.stack([support, totals - support], axis=1),
        np.stack([chosen, totals - chosen], axis=1),
        totals,
    )
