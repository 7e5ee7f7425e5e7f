"""What checkpoints cost, and what they are worth to a run that is killed again and again."""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from torture.bench import PATIENCE, Bench, Result, saved_step, seconds_computed, set_options

from textclf_transformer.config.keys import fields_of
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

DEFAULTS = fields_of("pretraining")
SAVE_EVERY = int(DEFAULTS["training.save_every"].default)
SAVE_SECONDS = 60 * float(DEFAULTS["training.save_minutes"].default)
MOST = 0.02

# the architecture of the template; every evaluation saves the best weights as well
_RUN: dict[str, Any] = {"training.batch_size": 32, "logging.log_every": 1, "logging.eval_every": 50}


def cost_of_saving(bench: Bench, *, steps: int = 20, saves: int = 7) -> Result:
    """Time steps and saves of a run with the template's architecture, whose short rows make short steps.

    Args:
        bench: where.
        steps: that are timed.
        saves: that are timed.
    """
    result = Result("checkpoints at the default cadence take less than 2 % of a run's time")
    folder = _large_run(bench, "cost", epochs=-(-steps // 4), save_every=1000)
    ended = bench.train("pretrain", folder)
    assert ended.code == 0, ended.output
    seconds = [float(row["elapsed_seconds"]) for row in _rows(folder)]
    step = statistics.median(after - before for before, after in pairwise(seconds))
    state = load_checkpoint(folder / "model.ckpt")
    del state["metrics"]  # for show only: these files are read by nobody
    times = []
    for _ in range(saves):
        started = time.perf_counter()
        save_checkpoint(folder / "timed.ckpt", state, keep_previous=folder / "timed.ckpt.prev")
        times.append(time.perf_counter() - started)
    save = statistics.median(times)
    between = min(SAVE_EVERY * step, SAVE_SECONDS)
    share = 2 * save / (between + 2 * save)  # the state, and at most as often the best weights
    result.case([] if share < MOST else [f"{share:.2%} of the time"], "cost of saving")
    size = (folder / "timed.ckpt").stat().st_size
    result.facts = {
        "size of a checkpoint": f"{size / 1e6:.1f} MB",
        "a save": f"{save:.3f} s",
        "a step": f"{step:.3f} s",
        "time between two saves": f"{between:.0f} s",
        "share of the run, state and best weights": f"{share:.2%}",
    }
    return result


def work_kept(bench: Bench, *, kills: int, seconds: float = 20.0, save_minutes: float = 0.05) -> Result:
    """Kill a run, the real command with its imports, every ``seconds``; count the steps that were made twice.

    The seconds are those that the process computed, which on an idle machine are those of the clock.

    Args:
        bench: where.
        kills: how many.
        seconds: between a start and its kill.
        save_minutes: the cadence of the saves.
    """
    result = Result(
        f"work kept under a kill every {seconds:.0f} s of computing, a save every {60 * save_minutes:.0f} s"
    )
    folder = _large_run(bench, "kept", epochs=100_000, save_every="null", save_minutes=save_minutes)
    done = lost = 0
    for number in range(kills):
        log = (bench.root / "kept.txt").open("wb")
        process = subprocess.Popen(
            [sys.executable, "pretrain.py", folder.name, "--quiet"],
            cwd=bench.root,
            env=bench.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None and seconds_computed(process.pid) < seconds:
            time.sleep(0.05)
        faults = [] if process.poll() is None else [f"the run ended: {(bench.root / 'kept.txt').read_text()}"]
        process.kill()
        process.wait(timeout=PATIENCE)
        log.close()
        reached = max((int(row["step"]) for row in _rows(folder)), default=0)
        saved = saved_step(folder) or 0
        faults += [] if saved > done else [f"no step was kept: {saved} after {done}"]
        result.case(faults, f"kill {number}")
        lost += max(reached - saved, 0)
        done = saved
    result.facts = {
        "steps kept": done,
        "steps lost and made again": lost,
        "share of the steps kept": f"{done / max(done + lost, 1):.1%}",
    }
    return result


def _large_run(bench: Bench, name: str, *, epochs: int, **training: Any) -> Path:
    data = {f"data.{split}.dataset_path": bench.root / "store" / split for split in ("train", "val")}
    values = {"tokenizer.vocab_dir": bench.root / "tokenizer", **data, **_RUN, "training.epochs": epochs}
    values |= {f"training.{key}": value for key, value in training.items()}
    bench.do("experiments.generate_pretraining_experiment", name, *set_options(values))
    return bench.root / "experiments" / "pretraining" / name


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "metrics" / "train" / "metrics.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["elapsed_seconds"]]  # the last may be cut off
