from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.svm import LinearSVC

from textclf_transformer.evaluation import rivals
from textclf_transformer.evaluation.baselines import (
    LabelledTexts,
    baseline_metrics,
    majority_predictions,
    terms_of,
    tfidf_svm_predictions,
)

WORDS = (
    ("court", "judge", "law", "appeal", "statute"),
    ("goal", "match", "team", "league", "coach"),
    ("gene", "cell", "protein", "enzyme", "tissue"),
)
COMMON = ("the", "of", "and", "said", "new", "year", "people", "time")


def texts_about(seed: int, count: int) -> LabelledTexts:
    """Documents of common words and a few of their label's, or by mistake of another's."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=count, p=[0.5, 0.3, 0.2])
    texts = []
    for label in labels:
        topic = rng.integers(3) if rng.random() < 0.3 else label
        texts.append(" ".join([*rng.choice(COMMON, size=12), *rng.choice(WORDS[topic], size=2)]))
    return LabelledTexts(texts, labels)


TRAIN, VAL, TEST = texts_about(1, 60), texts_about(2, 40), texts_about(3, 80)


def scores(predictions) -> dict[str, float]:
    return {
        "accuracy": accuracy_score(TEST.labels, predictions),
        "f1_macro": f1_score(TEST.labels, predictions, average="macro"),
    }


def svm_by_hand(texts, labels):
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    svm = LinearSVC(random_state=0).fit(vectorizer.fit_transform(texts), labels)
    return svm.predict(vectorizer.transform(TEST.texts))


def test_baselines_equal_scikit_learn():
    result = baseline_metrics(TRAIN, VAL, TEST, num_labels=3)
    majority = DummyClassifier(strategy="most_frequent").fit(TRAIN.texts, TRAIN.labels).predict(TEST.texts)
    assert result["majority"] == scores(majority)
    assert result["tfidf_svm_train"] == scores(svm_by_hand(TRAIN.texts, TRAIN.labels))
    both = svm_by_hand([*TRAIN.texts, *VAL.texts], np.concatenate((TRAIN.labels, VAL.labels)))
    assert result["tfidf_svm_train_val"] == scores(both)
    assert result["tfidf_svm_train"] != result["tfidf_svm_train_val"]


@pytest.mark.parametrize(
    "text", [*TRAIN.texts[:3], "Größe, naïve — “Zitat” a I 42", "Слова 한국어 كلمات", ""]
)
def test_words_are_scikit_learns(text: str) -> None:
    assert terms_of(text) == TfidfVectorizer().build_analyzer()(text)


def test_scripts_without_spaces_are_read_in_pairs() -> None:
    assert terms_of("这个酒店很好。AI模型 好 OK") == [
        "这个",
        "个酒",
        "酒店",
        "店很",
        "很好",
        "模型",
        "好",
        "ai",
        "ok",
    ]
    rng = np.random.default_rng(4)
    letters = [chr(0x4E00 + place) for place in range(50)]
    labels = rng.integers(2, size=120)
    signs = [("好", "很"), ("很", "好")]  # the same characters: their order tells
    texts = ["".join([*rng.choice(letters, 20), *signs[label], *rng.choice(letters, 20)]) for label in labels]
    train, test = LabelledTexts(texts[:80], labels[:80]), LabelledTexts(texts[80:], labels[80:])
    assert baseline_metrics(train, None, test, num_labels=2)["tfidf_svm_train"]["accuracy"] > 0.9


def test_without_val_there_is_no_score_with_val():
    assert set(baseline_metrics(TRAIN, None, TEST, num_labels=3)) == {"majority", "tfidf_svm_train"}


def test_majority_of_several_labels_is_taken_for_each():
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert majority_predictions(labels, count=2).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_equally_frequent_labels_give_the_first():
    assert majority_predictions(np.array([2, 1, 1, 2]), count=3).tolist() == [1, 1, 1]


def test_several_labels_are_learned_one_by_one():
    several = np.stack([TRAIN.labels == 0, TRAIN.labels != 2], axis=1).astype(np.int64)
    predictions = tfidf_svm_predictions(LabelledTexts(TRAIN.texts, several), TEST.texts)
    for column in range(2):
        assert predictions[:, column].tolist() == svm_by_hand(TRAIN.texts, several[:, column]).tolist()


def test_a_label_of_all_training_documents_or_none_is_no_warning():
    several = np.stack([TRAIN.labels == 0, TRAIN.labels >= 0, TRAIN.labels < 0], axis=1).astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = tfidf_svm_predictions(LabelledTexts(TRAIN.texts, several), TEST.texts)
    assert predictions[:, 1].all() and not predictions[:, 2].any()


@pytest.mark.parametrize(
    "train",
    [
        LabelledTexts(["one text", "two texts"], np.array([1, 1])),
        LabelledTexts(["…", "!", "?"], np.array([0, 1, 1])),
    ],
)
def test_where_nothing_can_be_fitted_the_majority_is_predicted(train):
    assert tfidf_svm_predictions(train, ["new text", "?"]).tolist() == [1, 1]


@pytest.mark.parametrize("textless", ["train", "val", "documents"])
def test_what_needs_text_is_left_out_where_there_is_none(monkeypatch, textless):
    parts = {"train": TRAIN, "val": VAL, "documents": TEST}
    monkeypatch.setattr(rivals, "align_labels", lambda documents, names: documents.labels)
    monkeypatch.setattr(rivals, "has_text", lambda documents: documents is not parts[textless])
    monkeypatch.setattr(LabelledTexts, "__len__", lambda self: len(self.texts), raising=False)
    asked = []
    monkeypatch.setattr(
        rivals, "document_texts", lambda documents: asked.append(documents) or documents.texts
    )
    found = rivals.fitted_baselines(SimpleNamespace(label_names=list("abc")), **parts)
    expected = {rivals.MAJORITY, rivals.SVM_TRAIN} if textless == "val" else {rivals.MAJORITY}
    assert set(found) == expected and not any(documents is parts[textless] for documents in asked)
