"""The checks of a ``.pt`` file: each names the file, and the row and column (from 0) of the first fault.

All are vectorised; none changes what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.errors import DataError

MAX_LABELS = 65_536
"""More labels than anyone has: a larger number is an id or a score that slipped into the labels."""


@dataclass(frozen=True)
class Location:
    """Names places in a tensor of a file; ``names`` are those of its dimensions."""

    path: Path
    names: tuple[str, ...]

    def of(self, tensor: str, indices: tuple[int, ...]) -> str:
        """Return "file: tensor, row 3, column 17 (from 0)"."""
        places = ", ".join(f"{name} {index}" for name, index in zip(self.names, indices, strict=False))
        return f"{self.path}: {tensor}, {places} (from 0)"


def check_types_and_shapes(tensors: Mapping[str, object], *, path: Path) -> dict[str, Tensor]:
    """Return ``tensors``, after checking that dtypes, dimensions and lengths are those of the contract.

    Raises:
        DataError: one is not; found and expected are named.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DataError(f"{name} is not a tensor", where=str(path), found=type(tensor).__name__)
        named[name] = tensor.detach()
    ids, mask, labels = named["input_ids"], named["attention_mask"], named.get("labels")
    if ids.dtype != torch.int64:
        raise DataError(
            "input_ids has the wrong dtype",
            where=str(path),
            found=ids.dtype,
            expected="torch.int64",
            mend="save input_ids.long()",
        )
    if mask.dtype != torch.bool:
        raise DataError(
            "attention_mask is not bool",
            where=str(path),
            found=mask.dtype,
            expected="torch.bool, True = PAD",
            mend="turn a mask of 1 = keep round with attention_mask == 0",
        )
    if ids.ndim not in (2, 3) or 0 in ids.shape:
        expected = "(documents, tokens) or (documents, chunks, tokens), none of them 0"
        raise _wrong_shape("input_ids", ids, expected=expected, path=path)
    if mask.shape != ids.shape:
        expected = f"{tuple(ids.shape)}, as input_ids"
        raise _wrong_shape("attention_mask", mask, expected=expected, path=path)
    if labels is not None and (labels.ndim not in (1, 2) or len(labels) != len(ids) or 0 in labels.shape):
        expected = f"({len(ids)},), or ({len(ids)}, L) where documents carry several labels"
        raise _wrong_shape("labels", labels, expected=expected, path=path)
    return named


def _wrong_shape(name: str, tensor: Tensor, *, expected: str, path: Path) -> DataError:
    return DataError(
        f"{name} has the wrong shape", where=str(path), found=tuple(tensor.shape), expected=expected
    )


def check_attention_mask(
    ids: Int64Array, padding: NDArray[np.bool_], *, pad_token_id: int, at: Location
) -> None:
    """Check that no PAD id is marked as real; other ids under True are legal, they are never read.

    Raises:
        DataError: a PAD id stands where the mask is False.
    """
    place = _first((ids == pad_token_id) & ~padding)
    if place is not None:
        raise DataError(
            "the mask looks inverted",
            where=at.of("attention_mask", place),
            found=f"the PAD id {pad_token_id} where the mask is False (a real token)",
            expected="True = PAD",
            mend="turn the mask round with ~attention_mask, or make it with input_ids == pad_token_id",
        )


def check_input_ids(ids: Int64Array, padding: NDArray[np.bool_], *, vocab_size: int, at: Location) -> None:
    """Check that every real id is in the vocabulary.

    Raises:
        DataError: one is not.
    """
    place = _first(((ids < 0) | (ids >= vocab_size)) & ~padding)
    if place is not None:
        raise DataError(
            "token id is negative" if ids[place] < 0 else "token id is outside the vocabulary",
            where=at.of("input_ids", place),
            found=ids[place],
            expected=f"0 to {vocab_size - 1}",
            mend="use the tokenizer that made the file",
        )


def check_no_empty_rows(lengths: Int64Array, *, at: Location) -> None:
    """Check that every document has content; ``lengths`` (documents,) count it.

    Raises:
        DataError: a document has nothing but padding and special tokens.
    """
    place = _first(lengths == 0)
    if place is not None:
        raise DataError(
            "document is empty",
            where=at.of("input_ids", place),
            found="nothing but padding and special tokens",
            expected="at least one token",
            mend="take the row out",
        )


def check_labels(tensor: Tensor, *, path: Path) -> Int64Array:
    """Return the labels as int64 (documents,), or 0/1 of (documents, L); floats with whole values are taken.

    Raises:
        DataError: a label is NaN, infinite, fractional, negative, absurdly large, or not 0 or 1 where
            documents carry several.
    """
    if tensor.is_complex():
        raise DataError(
            "labels has the wrong dtype", where=str(path), found=tensor.dtype, expected="torch.int64"
        )
    # bfloat16 has no numpy counterpart; every float dtype fits float64
    values = (tensor.double() if tensor.is_floating_point() else tensor.long()).numpy()
    several_labels = values.ndim == 2
    largest = 1 if several_labels else MAX_LABELS - 1
    allowed = "0 or 1" if several_labels else "a whole number from 0 up"
    faults = (
        ("label is NaN or infinite", ~np.isfinite(values)),
        ("label is fractional", values != np.floor(values)),
        ("label is out of range", (values < 0) | (values > largest)),
    )
    for what, fault in faults:
        place = _first(fault)
        if place is not None:
            raise DataError(
                what,
                where=Location(path=path, names=("row", "column")).of("labels", place),
                found=values[place],
                expected=allowed,
            )
    return values.astype(np.int64)


def _first(fault: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the indices of the first True, None where there is none."""
    if not fault.any():
        return None
    return tuple(int(index) for index in np.unravel_index(int(fault.argmax()), fault.shape))
