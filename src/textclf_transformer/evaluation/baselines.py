"""What a model has to beat: the majority class, and TF-IDF with a linear SVM."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from textclf_transformer.data.words import UNSPACED
from textclf_transformer.evaluation.metrics import IntArray, label_metrics

_WORDS = TfidfVectorizer().build_analyzer()


@dataclass(frozen=True)
class LabelledTexts:
    """The documents of one split as text.

    Attributes:
        texts: one string for each document.
        labels: (documents,) of 0 … L − 1, or 0/1 of (documents, L).
    """

    texts: Sequence[str]
    labels: IntArray

    def __add__(self, other: LabelledTexts) -> LabelledTexts:
        return LabelledTexts(
            texts=[*self.texts, *other.texts], labels=np.concatenate((self.labels, other.labels))
        )


def baseline_metrics(
    train: LabelledTexts, val: LabelledTexts | None, test: LabelledTexts, *, num_labels: int
) -> dict[str, dict[str, float]]:
    """Return the metrics on ``test`` of each baseline, see ``label_metrics``.

    Returns:
        ``majority``, ``tfidf_svm_train`` and, where there is a ``val``, ``tfidf_svm_train_val``; each a dict
        of metrics. The last is the fairer rival of a model that was chosen by its score on val, for it has
        read as much.
    """
    predictions = {
        "majority": majority_predictions(train.labels, count=len(test.texts)),
        "tfidf_svm_train": tfidf_svm_predictions(train, test.texts),
    }
    if val is not None:
        predictions["tfidf_svm_train_val"] = tfidf_svm_predictions(train + val, test.texts)
    return {
        name: label_metrics(test.labels, predicted, num_labels=num_labels)
        for name, predicted in predictions.items()
    }


def majority_predictions(train_labels: IntArray, *, count: int) -> IntArray:
    """Return the most frequent label of training ``count`` times; of equally frequent ones the first.

    Where documents carry several labels, those that more than half of the training documents carry.
    """
    if train_labels.ndim == 2:
        return np.tile((train_labels.mean(axis=0) > 0.5).astype(np.int64), (count, 1))
    return np.full(count, np.bincount(train_labels).argmax(), dtype=np.int64)


def tfidf_svm_predictions(train: LabelledTexts, texts: Sequence[str]) -> IntArray:
    """Return labels of ``texts`` from a linear SVM over TF-IDF of single words, fitted on ``train``.

    Term frequencies are damped (1 + ln tf), which suits long documents; all else is scikit-learn's default.
    Scripts that have no spaces between words are read in pairs of characters, see ``terms_of``.
    Where training has no word or only one label there is nothing to fit, and the majority is predicted.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=terms_of)
    has_words = any(map(terms_of, train.texts))
    if not has_words or len(np.unique(train.labels, axis=0)) == 1:
        return majority_predictions(train.labels, count=len(texts))
    # a fixed seed, whatever the run's: the baseline is one number
    svm = LinearSVC(random_state=0)
    classifier = OneVsRestClassifier(svm) if train.labels.ndim == 2 else svm
    pipeline = make_pipeline(vectorizer, classifier)
    with warnings.catch_warnings():
        # a label that all training documents carry, or none, is predicted so for all; that is as it should be
        warnings.filterwarnings("ignore", message=r"Label .* is present in all training examples")
        pipeline.fit(train.texts, train.labels)
    predictions: IntArray = pipeline.predict(texts)
    return predictions


def terms_of(text: str) -> list[str]:
    """Return the terms of a text: scikit-learn's words, and of a script without spaces between words each two
    neighbouring characters, which tell nearly as much as words do (for Chinese Nie et al., IRAL
    2000).
    """
    if text.isascii():
        return _WORDS(text)
    pairs = [
        stretch[place : place + 2]
        for stretch in UNSPACED.findall(text)
        for place in range(max(len(stretch) - 1, 1))
    ]
    return pairs + _WORDS(UNSPACED.sub(" ", text))
