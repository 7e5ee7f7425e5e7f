"""What the model is compared with in the same table: fitted baselines, and itself reading only part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.chunk_selection import FirstAndLastChunks
from textclf_transformer.data.documents import Documents, align_labels
from textclf_transformer.data.text_documents import document_texts, has_text
from textclf_transformer.evaluation.baselines import (
    LabelledTexts,
    majority_predictions,
    tfidf_svm_predictions,
)
from textclf_transformer.evaluation.loaded_run import LoadedRun
from textclf_transformer.evaluation.metrics import IntArray
from textclf_transformer.evaluation.probabilities import predicted_labels

MAJORITY = "majority"
SVM_TRAIN = "TF-IDF + linear SVM"
SVM_TRAIN_VAL = "TF-IDF + linear SVM, train + val"
FIRST_CHUNK = "this model, first chunk only"
FIRST_AND_LAST = "this model, first + last chunk"


def partial_readings(run: LoadedRun, documents: Documents) -> dict[str, NDArray[np.int64]]:
    """Return what the trained model predicts when it reads the first chunk, or the first and the last."""
    ends = FirstAndLastChunks(
        documents,
        cls_token_id=run.tokenizer.cls_token_id,
        sep_token_id=run.tokenizer.sep_token_id,
        chunk_size=run.chunk_size,
        stride=run.stride,
    )
    batches = {FIRST_CHUNK: run.batches(documents, max_chunks=1)}
    if run.max_chunks > 1:
        batches[FIRST_AND_LAST] = run.batches(ends)
    return {
        name: predicted_labels(run.logits(part), multi_label=run.multi_label, thresholds=run.thresholds)
        for name, part in batches.items()
    }


def fitted_baselines(
    run: LoadedRun, train: Documents, val: Documents | None, documents: Documents
) -> dict[str, IntArray]:
    """Return what baselines fitted on the run's own training documents predict for ``documents``.

    The majority needs labels only. TF-IDF + linear SVM is there where all documents keep their text, and once
    more on train and val together, which is the fairer rival of a model whose checkpoint val has chosen.

    Args:
        run: whose label order counts.
        train: the run's training documents.
        val: its validation documents, unless they are the ones to judge.
        documents: the ones to judge.
    """
    train_labels = _labels(run, train)
    predictions = {MAJORITY: majority_predictions(train_labels, count=len(documents))}
    if has_text(train) and has_text(documents):
        texts = document_texts(documents)
        fitted = LabelledTexts(document_texts(train), train_labels)
        predictions[SVM_TRAIN] = tfidf_svm_predictions(fitted, texts)
        if val is not None and has_text(val):
            more = LabelledTexts(document_texts(val), _labels(run, val))
            predictions[SVM_TRAIN_VAL] = tfidf_svm_predictions(fitted + more, texts)
    return predictions


def _labels(run: LoadedRun, documents: Documents) -> IntArray:
    labels = align_labels(documents, run.label_names)
    assert labels is not None
    return labels
