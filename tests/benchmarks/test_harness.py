"""The arithmetic of the benchmarks: medians, ratios, operations and tokens counted by hand."""

from __future__ import annotations

import functools
import math
import mmap
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Sample, SideProcess, alternate, comparison, difference, take_turn
from benchmarks.mlm import MlmWork
from benchmarks.workloads import (
    Shape,
    chunk_flops,
    document_lengths,
    encoder_flops,
    lognormal_chunk_counts,
    mlm_step_flops,
    normal_lengths,
)
from textclf_transformer.data.chunking import chunk_counts

CPU = torch.device("cpu")
SHAPE = Shape(3, 8, 2, 16, 50, length=12)


def samples(*seconds: float) -> list[Sample]:
    return [Sample(value, peak_mib=100 + value, growth_mib=value) for value in seconds]


def test_the_ratio_is_that_of_the_medians_and_its_spread_that_of_the_pairs() -> None:
    result = comparison(samples(1.0, 2.0, 4.0), samples(10.0, 10.0, 12.0))
    assert result["ratio"] == 5.0
    assert result["ratios"] == [3.0, 10.0]
    assert result["ours"]["seconds"] == 2.0
    assert result["ours"]["peak_mib"] == 104.0
    assert result["theirs"]["growth_mib"] == 12.0


def test_sides_take_turns_after_runs_that_are_not_counted() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> Sample:
        order.append(name if seconds else name.lower())
        return samples(float(len(order)))[0]

    taken = alternate({name: functools.partial(run, name) for name in "AB"}, repetitions=2)
    assert "".join(order) == "aaaaabbbbbABAB"
    assert [sample.seconds for sample in taken["A"]] == [11.0, 13.0]
    assert [sample.seconds for sample in taken["B"]] == [12.0, 14.0]


def test_slow_sides_are_warm_after_a_minute() -> None:
    order: list[str] = []

    def run(name: str, takes: float, seconds: float) -> Sample:
        order.append(name if seconds else name.lower())
        return samples(takes)[0]

    alternate({"A": functools.partial(run, "A", 70.0), "B": functools.partial(run, "B", 40.0)}, repetitions=1)
    assert "".join(order) == "abbAB"


def test_the_difference_is_relative_to_the_largest_value() -> None:
    assert difference([1.0, -4.5], [1.0, -5.0]) == pytest.approx(0.1)


def test_a_sample_measures_time_and_memory() -> None:
    def work() -> None:
        time.sleep(0.05)
        with mmap.mmap(-1, 80 << 20) as fresh:  # a tensor might take what the heap kept of another test's
            for start in range(0, len(fresh), 4096):
                fresh[start] = 1

    sample = take_turn(work, CPU, seconds=0.0)
    assert 0.05 <= sample.seconds < 5
    assert 70 <= sample.growth_mib < 200
    assert sample.peak_mib > sample.growth_mib


def test_a_turn_repeats_short_work_and_takes_the_mean() -> None:
    pauses = iter([0.2, *[0.02] * 1000])
    calls: list[float] = []

    def work() -> None:
        calls.append(next(pauses))
        time.sleep(calls[-1])

    start = time.perf_counter()
    sample = take_turn(work, CPU, seconds=0.5)
    elapsed = time.perf_counter() - start
    assert len(calls) >= 2 and elapsed >= 0.5
    assert 0.9 * elapsed < sample.seconds * len(calls) <= elapsed


class Products(nn.Module):
    """The matrix products of a plain encoder, all positions in all layers."""

    def forward(self, length: int) -> torch.Tensor:
        d, f = SHAPE.hidden_size, SHAPE.ffn_size
        tokens = torch.ones(length, d)
        for _ in range(SHAPE.num_layers):
            for _ in range(4):
                tokens = tokens @ torch.ones(d, d)
            heads = tokens.view(length, SHAPE.num_heads, -1).transpose(0, 1)
            tokens = (heads @ heads.transpose(1, 2) @ heads).transpose(0, 1).reshape(length, d)
            tokens = tokens @ torch.ones(d, f) @ torch.ones(f, d)
        return tokens


def test_operations_are_those_that_torch_counts() -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        Products()(7)
        Products()(12)
    assert encoder_flops(SHAPE, [7, 12], [7, 12]) == counter.get_total_flops()


def test_positions_that_nobody_reads_cost_nothing_in_the_last_layer() -> None:
    d, f = SHAPE.hidden_size, SHAPE.ffn_size
    saved = encoder_flops(SHAPE, [7], [7]) - encoder_flops(SHAPE, [7], [2])
    assert saved == 5 * (2 * (2 * d * d + 2 * d * f) + 4 * 7 * d)
    assert chunk_flops(SHAPE, [7], training=True) == 3 * chunk_flops(SHAPE, [7], training=False)
    head = 2 * 2 * (d * d + d * SHAPE.vocab_size)
    assert mlm_step_flops(SHAPE, [7], [2]) == 3 * (encoder_flops(SHAPE, [7], [2]) + head)


def test_tokens_are_real_ones_with_special_tokens() -> None:
    facts = MlmWork(SHAPE, (12, 5, 7), CPU).facts()
    assert facts["tokens"] == 24
    assert 0 < facts["targets"] < 18


def test_made_up_lengths_follow_their_distributions() -> None:
    lengths = normal_lengths(200, mean=256, deviation=128, most=512)
    assert min(lengths) == 16
    assert max(lengths) == 512
    assert sum(lengths) / 200 == pytest.approx(256, rel=0.02)
    for count in (4, 8, 100):
        counts = lognormal_chunk_counts(count, mean=8, most=20)
        assert sum(counts) / count == pytest.approx(8, abs=0.25)
        assert max(counts) <= 20
        own = document_lengths(counts, chunk_size=12)
        made = chunk_counts(torch.tensor(own).numpy(), chunk_size=12, stride=10, max_chunks=20)
        assert made.tolist() == counts


class Faulty:
    def run(self) -> None:
        raise ValueError("no such luck")

    def check(self) -> list[float]:
        return [math.pi]


def test_a_side_in_another_process_answers_and_its_fault_is_told() -> None:
    with SideProcess("theirs", Faulty, CPU) as side:
        assert side.check() == [math.pi]
        with pytest.raises(RuntimeError, match=r"(?s)theirs.*no such luck"):
            side.run(0.0)
