"""Writing a store as a ``.pt`` file, for tools that want tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from textclf_transformer.atomic import atomic_write
from textclf_transformer.data.store import Store
from textclf_transformer.errors import DataError, counted

MAX_POSITIONS = 1 << 31
"""Documents × longest document: beyond it, padding would take more than 18 GB."""


def write_tensors(store: Store, path: Path, *, pad_token_id: int) -> None:
    """Write the documents of ``store`` as a dict of tensors that ``torch.load(weights_only=True)`` reads.

    ``input_ids`` int64 (documents, tokens of the longest), content tokens with PAD after them;
    ``attention_mask`` bool of that shape, True = PAD; ``labels`` int64 where there are labels. Ids, groups,
    label names and the text are lost.

    Raises:
        DataError: padded to the longest document, the rows would be too large.
    """
    longest = int(store.lengths.max())
    if len(store) * longest > MAX_POSITIONS:
        raise DataError(
            "the documents are too many and too long for padded rows",
            where=str(path),
            found=f"{counted(len(store), 'document')}, the longest of {counted(longest, 'token')}",
            mend="use --format store",
        )
    input_ids = np.full((len(store), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.ones((len(store), longest), dtype=np.bool_)
    for row, length in enumerate(store.lengths):
        input_ids[row, :length] = store.tokens(row)
        attention_mask[row, :length] = False
    tensors = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
    if store.labels is not None:
        tensors["labels"] = torch.from_numpy(store.labels)
    atomic_write(path, lambda stream: torch.save(tensors, stream))
