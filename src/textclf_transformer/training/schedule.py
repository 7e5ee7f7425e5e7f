"""The learning rate as a pure function of the step, so that a resume needs no scheduler state."""

from __future__ import annotations

import math


def warmup_steps(total_steps: int, *, warmup_ratio: float) -> int:
    """Return the number of warm-up steps: ``warmup_ratio`` of all steps, rounded to the nearest.

    Args:
        total_steps: optimizer steps of the run, 1 or more.
        warmup_ratio: share of them, 0 to 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if total_steps < 1 or not 0.0 <= warmup_ratio <= 1.0:
        raise ValueError(f"need total_steps >= 1 and 0 <= warmup_ratio <= 1: {total_steps}, {warmup_ratio}")
    return round(total_steps * warmup_ratio)


def cosine_with_warmup(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Return the factor on the peak learning rate for one update: linear up, then half a cosine down to 0.

    The first update already moves the weights (1 / (warmup_steps + 1)), the peak 1 stands at ``step ==
    warmup_steps`` alone, and 0 is reached one step after the last update, so that no update is wasted at
    either end.

    Args:
        step: updates made before this one, from 0; at ``total_steps`` and beyond the factor is 0.
        total_steps: updates of the whole run.
        warmup_steps: updates before the peak, 0 to ``total_steps``.

    Raises:
        ValueError: ``step`` is negative or the warm-up longer than the run.
    """
    if step < 0 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"need step >= 0 and 0 <= warmup_steps <= total_steps: {step}, {warmup_steps}, {total_steps}"
        )
    if step >= total_steps:
        return 0.0
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * progress))
