from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Run, ToyBatch, ToyBatches, same_bits, toy_evaluate, toy_loss

from textclf_transformer.errors import NonFiniteError, StorageError
from textclf_transformer.training import checkpointer as checkpointer_module
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.progress import Progress
from textclf_transformer.training.schedule import cosine_with_warmup
from textclf_transformer.training.state import LoopState

STEPS = 12  # 3 epochs of 4 steps


def test_one_batch_can_be_overfit(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    run.start(batches=ToyBatches(samples_per_step=20, micro=20), epochs=150, eval_every=150).run()
    assert float(run.rows("val")[-1]["loss"]) < 0.1
    assert float(run.rows("train")[0]["loss"]) > 0.8


def test_the_log_is_the_exact_mean_over_targets_and_follows_the_schedule(tmp_path: Path) -> None:
    sums: list[float] = []
    counts: list[int] = []

    def recording(model: nn.Module, batch: ToyBatch) -> Tensor:
        loss = toy_loss(model, batch)
        sums.append(float(loss.detach()))
        counts.append(batch.num_targets)
        return loss

    class Marking(Progress):
        def show(self, row: Any) -> None:
            ends.append(len(sums))

    ends = [0]
    run = Run.at(tmp_path)
    run.start(loss=recording, log_every=4, progress=Marking(quiet=True)).run()
    rows = run.rows("train")
    assert [(row["step"], row["epoch"]) for row in rows] == [("4", "1.0"), ("8", "2.0"), ("12", "3.0")]
    for row, start, stop in zip(rows, ends[:-1], ends[1:], strict=True):
        part = slice(start, stop)
        assert float(row["loss"]) == pytest.approx(sum(sums[part]) / sum(counts[part]), rel=1e-12)
        factor = cosine_with_warmup(int(row["step"]) - 1, total_steps=STEPS, warmup_steps=2)
        assert float(row["learning_rate"]) == 0.05 * factor
    assert [row["tokens_seen"] for row in rows] == ["80", "160", "240"]


def test_each_epoch_sees_each_step_once_in_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run = Run.at(tmp_path)
    run.start(batches=ToyBatches(on_step=lambda epoch, index: seen.append((epoch, index)))).run()
    assert seen == [(epoch, index) for epoch in range(3) for index in range(4)]


@pytest.mark.parametrize(("eval_every", "steps"), [(5, [5, 10, 12]), (None, [4, 8, 12]), (100, [12])])
def test_evaluation_cadence_and_always_at_the_end(
    tmp_path: Path, eval_every: int | None, steps: list[int]
) -> None:
    run = Run.at(tmp_path)
    run.start(eval_every=eval_every).run()
    assert [int(row["step"]) for row in run.rows("val")] == steps


def test_evaluation_and_saving_do_not_change_the_training(tmp_path: Path) -> None:
    def evaluate_wildly(model: nn.Module) -> dict[str, float]:
        torch.rand(5)
        return toy_evaluate(model)

    quiet, busy = Run.at(tmp_path / "quiet"), Run.at(tmp_path / "busy")
    quiet.start(evaluate=None, save_every=None).run()
    busy.start(evaluate=evaluate_wildly, eval_every=1, save_every=1, save_minutes=0.0).run()
    assert quiet.rows("train") == busy.rows("train")
    first, second = load_checkpoint(quiet.folder.checkpoint), load_checkpoint(busy.folder.checkpoint)
    assert same_bits(first["model"], second["model"])
    assert same_bits(first["optimizer"], second["optimizer"])


def scripted(values: list[float], losses: Iterable[float] = itertools.repeat(1.0)) -> Any:
    calls = zip(values, losses, strict=False)
    return lambda model: dict(zip(("accuracy", "loss"), next(calls), strict=True))


def test_the_best_is_kept_by_the_chosen_metric(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    values = [0.5, 0.7, math.nan, 0.7, 0.6, 0.1]
    loop = run.start(evaluate=scripted(values), eval_every=2, best_metric="accuracy", best_mode="max")
    state = loop.run()
    best = load_checkpoint(run.folder.best_checkpoint)
    assert (state.best_metric, state.best_step, best["step"]) == (
        0.7,
        4,
        4,
    )  # an equal value at an equal loss is no improvement
    assert best["metrics"]["accuracy"] == 0.7
    assert best["config"] == {"a": 1}
    assert not same_bits(best["model"], load_checkpoint(run.folder.checkpoint)["model"])


def test_of_equal_ones_the_lower_loss_is_the_best_and_counts_as_an_improvement(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    losses = [0.8, 0.7, 0.9, math.nan, 0.6, 0.65]
    loop = run.start(
        evaluate=scripted([0.0] * 6, losses),
        eval_every=2,
        best_metric="accuracy",
        best_mode="max",
        early_stopping_patience=3,
    )
    state = loop.run()
    assert (state.best_metric, state.best_loss, state.best_step) == (0.0, 0.6, 10)
    assert load_checkpoint(run.folder.best_checkpoint)["step"] == 10
    assert state.step == STEPS  # nothing stopped it


def test_the_state_of_an_older_version_knows_no_loss_of_its_best() -> None:
    state = LoopState(step=3, best_metric=0.5, best_loss=0.1, best_step=2).state_dict()
    del state["best_loss"]
    older = LoopState.from_state_dict(state)
    assert older.best_loss is None and not older.count_evaluation(0.5, 0.01, mode="max")
    assert older.count_evaluation(0.6, 0.02, mode="max") and older.best_loss == 0.02


def test_early_stopping(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    settings: dict[str, Any] = {"eval_every": 2, "best_metric": "accuracy", "best_mode": "max"}
    state = run.start(
        evaluate=scripted([0.5, 0.7, 0.6, 0.7, 0.9]), early_stopping_patience=2, **settings
    ).run()
    assert (state.step, state.evaluations_without_improvement) == (8, 2)
    assert load_checkpoint(run.folder.checkpoint)["loop"]["finished"]
    # a rerun stays stopped; with more patience it goes on
    assert run.start(evaluate=scripted([]), early_stopping_patience=2, **settings).run().step == 8
    assert run.start(evaluate=scripted([0.1] * 9), early_stopping_patience=9, **settings).run().step == STEPS


def test_a_run_that_was_stopped_early_has_ended_without_its_best_too(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    settings: dict[str, Any] = {"eval_every": 2, "early_stopping_patience": 2}
    run.start(evaluate=scripted([0.5, 0.6, 0.7]), best_metric="accuracy", best_mode="min", **settings).run()
    again = run.start(evaluate=scripted([]), best_metric="accuracy", best_mode="min", **settings)
    assert again.finished
    again.state.forget_best()
    assert again.state.best_step is None and again.finished


def test_a_loss_that_is_not_finite_leaves_the_good_checkpoint(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    calls = iter(range(1000))

    def breaking(model: nn.Module, batch: ToyBatch) -> Tensor:
        return toy_loss(model, batch) * (math.nan if next(calls) >= 13 else 1.0)

    with pytest.raises(NonFiniteError) as caught:
        run.start(loss=breaking, save_every=2, save_minutes=0.0).run()
    assert caught.value.exit_code == 5
    saved = load_checkpoint(run.folder.checkpoint)
    assert saved["loop"]["step"] > 0
    assert all(bool(tensor.isfinite().all()) for tensor in saved["model"].values())
    plain = Run.at(tmp_path / "plain")
    plain.start().run()
    run.start().run()  # with the cause mended, the run goes on as if nothing had been
    assert same_bits(load_checkpoint(run.folder.checkpoint), load_checkpoint(plain.folder.checkpoint))


class Disk:
    """Refuses the saves whose numbers are given, counted from 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refused: set[int], best: bool = False) -> None:
        self.attempts = 0
        save = checkpointer_module.save_checkpoint

        def saving(path: Path, *args: Any, **kwargs: Any) -> None:
            if (path.name == "best.ckpt") == best:
                self.attempts += 1
                if self.attempts in refused:
                    raise StorageError("the disk is full", where=str(path))
            save(path, *args, **kwargs)

        monkeypatch.setattr(checkpointer_module, "save_checkpoint", saving)


def test_a_failed_save_is_survived_and_tried_again_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.at(tmp_path)
    disk = Disk(monkeypatch, refused={2, 3})
    saved_at: list[int] = []
    loop = run.start(
        save_every=4, evaluate=None, batches=ToyBatches(on_step=lambda *_: saved_at.append(disk.attempts))
    )
    loop.run()
    assert disk.attempts == 5  # at step 4; at 8 (refused), 9 (refused), 10; at the end
    assert [warning.split(":")[0] for warning in run.warnings] == [
        "saving failed and is tried again after each step",
        "saving works again",
    ]


def test_the_first_save_and_the_last_must_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, refused={1})
    with pytest.raises(StorageError) as caught:
        Run.at(tmp_path / "first").start(save_every=4, evaluate=None).run()
    assert caught.value.exit_code == 6
    monkeypatch.undo()
    Disk(monkeypatch, refused={2})
    run = Run.at(tmp_path / "last")
    with pytest.raises(StorageError):
        run.start(save_every=8, evaluate=None).run()
    assert load_checkpoint(run.folder.checkpoint)["loop"]["step"] == 8


def test_best_weights_that_the_disk_refused_are_written_later_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Run.at(tmp_path / "good"), Run.at(tmp_path / "bad")
    settings: dict[str, Any] = {
        "best_metric": "accuracy",
        "best_mode": "max",
        "eval_every": 2,
        "save_every": 4,
    }
    good.start(evaluate=scripted([0.9] + [0.1] * 9), **settings).run()
    Disk(monkeypatch, refused={1}, best=True)
    bad.start(evaluate=scripted([0.9] + [0.1] * 9), **settings).run()
    assert same_bits(
        load_checkpoint(good.folder.best_checkpoint), load_checkpoint(bad.folder.best_checkpoint)
    )
    assert load_checkpoint(bad.folder.best_checkpoint)["step"] == 2


def test_saving_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, refused=set())
    Run.at(tmp_path / "often").start(save_every=None, save_minutes=0.0, evaluate=None).run()
    assert disk.attempts == STEPS
    Run.at(tmp_path / "never").start(save_every=None, save_minutes=60.0, evaluate=None).run()
    assert disk.attempts == STEPS + 1  # the end


def test_a_metric_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    settings: dict[str, Any] = {"best_metric": "accuracy", "best_mode": "max", "eval_every": 6}
    state = run.start(evaluate=scripted([math.nan, 0.2]), **settings).run()
    assert (state.best_metric, state.best_step) == (0.2, STEPS)


def test_an_evaluation_that_fails_at_the_end_does_not_cost_the_last_steps(tmp_path: Path) -> None:
    def fail(model: nn.Module) -> dict[str, float]:
        raise MemoryError

    run = Run.at(tmp_path)
    with pytest.raises(MemoryError):
        run.start(evaluate=fail, eval_every=STEPS, save_every=5).run()
    saved = load_checkpoint(run.folder.checkpoint)["loop"]
    assert (saved["step"], saved["finished"]) == (STEPS, False)
    run.start(eval_every=STEPS).run()
    assert [row["step"] for row in run.rows("val")] == ["12"]


def test_steps_without_any_target_are_a_warning(tmp_path: Path) -> None:
    class NoTargets(ToyBatches):
        def step(self, epoch: int, index: int, /) -> list[ToyBatch]:
            return [replace(b, labels=torch.full_like(b.labels, -100)) for b in super().step(epoch, index)]

    run = Run.at(tmp_path)
    run.start(batches=NoTargets()).run()
    assert [row["loss"] for row in run.rows("train")] == ["nan"] * 6
    assert len(run.warnings) == 1
    assert "no target in the steps up to 2" in run.warnings[0]
    Run.at(tmp_path / "usual").start().run()
    assert run.warnings[1:] == []
