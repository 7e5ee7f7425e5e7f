"""SIGTERM and Ctrl-C, once and twice, wherever a run may be."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from torture.bench import PATIENCE, TASKS, Bench, Ended, Result, saved_step, seconds_computed

# where the signal is sent → the phases of the hook; "imports" are those of a real command
PLACES = {
    "training": ("step", "accumulation", "between steps"),
    "evaluation": ("evaluation",),
    "saving": ("save",),
    "start-up": ("start-up",),
    "imports": (),
}
# signals in the order in which they come
KINDS = (("SIGTERM",), ("SIGINT",), ("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"))
IMPORT_SECONDS = (0.1, 2.0)  # of processor time; before that Python itself begins


def stop_runs(bench: Bench, *, cases: int, seed: int) -> Result:
    """Send each run one signal or two at a drawn place; look at the exit code, the checkpoint, and the end.

    Args:
        bench: where.
        cases: how many runs.
        seed: of the places.
    """
    result = Result("SIGTERM, SIGINT, two of them")
    landed: Counter[str] = Counter()
    for number in range(cases):
        random = Random(f"{seed}/{number}")
        place = list(PLACES)[number % len(PLACES)]
        kind = KINDS[(number + number // len(KINDS)) % len(KINDS)]
        task = TASKS[number // len(PLACES) % 2]
        folder = bench.new_run(task)
        ended = (
            _stop_imports(bench, task, folder, kind[0], random.uniform(*IMPORT_SECONDS))
            if place == "imports"
            else _stop_by_hook(bench, task, folder, kind, random.choice(PLACES[place]), random)
        )
        faults = _faults(folder, ended, steps=bench.reference(task)[0]["loop"]["step"])
        if ended.struck:
            landed[place] += 1
            landed["twice"] += len(ended.struck) == 2
        faults += bench.finish_and_compare(task, folder)
        where = [line["where"] for line in ended.struck]
        result.case(faults, f"seed {seed}, case {number}, {task}, {'+'.join(kind)} in {place} at {where}")
    seen = {f"in {place}": landed[place] for place in PLACES}
    result.facts = {**seen, "second signal came before the end": landed["twice"]}
    result.faults += [f"no signal landed {place}" for place, count in seen.items() if not count]
    if not landed["twice"]:
        result.faults.append("no second signal landed")
    return result


def _stop_by_hook(
    bench: Bench, task: str, folder: Path, kind: tuple[str, ...], phase: str, random: Random
) -> Ended:
    counts = bench.reference(task)[1].counts
    hook = {"phase": phase, "moment": random.randint(1, counts[phase]), "action": kind[0]}
    if len(kind) == 2:
        # soon, so that most come before the first has led to the end
        hook["again"] = (random.randint(1, 3000), kind[1])
    return bench.train(task, folder, hook=hook)


def _stop_imports(bench: Bench, task: str, folder: Path, name: str, seconds: float) -> Ended:
    process = subprocess.Popen(
        [sys.executable, f"{task}.py", folder.name, "--quiet"],
        cwd=bench.root,
        env=bench.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and seconds_computed(process.pid) < seconds:
        time.sleep(0.002)
    struck = [{"phase": "imports", "action": name, "where": f"{seconds:.3f} s", "steps": 0}]
    struck = struck if process.poll() is None else []
    process.send_signal(signal.Signals[name])
    output, _ = process.communicate(timeout=PATIENCE)
    return Ended(code=process.returncode, output=output, struck=struck, counts={})


def _faults(folder: Path, ended: Ended, *, steps: int) -> list[str]:
    """Return what is wrong right after the stop of a run of ``steps`` steps."""
    faults = ["a traceback"] if "Traceback" in ended.output else []
    report = folder / "run.json"
    finished = report.exists() and json.loads(report.read_text())["status"] == "finished"
    if not ended.struck:
        return faults + (
            [] if ended.code == 0 else [f"exit {ended.shell_code} without a signal: {ended.output}"]
        )
    codes = {128 + signal.Signals[ended.struck[-1]["action"]]}
    first = ended.struck[0]
    if finished and first["steps"] == steps and first["phase"] in ("evaluation", "save", "between steps"):
        codes.add(0)  # it came when nothing was left to be stopped
    if ended.shell_code not in codes:
        faults.append(f"exit {ended.shell_code}, not one of {codes}: {ended.output.strip()}")
    # once: the step in hand is done and saved; twice: what was saved before is there
    once = len(ended.struck) == 1
    step = saved_step(folder)
    if once and first["phase"] not in ("start-up", "imports") and (step is None or step < first["steps"]):
        faults.append(f"step {first['steps']} was begun, but step {step} is what was saved")
    return faults
