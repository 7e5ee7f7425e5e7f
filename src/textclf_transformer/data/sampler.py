"""Which samples an optimizer step sees, and how they are divided for the machine.

The order is a pure function of (seed, epoch): step k of an epoch takes its k-th slice, so a resumed run seeks
to its step and replays nothing. How a step's samples are cut into micro-batches follows from their lengths
and the budget alone.
"""

from __future__ import annotations

import numpy as np

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.utils import derive_seed


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Int64Array:
    """Return a permutation of 0 … num_samples − 1, int64, that depends on (seed, epoch) alone."""
    generator = np.random.Generator(np.random.PCG64(derive_seed("order", seed, epoch)))
    return generator.permutation(num_samples)


class EpochSampler:
    """The samples of every optimizer step, by seeking.

    Args:
        num_samples: samples of one epoch.
        samples_per_step: samples of one optimizer step; the last step of an epoch may have fewer.
        seed: the run's seed.
    """

    def __init__(self, *, num_samples: int, samples_per_step: int, seed: int) -> None:
        self.num_samples = num_samples
        self.samples_per_step = samples_per_step
        self.steps_per_epoch = -(-num_samples // samples_per_step)
        self._seed = seed
        self._cached_order: tuple[int, Int64Array] | None = (
            None  # of the epoch asked for last: 8 bytes a sample
        )

    def step(self, epoch: int, index: int) -> Int64Array:
        """Return the samples of step ``index`` of ``epoch``, both from 0; int64 (samples,).

        Raises:
            IndexError: an epoch has no such step.
        """
        if not 0 <= index < self.steps_per_epoch:
            raise IndexError(f"step {index} of an epoch of {self.steps_per_epoch} steps")
        if self._cached_order is None or self._cached_order[0] != epoch:
            self._cached_order = epoch, epoch_order(self.num_samples, seed=self._seed, epoch=epoch)
        order = self._cached_order[1]
        return order[index * self.samples_per_step : (index + 1) * self.samples_per_step]


def split_by_budget(widths: Int64Array, *, budget: int, rows: Int64Array | None = None) -> list[Int64Array]:
    """Divide samples into micro-batches of similar length, none larger than ``budget`` padded tokens.

    A micro-batch is a rectangle: all rows of its samples, each padded to the longest. Samples are sorted from
    the longest down, of one length from the most rows down (equal ones keep their order), and taken while
    rows × longest ≤ ``budget``. A sample is never divided, so one that is larger than the budget is a
    micro-batch by itself.

    Args:
        widths: tokens of the longest row of each sample, (samples,).
        budget: padded tokens that a micro-batch may have.
        rows: rows of each sample (chunks of a document), (samples,); one each where None.

    Returns:
        Positions in ``widths``, one int64 array for each micro-batch; together each position once.
    """
    rows = np.ones_like(widths) if rows is None else rows
    by_length = np.lexsort((-rows, -widths))
    rows_until = np.concatenate(([0], np.cumsum(rows[by_length])))
    micro_batches = []
    start = 0
    while start < len(by_length):
        rows_allowed = budget // int(widths[by_length[start]])
        stop = int(np.searchsorted(rows_until, rows_until[start] + rows_allowed, side="right")) - 1
        stop = max(stop, start + 1)
        micro_batches.append(by_length[start:stop])
        start = stop
    return micro_batches
