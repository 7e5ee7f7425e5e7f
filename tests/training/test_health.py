"""What is said about a run: named once where it is planted, and nothing about a sound one."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from data.in_memory import InMemoryDocuments

from textclf_transformer.data.unigrams import unigram_entropy
from textclf_transformer.training.health import Health, mlm_verdict
from textclf_transformer.training.progress import Progress

NAMES = ("no", "yes")


def row(loss: float, step: int = 1, **more: Any) -> dict[str, Any]:
    return {"step": step, "split": "train", "epoch": 0.1, "loss": loss, "learning_rate": 1e-3, **more}


def said(health: Health, losses: list[float]) -> list[str]:
    return [text for loss in losses for text in health.training(row(loss))]


def noisy(losses: np.ndarray, *, seed: int, noise: float) -> list[float]:
    return (losses + np.random.default_rng(seed).normal(0, noise, len(losses))).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_a_falling_or_resting_loss_is_sound(seed: int) -> None:
    falling = 0.3 + 0.8 * np.exp(-np.arange(200) / 40)
    assert said(Health(), noisy(falling, seed=seed, noise=0.08)) == []
    plateau = np.concatenate([np.linspace(9.7, 6.2, 30), np.full(200, 6.2)])
    assert said(Health(), noisy(plateau, seed=seed, noise=0.05)) == []


def test_a_rising_loss_is_named_once_and_again_after_it_had_recovered() -> None:
    health = Health()
    losses = [1.1, 1.0, 0.9, 0.8, 0.8, 0.8, 0.8, 0.9, 1.2, 1.5, 1.8, 2.0, 2.0]
    (text,) = said(health, losses)
    assert "rises again" in text and "1.0e-03" in text and "training.learning_rate" in text
    assert said(health, [0.7] * 12) == []
    assert len(said(health, [2.0] * 6)) == 1


def test_a_loss_without_targets_says_nothing() -> None:
    assert said(Health(), [math.nan] * 20) == []


def test_drift() -> None:
    health = Health()
    said(health, [1.0, 0.9, 0.8])
    assert health.evaluation(row(0.9, step=30)) == []
    said(health, [0.5, 0.3, 0.2, 0.2, 0.1, 0.1])
    assert health.evaluation(row(0.95, step=60)) == []  # hardly worse
    (text,) = health.evaluation(row(1.3, step=90))
    assert "drift apart: since step 30" in text and "from 0.900 to 1.300" in text and "by heart" in text
    assert health.evaluation(row(1.4, step=120)) == []


@pytest.mark.parametrize(
    ("scores", "words"), [((0.7, 0.8), "yet f1_macro went from 0.700 to 0.800"), ((0.7, 0.7), "by heart")]
)
def test_drift_of_a_classifier_that_is_right_more_often_is_no_reason_to_stop(
    scores: tuple[float, float], words: str
) -> None:
    health = Health(label_names=NAMES)
    said(health, [1.0, 0.9, 0.8])
    assert health.evaluation(row(0.9, step=30, f1_macro=scores[0])) == []
    said(health, [0.5, 0.3, 0.2, 0.2, 0.1, 0.1])
    (text,) = health.evaluation(row(1.3, step=90, f1_macro=scores[1]))
    assert words in text and ("fewer training.epochs" in text) == (scores[0] == scores[1])


def test_both_losses_rising_is_no_drift() -> None:
    health = Health()
    said(health, [0.5] * 5)
    health.evaluation(row(0.5, step=10))
    said(health, [0.9] * 3)
    assert health.evaluation(row(0.9, step=20)) == []


def test_one_class_for_all() -> None:
    health = Health(label_names=NAMES)
    labels = np.array([0, 1, 1, 0])
    texts = []
    for predicted in (np.ones(4, int), np.array([0, 1, 1, 1]), *[np.ones(4, int)] * 3):
        health.predictions(labels, predicted)
        texts.append(health.evaluation(row(0.7)))
    assert [len(text) for text in texts] == [0, 0, 0, 1, 0]
    assert "taken for 'yes', 2 evaluations" in texts[3][0]
    assert health.confusion is not None and health.confusion.tolist() == [[0, 2], [0, 2]]


def test_data_of_one_class_and_several_labels_are_no_trouble() -> None:
    health = Health(label_names=NAMES)
    for _ in range(3):
        health.predictions(np.ones(4, int), np.ones(4, int))
        assert health.evaluation(row(0.7)) == []
    several = Health(label_names=NAMES)
    several.predictions(np.ones((3, 2), int), np.ones((3, 2), int))
    assert several.confusion is None and several.evaluation(row(0.7)) == []


def test_no_label_for_any_document_of_several_labels() -> None:
    health = Health(label_names=NAMES)
    labels, nothing = np.array([[0, 1], [1, 1], [0, 0]]), np.zeros((3, 2), int)
    texts = []
    for predicted in (nothing, labels, *[nothing] * 3):
        health.predictions(labels, predicted)
        texts.append(health.evaluation(row(0.7)))
    assert [len(text) for text in texts] == [0, 0, 0, 1, 0]
    assert "given any label, 2 evaluations" in texts[3][0]
    for _ in range(3):
        health.predictions(nothing, nothing)  # and rightly so
        assert health.evaluation(row(0.7)) == []


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (9.7, "worse than guessing"),
        (6.2, "no better than knowing how frequent"),
        (5.5, "a little better"),
        (3.0, "this is a normal loss"),
        (0.5, "very low"),
    ],
)
def test_a_loss_in_words(loss: float, words: str) -> None:
    assert words in mlm_verdict(loss, 6.15, 8000)


def test_the_verdict_is_given_when_it_changes() -> None:
    health = Health(unigram_entropy=6.15, vocab_size=8000)
    found = [health.verdict(row(loss)) for loss in (6.3, 6.2, 5.0, 4.9, math.nan)]
    assert [text is None for text in found] == [False, True, False, True, True]
    assert found[0] is not None and found[0].startswith("val loss 6.30, unigram entropy")
    assert Health().verdict(row(6.3)) is None


def test_warnings_reach_the_user_even_when_quiet() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, quiet=True, health=Health(unigram_entropy=6.0, vocab_size=8000))
    for loss in [1.1, 1.0, 0.9, 0.8, 0.8, 0.8, 2.5, 2.5, 2.5]:
        progress.show(row(loss, tokens_per_second=1.0))
    progress.show_evaluation(row(6.5), is_best=False)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("warning: the training loss rises again")
    stream = io.StringIO()
    progress = Progress(stream=stream, health=Health(unigram_entropy=6.0, vocab_size=8000))
    progress.show_evaluation(row(6.5), is_best=False)
    assert "no better than knowing how frequent" in stream.getvalue()


def test_unigram_entropy() -> None:
    documents = InMemoryDocuments([np.array([5, 5, 6]), np.array([7] * 4), np.array([6])])
    shares = np.array([2, 2, 4]) / 8
    assert unigram_entropy(documents, vocab_size=10) == pytest.approx(-(shares * np.log(shares)).sum())
    many = InMemoryDocuments([np.array([n % 4] * 2) for n in range(400)])
    # every 8th document (of 4 kinds in turn) holds one kind only; every 7th holds all
    assert unigram_entropy(many, vocab_size=4, most_tokens=100) == 0.0
    assert unigram_entropy(many, vocab_size=4, most_tokens=114) == pytest.approx(math.log(4), rel=1e-3)
