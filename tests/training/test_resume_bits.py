"""A run that was cut off anywhere ends with the same bits as one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Run, StopAt, ToyBatches, interrupting, same_bits, toy_evaluate, toy_loss

from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.progress import Progress

SETTINGS: dict[str, Any] = {"log_every": 3, "eval_every": 5}


class PowerCut(Exception):
    """The process ends here, without a chance to save."""


def assert_same_run(first: Run, second: Run) -> None:
    for name in ("checkpoint", "best_checkpoint"):
        one, other = (load_checkpoint(getattr(run.folder, name)) for run in (first, second))
        assert same_bits(one, other), name
    for split in ("train", "val"):
        assert first.rows(split) == second.rows(split)


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    run = Run.at(tmp_path / "whole")
    run.start(**SETTINGS).run()
    return run


class StopAfter(Progress):
    """Asks to stop during the n-th step of this session, as a signal handler would."""

    def __init__(self, steps: int, stop: StopAt) -> None:
        super().__init__(quiet=True)
        self.left, self.stop = steps, stop

    def advance(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.now()


def stopped(run: Run, *, after: int, code: int = 143, **changes: Any) -> None:
    """Start a session and stop it in its ``after``-th step."""
    stop = StopAt(code)
    with pytest.raises(SystemExit) as caught:
        run.start(progress=StopAfter(after, stop), stop_signal=stop, **{**SETTINGS, **changes}).run()
    assert caught.value.code == code


@pytest.mark.parametrize("code", [130, 143])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 12])
def test_a_signal_saves_at_the_end_of_its_step_and_the_resume_has_the_same_bits(
    tmp_path: Path, whole: Run, step: int, code: int
) -> None:
    run = Run.at(tmp_path / "stopped")
    stopped(run, after=step, code=code)
    saved = load_checkpoint(run.folder.checkpoint)
    assert saved["loop"]["step"] == step
    assert len(run.rows("val")) == (step - 1) // 5  # one that is due at this very step is not begun
    assert not same_bits(saved["model"], load_checkpoint(whole.folder.checkpoint)["model"]) or step == 12
    run.start(**SETTINGS).run()
    assert_same_run(run, whole)


def test_many_stops_in_one_epoch(tmp_path: Path, whole: Run) -> None:
    run = Run.at(tmp_path / "stopped")
    for _ in range(11):
        stopped(run, after=1)
    assert run.start(**SETTINGS).run().step == 12
    assert_same_run(run, whole)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_signal_in_an_evaluation_gives_it_up_and_the_resume_makes_it_up(
    tmp_path: Path, whole: Run, call: int
) -> None:
    run, stop = Run.at(tmp_path / "stopped"), StopAt()
    with pytest.raises(SystemExit):
        run.start(evaluate=interrupting(toy_evaluate, stop, at_call=call), stop_signal=stop, **SETTINGS).run()
    saved = load_checkpoint(run.folder.checkpoint)
    assert (saved["loop"]["step"], len(run.rows("val"))) == ([5, 10, 12][call - 1], call - 1)
    assert not saved["loop"]["finished"]
    run.start(**SETTINGS).run()
    assert_same_run(run, whole)


@pytest.mark.parametrize("call", [3, 9, 10, 16, 20])
def test_a_power_cut_goes_back_to_the_last_save_and_repeats_no_row(
    tmp_path: Path, whole: Run, call: int
) -> None:
    run, calls = Run.at(tmp_path / "cut"), iter(range(1, 1000))

    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        if next(calls) == call:
            raise PowerCut
        return toy_loss(model, batch)

    with pytest.raises(PowerCut):
        run.start(loss=loss, save_every=2, **SETTINGS).run()
    with run.folder.train_metrics.open("ab") as stream:
        stream.write(b"11,2.75,tra")  # the row that was being written
    run.start(**SETTINGS).run()
    assert_same_run(run, whole)


def test_a_power_cut_between_the_best_and_the_state_that_names_it(tmp_path: Path, whole: Run) -> None:
    run = Run.at(tmp_path / "cut")
    loop = run.start(save_every=2, **SETTINGS)
    save_best = loop.checkpointer.save_best

    def save_and_die(state: Any) -> None:
        save_best(state)
        raise PowerCut

    loop.checkpointer.save_best = save_and_die  # type: ignore[method-assign]
    with pytest.raises(PowerCut):
        loop.run()
    assert load_checkpoint(run.folder.checkpoint)["loop"]["best_step"] is None
    run.start(**SETTINGS).run()
    assert_same_run(run, whole)


def test_a_damaged_state_goes_back_to_the_one_before(tmp_path: Path, whole: Run) -> None:
    run = Run.at(tmp_path / "damaged")
    stopped(run, after=8, save_every=3)
    content = bytearray(run.folder.checkpoint.read_bytes())
    run.folder.checkpoint.write_bytes(content[: len(content) // 2])
    run.start(**SETTINGS).run()
    assert "the state before the last one" in run.warnings[0]
    assert_same_run(run, whole)


def test_a_finished_run_is_left_alone(whole: Run) -> None:
    folder = whole.folder.root
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with whole.folder.eval_metrics.open("a", encoding="utf-8") as stream:
        stream.write("12,3.0,test,0.5,,,,,\n")  # by whoever evaluates the test split afterwards
    before[whole.folder.eval_metrics] = whole.folder.eval_metrics.stat().st_mtime_ns
    assert whole.start(batches=ToyBatches(on_step=lambda *_: pytest.fail("prepared a step"))).run().step == 12
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_more_epochs_go_on_from_the_end(whole: Run) -> None:
    seen: list[tuple[int, int]] = []
    batches = ToyBatches(on_step=lambda epoch, index: seen.append((epoch, index)))
    assert whole.start(epochs=5, batches=batches, **SETTINGS).run().step == 20
    assert seen == [(3, n) for n in range(4)] + [(4, n) for n in range(4)]
    assert [int(row["step"]) for row in whole.rows("train")] == [3, 6, 9, 12, 15, 18, 20]
    assert [int(row["step"]) for row in whole.rows("val")] == [5, 10, 12, 15, 20]


def test_another_batch_size_goes_on_at_the_same_share_of_the_epochs(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    stopped(run, after=6)
    seen: list[tuple[int, int]] = []
    batches = ToyBatches(samples_per_step=3, on_step=lambda epoch, index: seen.append((epoch, index)))
    state = run.start(batches=batches).run()
    assert seen[0] == (1, 3)  # step 6 of 4 an epoch is the middle of the second; now an epoch has 7
    assert seen[-1] == (2, 6)
    assert state.step == 6 + len(seen) == 17  # the count of steps goes on


class Overflowing(torch.autograd.Function):
    """Lets the gradient of the first call of a session overflow once it is scaled."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * torch.inf


def test_the_scale_of_fp16_gradients_survives(tmp_path: Path) -> None:
    """A resumed run that began with the first scale again would overflow, and so skip updates, anew."""

    def loss(model: Any, batch: Any) -> torch.Tensor:
        value = toy_loss(model, batch)
        return Overflowing.apply(value) if 3 in batch.sample_indices else value

    settings: dict[str, Any] = {"amp_dtype": torch.float16, "loss": loss}
    whole, cut = Run.at(tmp_path / "whole"), Run.at(tmp_path / "cut")
    whole.start(**{**SETTINGS, **settings}).run()
    stopped(cut, after=7, **settings)
    scale = load_checkpoint(cut.folder.checkpoint)["scaler"]["scale"]
    assert scale < load_checkpoint(whole.folder.checkpoint)["scaler"]["scale"] * 16
    assert scale < torch.amp.GradScaler("cpu").get_scale()
    cut.start(**{**SETTINGS, **settings}).run()
    assert_same_run(cut, whole)
    assert load_checkpoint(whole.folder.checkpoint)["scaler"]["scale"] < scale
