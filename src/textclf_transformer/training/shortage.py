"""What is computed without gradients where the memory does not suffice for all rows at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from textclf_transformer.errors import is_out_of_memory


def in_halves(compute: Callable[..., Tensor], *rows: Tensor) -> list[Tensor]:
    """Return ``[compute(*rows)]``; where the memory does not suffice, what it gives for parts of the rows.

    Args:
        compute: treats each row alone, so that the parts together are the whole, to rounding.
        rows: (M, …) each; divided along the first dimension.

    Returns:
        The results, in the order of the rows.

    Raises:
        RuntimeError: the memory does not suffice for a single row, or ``compute`` fails for another reason;
            as it came. MemoryError likewise.
    """
    try:
        return [compute(*rows)]
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault) or len(rows[0]) == 1:
            raise
    # out here, where the fault no longer holds on to the tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what was cached for the larger shapes would lie in the way
    halves = zip(*(tensor.tensor_split(2) for tensor in rows), strict=True)
    return [part for half in halves for part in in_halves(compute, *half)]
