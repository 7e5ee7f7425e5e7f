"""Everything that ``textclf evaluate`` says about a run on a set of labelled documents, as plain Python."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from textclf_transformer.data.chunking import tokens_read
from textclf_transformer.data.documents import Documents, Int64Array, digests, has_preset_chunks, overlap
from textclf_transformer.data.text_documents import has_text
from textclf_transformer.errors import counted, stand_in
from textclf_transformer.evaluation.bootstrap import bootstrap_intervals
from textclf_transformer.evaluation.breakdowns import (
    COVERAGES,
    CURVE,
    coverage_risk,
    right_documents,
    scores_by_length,
    worst_mistakes,
)
from textclf_transformer.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from textclf_transformer.evaluation.evidence import add_evidence
from textclf_transformer.evaluation.loaded_run import FloatArray, LoadedRun
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import (
    Float64Array,
    confidences,
    predicted_labels,
    probabilities,
)
from textclf_transformer.evaluation.rivals import fitted_baselines, partial_readings
from textclf_transformer.evaluation.run_data import try_own_split
from textclf_transformer.evaluation.scores import auc_by_label, class_table, confusion, label_scores
from textclf_transformer.training.losses import label_loss

THIS_MODEL = "this model"


def evaluate_run(
    run: LoadedRun,
    documents: Documents,
    *,
    logits: FloatArray | None = None,
    with_rivals: bool = True,
) -> dict[str, Any]:
    """Judge a run on labelled documents.

    Args:
        run: what classifies.
        documents: labelled, made with the run's tokenizer.
        logits: what ``run.logits`` gives for them, (documents, L), where it is known already.
        with_rivals: whether the table has baselines and partial readings beside the model.

    Returns:
        Plain Python without NaN, ready for JSON: ``run, checkpoint, step, data, documents, labels,
        multi_label, thresholds, ordered, numerics, loss, auc_macro, coverage, scores`` (a row for the model
        and for each rival: name, scores and their 95 % intervals), ``classes, confusion, calibration,
        by_length, coverage_risk, coverage_curve, worst_mistakes`` and ``notes``: what could not be computed,
        and why.

    Raises:
        DataError: a label is unknown to the model, or a given chunk is too long.
        NonFiniteError: a logit is NaN or infinite.
    """
    batches = run.batches(documents)
    assert batches.labels is not None, "see run_data.check_labels"
    labels, num_labels = batches.labels, len(run.label_names)
    logits = run.logits(batches) if logits is None else logits
    predictions = predicted_labels(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    confidence = confidences(logits, multi_label=run.multi_label, thresholds=run.thresholds)
    areas = auc_by_label(labels, probabilities(logits, multi_label=run.multi_label))
    notes: list[str] = []
    val, reason = try_own_split(run, "val")
    is_val = val is not None and _are_among(documents, val)
    rivals = _rivals(run, documents, None if is_val else val, notes) if with_rivals else {}
    if val is None:
        notes.append(f"no temperature: {reason}")
    lengths, read = _tokens_and_read(run, documents)
    right = right_documents(labels, predictions)
    result = {
        "run": str(run.run.root),
        "checkpoint": run.checkpoint.name,
        "step": run.step,
        "data": documents.path,
        "documents": len(documents),
        "labels": list(run.label_names),
        "multi_label": run.multi_label,
        "thresholds": None if run.thresholds is None else list(run.thresholds),
        "ordered": run.ordered,
        "numerics": run.numerics,
        "loss": float(label_loss(torch.from_numpy(logits), torch.from_numpy(labels))) / len(labels),
        "auc_macro": _mean([area for area in areas if area is not None]),
        "coverage": asdict(batches.coverage) | {"tokens_dropped": batches.coverage.tokens_dropped},
        "scores": [
            _score_row(name, labels, predicted, num_labels=num_labels, ordered=run.ordered, seed=run.seed)
            for name, predicted in {THIS_MODEL: predictions, **rivals}.items()
        ],
        "classes": class_table(labels, predictions, areas, run.label_names),
        "confusion": confusion(labels, predictions, num_labels=num_labels),
        "calibration": _calibration(run, val, logits, labels, notes, on_val=is_val),
        "by_length": scores_by_length(labels, predictions, lengths, read, num_labels=num_labels),
        "coverage_risk": coverage_risk(right, confidence, COVERAGES),
        "coverage_curve": coverage_risk(right, confidence, CURVE),
        "worst_mistakes": _worst_mistakes(run, documents, labels, predictions, confidence, notes),
        "notes": notes,
    }
    # counts are no NaN, and the confusion of 5,000 labels has 25 million
    return {key: value if key == "confusion" else _without_nan(value) for key, value in result.items()}


def _rivals(
    run: LoadedRun, documents: Documents, val: Documents | None, notes: list[str]
) -> dict[str, IntArray]:
    rivals: dict[str, IntArray] = dict(partial_readings(run, documents))
    train, reason = try_own_split(run, "train")
    if train is None:
        notes.append(f"no majority and no TF-IDF + linear SVM: {reason}")
        return rivals
    if shared := overlap(digests(documents), digests(train)):
        stand = stand_in(shared, "the run's training data")
        notes.append(f"{shared} of the {counted(len(documents), 'document')} {stand}")
    if not (has_text(train) and has_text(documents)):
        notes.append("no TF-IDF + linear SVM: the data keep no text (made with --no-text, or a .pt file)")
    return {**fitted_baselines(run, train, val, documents), **rivals}


def _are_among(documents: Documents, others: Documents) -> bool:
    """Whether most of ``documents`` are among ``others``: the same data, whatever file or store they lie in.

    A few that two splits happen to share are no reason to do without the other split.
    """
    return 2 * overlap(digests(documents), digests(others)) > len(documents)


def _score_row(
    name: str, labels: IntArray, predictions: IntArray, *, num_labels: int, ordered: bool, seed: int
) -> dict[str, Any]:
    intervals = bootstrap_intervals(labels, predictions, num_labels=num_labels, ordered=ordered, seed=seed)
    scores = label_scores(labels, predictions, num_labels=num_labels, ordered=ordered)
    return {
        "name": name,
        **scores,
        "intervals_95": {score: list(intervals.get(score, (None, None))) for score in scores},
    }


def _worst_mistakes(
    run: LoadedRun,
    documents: Documents,
    labels: IntArray,
    predictions: IntArray,
    confidence: Float64Array,
    notes: list[str],
) -> list[dict[str, Any]]:
    rows = worst_mistakes(documents, labels, predictions, confidence, label_names=run.label_names)
    if has_text(documents):
        add_evidence(run, documents, rows)
    elif rows:
        notes.append("no passages beside the worst mistakes: the data keep no text")
    return rows


def _calibration(
    run: LoadedRun,
    val: Documents | None,
    logits: FloatArray,
    labels: IntArray,
    notes: list[str],
    *,
    on_val: bool,
) -> dict[str, Any]:
    """Compare confidence with truth; ``on_val`` tells that ``logits`` and ``labels`` are of documents of
    ``val``, all of them or some.
    """
    bins = reliability(logits, labels)
    result: dict[str, Any] = {
        "expected_calibration_error": expected_calibration_error(bins),
        "reliability": [asdict(entry) for entry in bins],
        "temperature": None,
        "temperature_fitted_on": 0 if val is None else len(labels if on_val else val),
        "expected_calibration_error_after": None,
    }
    if val is None:
        return result
    if on_val:
        result["temperature"] = fit_temperature(logits, labels)
        notes.append("the temperature is fitted on these very documents, so its effect is not judged on them")
        return result
    val_batches = run.batches(val)
    assert val_batches.labels is not None, "see run_data.check_labels"
    temperature = fit_temperature(run.logits(val_batches), val_batches.labels)
    result["temperature"] = temperature
    after = reliability(logits.astype(np.float64) / temperature, labels)
    result["expected_calibration_error_after"] = expected_calibration_error(after)
    return result


def _tokens_and_read(run: LoadedRun, documents: Documents) -> tuple[Int64Array, Int64Array]:
    """Return the tokens of each document and how many of them are read; given chunks count [CLS], [SEP]."""
    if has_preset_chunks(documents):
        given = documents.chunk_lengths
        return given.sum(axis=1), given[:, : run.max_chunks].sum(axis=1)
    chunking = {"chunk_size": run.chunk_size, "stride": run.stride, "max_chunks": run.max_chunks}
    return documents.lengths, tokens_read(documents.lengths, **chunking)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _without_nan(value: Any) -> Any:
    """Return ``value`` with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
