from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textclf_transformer.data.sampler import EpochSampler, epoch_order, split_by_budget


def test_order_is_a_permutation_that_depends_on_seed_and_epoch():
    order = epoch_order(500, seed=1, epoch=0)
    assert sorted(order.tolist()) == list(range(500))
    assert np.array_equal(order, epoch_order(500, seed=1, epoch=0))
    assert not np.array_equal(order, epoch_order(500, seed=1, epoch=1))
    assert not np.array_equal(order, epoch_order(500, seed=2, epoch=0))


def test_order_leaves_the_global_stream_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    epoch_order(100, seed=1, epoch=0)
    assert np.random.rand() == expected


def test_steps_of_an_epoch_cover_each_sample_once():
    sampler = EpochSampler(num_samples=10, samples_per_step=4, seed=3)
    steps = [sampler.step(2, index) for index in range(sampler.steps_per_epoch)]
    assert [len(step) for step in steps] == [4, 4, 2]
    assert np.array_equal(np.concatenate(steps), epoch_order(10, seed=3, epoch=2))


def test_a_step_is_reached_without_the_steps_before_it():
    walked = EpochSampler(num_samples=100, samples_per_step=7, seed=3)
    for epoch, index in [(0, 0), (0, 14), (1, 0), (2, 4), (1, 5)]:
        fresh = EpochSampler(num_samples=100, samples_per_step=7, seed=3)
        assert np.array_equal(walked.step(epoch, index), fresh.step(epoch, index))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_step_beyond_the_epoch_is_an_error(index):
    with pytest.raises(IndexError, match=str(index)):
        EpochSampler(num_samples=10, samples_per_step=4, seed=3).step(0, index)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 6)), min_size=1),
    st.integers(1, 400),
)
def test_micro_batches_keep_the_budget_and_lose_no_sample(samples, budget):
    widths, rows = (np.array(column, dtype=np.int64) for column in zip(*samples, strict=True))
    micro_batches = split_by_budget(widths, budget=budget, rows=rows)
    assert sorted(np.concatenate(micro_batches).tolist()) == list(range(len(samples)))
    for micro_batch in micro_batches:
        assert len(micro_batch) == 1 or rows[micro_batch].sum() * widths[micro_batch].max() <= budget
    lengths = widths[np.concatenate(micro_batches)]
    assert (np.diff(lengths) <= 0).all()


def test_micro_batches_are_filled_up_and_equal_lengths_keep_their_order():
    micro_batches = split_by_budget(np.array([3, 10, 3, 10, 3, 3]), budget=20)
    assert [micro_batch.tolist() for micro_batch in micro_batches] == [[1, 3], [0, 2, 4, 5]]


def test_of_one_length_those_with_the_most_rows_come_first():
    (micro_batch,) = split_by_budget(np.array([5, 5, 9, 5]), rows=np.array([1, 3, 1, 2]), budget=1000)
    assert micro_batch.tolist() == [2, 1, 3, 0]


def test_a_sample_larger_than_the_budget_stands_alone():
    micro_batches = split_by_budget(np.array([5, 100, 5]), budget=20)
    assert [micro_batch.tolist() for micro_batch in micro_batches] == [[1], [0, 2]]
