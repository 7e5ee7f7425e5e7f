"""kill -9 at random places: every run ends as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from torture.bench import SAVE_EVERY, Bench, Result, saved_loop
from torture.hook import PHASES

KILLS_PER_RUN = 3

# where runs are gone on from, by task
PLACES = {
    "pretrain": ("from nothing", "inside an epoch"),
    "finetune": ("from nothing", "inside an epoch", "with the encoder frozen"),
}
_ENOUGH_FOR_EVERY_PLACE = 20


def kill_runs(bench: Bench, task: str, *, runs: int, seed: int, **more: Any) -> Result:
    """Kill each of ``runs`` runs several times, let it end, and compare it with an undisturbed one.

    Phases take turns in a random order, the event within the phase is drawn; the seed decides both.

    Args:
        bench: where.
        task: ``pretrain`` or ``finetune``.
        runs: how many.
        seed: of the places.
        more: see ``Bench.run``.
    """
    result = Result(f"kill -9 at random points, {task}")
    counts = bench.reference(task, **more)[1].counts
    phases = _turns(Random(f"{seed}/{task}"))
    landed: Counter[str] = Counter()
    resumed: Counter[str] = Counter()
    for number in range(runs):
        random = Random(f"{seed}/{task}/{number}")
        folder = bench.new_run(task)
        faults: list[str] = []
        saved = 0
        # a kill in the shutdown comes last: after it nothing is left to be killed in
        plan = sorted((next(phases) for _ in range(KILLS_PER_RUN)), key=lambda phase: phase == "shutdown")
        moments = [(phase, random.randint(1, _reach(phase, counts))) for phase in plan]
        for phase, moment in moments:
            ended = bench.train(task, folder, hook={"phase": phase, "moment": moment}, **more)
            if not ended.struck:
                break  # the run was over before; the count of kills shows how often
            landed[ended.struck[0]["phase"]] += 1
            try:
                loop = saved_loop(folder)
            except Exception as fault:
                faults.append(f"no checkpoint loads after the kill: {fault}")
                break
            resumed.update(_kinds_of_place(loop, task))
            faults += _work_lost(ended.struck[0], before=saved, after=0 if loop is None else loop["step"])
            saved = 0 if loop is None else loop["step"]
        faults += bench.finish_and_compare(task, folder, **more)
        result.case(faults, f"seed {seed}, {task} run {number}, killed at {moments}")
    result.facts = {"kills": landed.total(), **{f"in {phase}": landed[phase] for phase in PHASES}}
    result.facts |= {f"resumed {kind}": resumed[kind] for kind in PLACES[task]}
    if runs * KILLS_PER_RUN >= len(PHASES):
        result.faults += [f"no kill landed in the phase {phase!r}" for phase in PHASES if not landed[phase]]
    if runs >= _ENOUGH_FOR_EVERY_PLACE:
        result.faults += [f"no run was resumed {kind}" for kind in PLACES[task] if not resumed[kind]]
    if landed.total() < 2 * runs:
        result.faults.append(f"only {landed.total()} kills landed in {runs} runs")
    return result


def _turns(random: Random) -> Any:
    while True:
        yield from random.sample(PHASES, len(PHASES))


def _reach(phase: str, counts: dict[str, int]) -> int:
    """Return how far into a phase to go; where a run is there often, something is left for other kills."""
    if phase == "start-up":
        return counts[phase] * 9 // 10  # the first one, which is counted, is longer than those after it
    return counts[phase] if phase == "shutdown" else counts[phase] // KILLS_PER_RUN


def _work_lost(struck: dict[str, Any], *, before: int, after: int) -> list[str]:
    """Return what is wrong with the steps saved ``before`` and ``after`` a start and its kill.

    The bits at the end would be the same if each start began from nothing, or if nothing was ever saved.
    """
    faults = []
    if struck["began"] not in (None, before):
        faults.append(f"step {before} was saved, but the run went on from {struck['began']}")
    begun = before + struck["steps"]
    if not (begun - 1) // SAVE_EVERY * SAVE_EVERY <= after <= begun:
        faults.append(f"step {begun} was begun, but step {after} is the last one saved")
    return faults


def _kinds_of_place(loop: dict[str, Any] | None, task: str) -> list[str]:
    """Return which of ``PLACES`` a run goes on from whose last checkpoint has this state of the loop."""
    if loop is None:
        return ["from nothing"]
    epoch, step = divmod(loop["position"], loop["steps_per_epoch"])
    kinds = ["inside an epoch"] if step else []
    # the bench's finetuning trains the head alone in its first epoch
    return kinds + (["with the encoder frozen"] if task == "finetune" and step and epoch == 0 else [])
