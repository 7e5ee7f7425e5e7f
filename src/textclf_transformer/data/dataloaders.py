"""Batches for notebooks: texts in, what a plain PyTorch loop iterates over out, by the code of the commands.

B texts, C chunks of a document, S tokens of the longest row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from textclf_transformer.data.batches import DocumentBatches, MlmBatches
from textclf_transformer.data.chunking import SPECIAL_TOKENS_PER_ROW
from textclf_transformer.data.collate import DocumentBatch
from textclf_transformer.data.records import Records
from textclf_transformer.data.tables import check_in_order, one_label, plain_values
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.errors import ConfigError, DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.utils import check_integer, check_share

_log = logging.getLogger(__name__)

_NO_BUDGET = 2**62  # a batch is computed at once; a loop that runs out of memory takes a smaller batch
_HIGHEST_LABEL = 100_000


class EpochLoader:
    """Each pass over it is one epoch, in an order of its own; ``len()`` is the number of batches.

    Args:
        steps: batches of an epoch.
        batch: (epoch, index), both from 0, → the tensors that go into the model, by their keyword. It must be
            one that pickles, as a loader goes to a worker process so (from Python 3.14 on Linux, too).
        label_names: what the labels stand for; None where they are tokens.

    Attributes:
        epoch: of the next pass. Set it to repeat one, or to go on after a restart.
        label_names: as given.
    """

    def __init__(
        self,
        *,
        steps: int,
        batch: Callable[[int, int], dict[str, Tensor]],
        label_names: tuple[str, ...] | None,
    ) -> None:
        self.epoch = 0
        self.label_names = label_names
        self._steps = steps
        self._batch = batch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return (self._batch(epoch, index) for index in range(self._steps))


def create_mlm_dataloader(
    texts: Sequence[str],
    tokenizer: TokenizerWrapper,
    batch_size: int,
    mask_probability: float = 0.15,
    *,
    max_sequence_length: int = 512,
    seed: int = 42,
) -> EpochLoader:
    """Return batches for masked language modelling, under a new mask in each epoch.

    A text longer than a row is split, never cut.

    Args:
        texts: none of them empty.
        tokenizer: see ``get_tokenizer``.
        batch_size: rows of a batch, B; the last of an epoch may have fewer.
        mask_probability: share of the tokens to predict; of these 80 % become [MASK], 10 % a random token.
        max_sequence_length: tokens of the longest row, [CLS] and [SEP] included.
        seed: decides order and masks, together with the epoch.

    Returns:
        Batches of ``input_ids`` int64 (B, S), ``attention_mask`` bool (B, S), True = PAD, and ``labels``
        int64 (B, S), −100 where there is nothing to predict: ``model(**batch)["loss"]``.

    Raises:
        DataError: a text is empty, no string, or has no tokens.
        ConfigError: ``max_sequence_length`` is below 3, ``batch_size`` below 1, an argument is no integer,
            ``mask_probability`` no number from 0 to 1, or ``tokenizer`` is none.
    """
    _check_integers(batch_size=batch_size, max_sequence_length=max_sequence_length, seed=seed)
    mask_probability = check_share(mask_probability, "mask_probability")
    _check_tokenizer(tokenizer)
    check_in_order(texts, "texts")
    batches = MlmBatches(
        TextDocuments.read(Records.of(texts), tokenizer, multi_label=False, path="texts"),
        tokenizer,
        max_sequence_length=max_sequence_length,
        mask_p=mask_probability,
        mask_token_p=0.8,
        random_token_p=0.1,
        samples_per_step=batch_size,
        tokens_per_micro_batch=_NO_BUDGET,
        seed=seed,
    )

    return EpochLoader(steps=batches.steps_per_epoch, batch=partial(_mlm_batch, batches), label_names=None)


def create_classification_dataloader(
    texts: Sequence[str],
    labels: Sequence[str] | Sequence[int] | Sequence[bool] | NDArray[Any] | Tensor,
    tokenizer: TokenizerWrapper,
    batch_size: int,
    *,
    chunk_size: int = 512,
    stride: int | None = None,
    max_chunks: int | None = None,
    label_names: Sequence[str] | None = None,
    seed: int = 42,
) -> EpochLoader:
    """Return batches of texts with one label each.

    Args:
        texts: none of them empty.
        labels: one for each text, in a list, an array or a tensor (N,): names, numbers from 0, or False and
            True, which are called ``false`` and ``true`` as in a store.
        tokenizer: see ``get_tokenizer``.
        batch_size: texts of a batch, B; the last of an epoch may have fewer.
        chunk_size: tokens of the longest row, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next; None: no overlap.
        max_chunks: most chunks of a text, for ``HierarchicalRobertaForClassification``; None: one row, for
            ``RobertaForSequenceClassification``. A warning says how much is not read.
        label_names: the labels in the model's order, e.g. those of the training loader; None: names by the
            alphabet, numbers up to the highest.
        seed: decides the order, together with the epoch.

    Returns:
        Batches of ``input_ids`` int64, ``attention_mask`` bool, True = PAD, both (B, S) or, with
        ``max_chunks``, (B, C, S), and ``labels`` int64 (B,): ``model(**batch)["loss"]``.

    Raises:
        DataError: a text is empty, no string, or has no tokens; there are more or fewer labels than texts; or
            a label is of another type, or not among ``label_names``.
        ConfigError: chunk size, stride and number of chunks do not fit together, ``batch_size`` is below 1,
            an argument is no integer, or ``tokenizer`` is none.
    """
    given = {"stride": stride, "max_chunks": max_chunks}
    _check_integers(
        batch_size=batch_size,
        chunk_size=chunk_size,
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    _check_tokenizer(tokenizer)
    check_in_order(texts, "texts")
    own, numbers = _names_of(labels)
    if label_names is not None:
        numbers = _checked_names(label_names)
    batches = DocumentBatches(
        TextDocuments.read(Records.of(texts, labels=own), tokenizer, multi_label=False, path="texts"),
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        chunk_size=chunk_size,
        stride=chunk_size - SPECIAL_TOKENS_PER_ROW if stride is None else stride,
        max_chunks=1 if max_chunks is None else max_chunks,
        samples_per_step=batch_size,
        tokens_per_micro_batch=_NO_BUDGET,
        seed=seed,
        label_names=numbers,
    )
    if dropped := batches.coverage.tokens_dropped:
        _log.warning("%d of %d tokens of the texts are not read", dropped, batches.coverage.tokens)

    batch = partial(
        _classification_batch,
        batches,
        pad_token_id=tokenizer.pad_token_id,
        in_chunks=max_chunks is not None,
    )
    return EpochLoader(steps=batches.steps_per_epoch, batch=batch, label_names=batches.label_names)


def _check_integers(*, batch_size: int, **others: int) -> None:
    """Refuse what is no integer; most numbers that are too low are named where they are used."""
    check_integer(batch_size, "batch_size", at_least=1)
    for name, value in others.items():
        check_integer(value, name)


def _check_tokenizer(tokenizer: Any) -> None:
    if not hasattr(tokenizer, "encode_batch") or not hasattr(tokenizer, "mask_input_for_mlm"):
        raise ConfigError(
            "not a tokenizer of this package",
            where="tokenizer",
            found=type(tokenizer).__name__,
            expected="what get_tokenizer(FOLDER) returns",
        )


def _names_of(labels: Any) -> tuple[list[str], list[str] | None]:
    """Return the labels as a store names them, and the names of all numbers from 0 if they are numbers."""
    check_in_order(labels, "labels")
    values = plain_values(labels)
    names = [one_label(value, f"labels[{place}]", "label") for place, value in enumerate(values)]
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        if max(values) > _HIGHEST_LABEL:
            raise DataError(
                "a label's number is too high, as each number up to it is a label",
                where=f"labels[{values.index(max(values))}]",
                found=max(values),
                expected=f"at most {_HIGHEST_LABEL}",
                mend="give the labels as strings: [str(label) for label in labels]",
            )
        return names, [str(number) for number in range(max(values) + 1)]
    return names, None


def _checked_names(label_names: Sequence[Any]) -> list[str]:
    """Return the names as a store has them, each once, in the order given."""
    check_in_order(label_names, "label_names")
    names = [one_label(name, f"label_names[{place}]", "label") for place, name in enumerate(label_names)]
    if len(set(names)) < len(names):
        raise DataError("a label stands twice", where="label_names", found=names)
    return names


def _mlm_batch(batches: MlmBatches, epoch: int, index: int) -> dict[str, Tensor]:
    (rows,) = batches.step(epoch, index)
    return {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask, "labels": rows.labels}


def _classification_batch(
    batches: DocumentBatches, epoch: int, index: int, *, pad_token_id: int, in_chunks: bool
) -> dict[str, Tensor]:
    (documents,) = batches.step(epoch, index)
    return _model_inputs(documents, pad_token_id=pad_token_id, in_chunks=in_chunks)


def _model_inputs(batch: DocumentBatch, *, pad_token_id: int, in_chunks: bool) -> dict[str, Tensor]:
    """Return the keywords of a model's call; chunks (M, S) are spread over (B, C, S), padded by chunks."""
    assert batch.labels is not None
    input_ids, attention_mask = batch.input_ids, batch.attention_mask
    if in_chunks:
        places = torch.arange(int(batch.chunk_counts.max()), device="cpu")
        real = places < batch.chunk_counts.unsqueeze(1)  # (B, C)
        width = input_ids.shape[1]
        spread = torch.full((*real.shape, width), pad_token_id, device="cpu")
        mask = torch.ones(*real.shape, width, dtype=torch.bool, device="cpu")
        spread[real], mask[real] = input_ids, attention_mask
        input_ids, attention_mask = spread, mask
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": batch.labels}
