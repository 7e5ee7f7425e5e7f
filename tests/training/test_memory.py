"""What the loop does where the memory runs out: smaller micro-batches, the same step, the same result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_step import largest_difference
from torch import Tensor, nn
from toys import Run, StopAt, ToyBatch, ToyBatches, same_bits, toy_loss, toy_net

from textclf_transformer.errors import ConfigError
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.progress import Progress


class Allocator:
    """A loss whose memory suffices for ``samples`` from the ``from_call``-th call on; counts its refusals."""

    def __init__(self, *, samples: int, from_call: int = 1) -> None:
        self.samples = samples
        self.from_call = from_call
        self.calls = 0
        self.refusals = 0
        self.sizes: list[int] = []

    def __call__(self, model: nn.Module, batch: ToyBatch) -> Tensor:
        self.calls += 1
        if self.calls >= self.from_call and len(batch.ids) > self.samples:
            self.refusals += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.sizes.append(len(batch.ids))
        return toy_loss(model, batch)


class Listening(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def model_of(run: Run) -> dict[str, Tensor]:
    return load_checkpoint(run.folder.checkpoint)["model"]


def test_halved_micro_batches_give_the_same_result_to_rounding(tmp_path: Path) -> None:
    roomy, tight = Run.at(tmp_path / "roomy"), Run.at(tmp_path / "tight")
    progress = Listening()
    roomy.start(batches=ToyBatches(micro=6), model=toy_net(dropout=0.0)).run()
    allocator = Allocator(samples=2, from_call=5)
    tight.start(
        batches=ToyBatches(micro=6), model=toy_net(dropout=0.0), progress=progress, loss=allocator
    ).run()
    assert allocator.refusals == 2  # 6 samples → 3 → 1
    assert [message for message in progress.messages if "memory" in message] == [
        f"the memory does not suffice; going on with micro-batches of {tokens} tokens" for tokens in (12, 4)
    ]
    assert max(allocator.sizes[:4]) == 6
    assert max(allocator.sizes[4:]) == 1
    assert largest_difference(model_of(roomy), model_of(tight)) < 1e-5
    assert largest_difference(model_of(roomy), toy_net(dropout=0.0).state_dict()) > 1e-2
    for first, second in zip(roomy.rows("val"), tight.rows("val"), strict=True):
        assert first["step"] == second["step"]
        assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=1e-5)
        assert first["tokens_seen"] == second["tokens_seen"]


def test_a_run_that_was_halved_equals_one_that_began_so_to_the_bit(tmp_path: Path) -> None:
    """The failed attempt leaves no trace: no gradient, no random number drawn, no sample seen twice."""
    small, halved = Run.at(tmp_path / "small"), Run.at(tmp_path / "halved")
    small.start(batches=ToyBatches(micro=3)).run()
    allocator = Allocator(samples=3)
    halved.start(batches=ToyBatches(micro=6), loss=allocator).run()
    assert allocator.refusals == 1
    assert same_bits(model_of(small), model_of(halved))
    assert small.rows("train") == halved.rows("train")


def test_the_size_is_kept_on_resume(tmp_path: Path) -> None:
    whole, cut = Run.at(tmp_path / "whole"), Run.at(tmp_path / "cut")
    whole.start(batches=ToyBatches(micro=6), loss=Allocator(samples=3, from_call=3)).run()
    stop = StopAt()

    def stopping(epoch: int, index: int) -> None:
        if (epoch, index) == (1, 2):
            stop.now()

    with pytest.raises(SystemExit):
        cut.start(
            batches=ToyBatches(micro=6, on_step=stopping),
            loss=Allocator(samples=3, from_call=3),
            stop_signal=stop,
        ).run()
    saved = load_checkpoint(cut.folder.checkpoint)["loop"]
    assert 0 < saved["step"] < 12
    assert saved["tokens_per_micro_batch"] == 12
    again = Allocator(samples=3)
    cut.start(batches=ToyBatches(micro=6), loss=again).run()
    assert again.refusals == 0
    assert same_bits(model_of(whole), model_of(cut))
    assert whole.rows("train") == cut.rows("train")


def test_a_size_that_the_config_fixes_stands_above_the_stored_one(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    run.start(batches=ToyBatches(micro=6), loss=Allocator(samples=3), epochs=1).run()
    batches = ToyBatches(micro=2)
    run.start(batches=batches, may_shrink=False)
    assert batches.tokens_per_micro_batch == 8
    run.start(batches=batches)
    assert batches.tokens_per_micro_batch == 12


@pytest.mark.parametrize(
    ("may_shrink", "samples", "words"),
    [
        (False, 3, ["micro-batches of 24 tokens", "lower training.tokens_per_micro_batch or set it to auto"]),
        (True, 0, ["a single sample", "gradient_checkpointing=true"]),
    ],
)
def test_where_nothing_can_be_halved_the_setting_is_named_and_the_steps_are_kept(
    tmp_path: Path, may_shrink: bool, samples: int, words: list[str]
) -> None:
    run = Run.at(tmp_path)
    allocator = Allocator(samples=samples, from_call=7)
    with pytest.raises(ConfigError) as caught:
        run.start(batches=ToyBatches(micro=6), loss=allocator, may_shrink=may_shrink, save_every=None).run()
    assert caught.value.exit_code == 2
    assert len(caught.value.lines) == 1
    for word in [*words, "CUDA out of memory"]:
        assert word in str(caught.value)
    assert "chunking." not in str(caught.value), "a key that pretraining lacks"
    saved = load_checkpoint(run.folder.checkpoint)["loop"]
    assert saved["step"] == 6
    roomy = Run.at(tmp_path / "roomy")
    roomy.start(batches=ToyBatches(micro=6)).run()
    if not may_shrink:  # with more memory it goes on as if nothing had been
        run.start(batches=ToyBatches(micro=6), may_shrink=False).run()
        assert same_bits(model_of(roomy), model_of(run))
