from __future__ import annotations

import math

import pytest

from textclf_transformer.training.schedule import cosine_with_warmup, warmup_steps


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.2),
        (3, 0.8),
        (4, 1.0),
        (6, 0.5 * (1 + math.cos(math.pi / 4))),
        (8, 0.5),
        (11, 0.5 * (1 + math.cos(math.pi * 7 / 8))),
        (12, 0.0),
        (99, 0.0),
    ],
)
def test_exact_points(step: int, factor: float) -> None:
    assert cosine_with_warmup(step, total_steps=12, warmup_steps=4) == pytest.approx(factor, abs=1e-15)


def test_every_update_moves_and_the_peak_stands_once() -> None:
    factors = [cosine_with_warmup(step, total_steps=50, warmup_steps=5) for step in range(50)]
    assert min(factors) > 0
    assert factors.count(1.0) == 1
    assert factors[:6] == sorted(factors[:6])
    assert factors[5:] == sorted(factors[5:], reverse=True)


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_edges_of_the_warm_up(warmup: int) -> None:
    assert cosine_with_warmup(0, total_steps=5, warmup_steps=warmup) == 1 / (warmup + 1)


def test_warmup_steps_rounds_to_the_nearest() -> None:
    # 0.1 * 30 is 3.0000000000000004: rounding up would give 4
    assert [warmup_steps(n, warmup_ratio=0.1) for n in (30, 24, 26, 1)] == [3, 2, 3, 0]


@pytest.mark.parametrize("arguments", [(-1, 5, 1), (0, 5, 6), (0, 5, -1)])
def test_nonsense_is_refused(arguments: tuple[int, int, int]) -> None:
    step, total, warmup = arguments
    with pytest.raises(ValueError, match="warmup_steps"):
        cosine_with_warmup(step, total_steps=total, warmup_steps=warmup)
