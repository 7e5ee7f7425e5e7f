"""Is this run all right? Reads the rows of the logs and says in words what a practised eye would see.

Rules of thumb, not proofs: each line names the numbers it comes from and what to try. The training does not
depend on it.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Value = str | int | float | None

_MEMORY = 0.7  # of the running mean of the training loss, by rows of the log
_ROWS_TO_JUDGE = 6
_RISE = 0.25  # of what was gained so far: that much lost again is worth a word
_NOISE = 3.0  # standard deviations of a row's loss; less is chance
_ROWS_OF_NOISE = 50
_MEDIAN_JUMP = 0.954  # between two draws of a normal distribution with standard deviation 1
_VAL_WORSE, _TRAIN_BETTER = 1.15, 0.85
_EVALUATIONS_OF_ONE_LABEL = 2


class Health:
    """Watches one run; every kind of trouble is named once, and again only after it had gone.

    Args:
        unigram_entropy: of the training tokens, in nats, for masked-language modelling; None: no MLM.
        vocab_size: V; None: no MLM.
        label_names: of a classifier with one label a document; None: another task.

    Attributes:
        confusion: true × predicted label of the documents judged last, (L, L); None before.
    """

    def __init__(
        self,
        *,
        unigram_entropy: float | None = None,
        vocab_size: int | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self._unigram_entropy = unigram_entropy
        self._vocab_size = vocab_size
        self.label_names = None if label_names is None else tuple(label_names)
        self.confusion: NDArray[np.int64] | None = None
        self._rows = 0
        self._last = math.nan
        self._jumps: deque[float] = deque(maxlen=_ROWS_OF_NOISE)
        self._first = self._lowest = self._mean = math.nan
        # the lowest loss on val, the training loss, macro-F1 (NaN for an MLM) and step then
        self._best_val: tuple[float, float, float, int] | None = None
        self._one_label = 0
        self._is_bare, self._bare = False, 0  # no document was given a label: now, evaluations in a row
        self._named: set[str] = set()
        self._verdict = ""

    def training(self, row: Mapping[str, Value]) -> list[str]:
        """Return warnings about a row of the training log."""
        loss = row.get("loss")
        if not isinstance(loss, float) or not math.isfinite(loss):
            return []
        self._rows += 1
        if self._rows == 1:
            self._first = self._lowest = self._mean = self._last = loss
            return []
        self._jumps.append(abs(loss - self._last))
        self._last = loss
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * loss
        self._lowest = min(self._lowest, self._mean)
        lost = self._mean - self._lowest
        noise = statistics.median(self._jumps) / _MEDIAN_JUMP
        rises = lost > _RISE * (self._first - self._lowest) and lost > max(
            _NOISE * noise, 0.02 * self._lowest
        )
        return self._once(
            "learning rate",
            self._rows >= _ROWS_TO_JUDGE and rises,
            f"the training loss rises again: about {self._mean:.3f} after {self._lowest:.3f}; the learning "
            f"rate ({row.get('learning_rate', math.nan):.1e}) is likely too high: lower "
            "training.learning_rate, or raise training.warmup_ratio",
        )

    def predictions(self, labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Note what a classifier said in an evaluation, (documents,) each, or 0/1 of (documents, L)."""
        if labels.ndim == 2:
            self._is_bare = bool(labels.any()) and not predicted.any()
        if self.label_names is None or labels.ndim != 1:
            return
        count = len(self.label_names)
        pairs = np.bincount(labels * count + predicted, minlength=count * count)
        self.confusion = pairs.reshape(count, count)

    def evaluation(self, row: Mapping[str, Value]) -> list[str]:
        """Return warnings about a row of validation metrics."""
        return [*self._drift(row), *self._one_class(), *self._no_label()]

    def verdict(self, row: Mapping[str, Value]) -> str | None:
        """Return, in words, whether this validation loss of an MLM is normal; None where nothing changed."""
        loss, entropy, vocabulary = row.get("loss"), self._unigram_entropy, self._vocab_size
        if entropy is None or vocabulary is None or not isinstance(loss, float) or not math.isfinite(loss):
            return None
        verdict = mlm_verdict(loss, entropy, vocabulary)
        if verdict == self._verdict:
            return None
        self._verdict = verdict
        return f"val loss {loss:.2f}, unigram entropy of the training text {entropy:.2f}: {verdict}"

    def _drift(self, row: Mapping[str, Value]) -> list[str]:
        loss, step = row.get("loss"), row.get("step")
        if not isinstance(loss, float) or not isinstance(step, int) or not math.isfinite(loss):
            return []
        score = row.get("f1_macro")
        score = score if isinstance(score, float) else math.nan
        if self._best_val is None or loss < self._best_val[0]:
            self._best_val = loss, self._mean, score, step
        best, train_then, score_then, best_step = self._best_val
        apart = loss > _VAL_WORSE * best and self._mean < _TRAIN_BETTER * train_then
        if score > score_then:
            meaning = (
                f"yet f1_macro went from {score_then:.3f} to {score:.3f}: it is right more often, and surer "
                "where it is wrong; training.label_smoothing and training.word_dropout make it less so"
            )
        else:
            meaning = (
                "it learns the training data by heart: fewer training.epochs, "
                "training.early_stopping_patience, more dropout, more data"
            )
        return self._once(
            "drift",
            apart,
            f"train and val drift apart: since step {best_step} the training loss went from {train_then:.3f} "
            f"to {self._mean:.3f} and the val loss from {best:.3f} to {loss:.3f}; {meaning}",
        )

    def _one_class(self) -> list[str]:
        if self.confusion is None or self.label_names is None:
            return []
        chosen = np.flatnonzero(self.confusion.sum(axis=0))
        alone = len(chosen) == 1 and np.count_nonzero(self.confusion.sum(axis=1)) > 1
        self._one_label = self._one_label + 1 if alone else 0
        name = self.label_names[int(chosen[0])] if alone else ""
        return self._once(
            "one class",
            self._one_label >= _EVALUATIONS_OF_ONE_LABEL,
            f"every document of val is taken for {name!r}, {self._one_label} evaluations in a row; if it "
            "stays so: another training.learning_rate (lower, or higher if the loss hardly moves), more "
            "training.epochs, or training.class_weights",
        )

    def _no_label(self) -> list[str]:
        self._bare = self._bare + 1 if self._is_bare else 0
        return self._once(
            "no label",
            self._bare >= _EVALUATIONS_OF_ONE_LABEL,
            f"no document of val is given any label, {self._bare} evaluations in a row: no probability is "
            "above one half; if it stays so: another training.learning_rate or more training.epochs; "
            "training.best_metric: loss finds the best weights all the same",
        )

    def _once(self, kind: str, is_there: bool, text: str) -> list[str]:
        is_new = is_there and kind not in self._named
        if is_there:
            self._named.add(kind)
        else:
            self._named.discard(kind)
        return [text] if is_new else []


def mlm_verdict(loss: float, unigram_entropy: float, vocab_size: int) -> str:
    """Return whether a masked-LM loss is normal, in words, beside two marks that need no model.

    Guessing evenly among V tokens costs ln V nats; knowing how frequent each token is, and nothing of the
    context, costs the unigram entropy.

    Args:
        loss: mean over masked positions, nats.
        unigram_entropy: of the training tokens, nats.
        vocab_size: V.
    """
    if loss > 1.02 * math.log(vocab_size):
        return (
            f"worse than guessing evenly among {vocab_size:,} tokens ({math.log(vocab_size):.2f}); normal in "
            "the first steps only, later the learning rate is too high"
        )
    if loss > 0.98 * unigram_entropy:
        return (
            "no better than knowing how frequent each word is; normal at the beginning. If it stays here: "
            "more steps, or another learning rate"
        )
    if loss > 0.85 * unigram_entropy:
        return "a little better than word frequencies; the context begins to count, go on"
    if loss > 0.25 * unigram_entropy:
        return "well below word frequencies: the context is used, this is a normal loss"
    return "very low: the text is simple or repeats itself, or val stands in train (textclf audit tells)"
