"""kill -9 in each number format and with each number of threads: the same bits as undisturbed in that one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

from torture.bench import TASKS, Bench, Ended, Result, differences
from torture.kills import KILLS_PER_RUN, PLACES, kill_runs

FORMATS: dict[str, dict[str, Any]] = {
    "fp32": {"training.use_amp": False},
    "bf16": {"training.use_amp": True, "training.amp_dtype": "bf16"},
}
Kind = tuple[str, int, str]  # task, threads, format
KINDS: tuple[Kind, ...] = tuple(product(TASKS, (1, 2), FORMATS))

# wide enough for torch to divide most of its work among threads, which it does from 32,768 elements on
_WIDE = {
    "architecture.embedding_dim": 128,
    "architecture.ffn_dim": 512,
    "architecture.attention.num_heads": 4,
}


def kill_in_formats(bench: Bench, *, runs: int, seed: int, kinds: Sequence[Kind] = KINDS) -> Result:
    """Let ``kill_runs`` loose on runs of each kind.

    Args:
        bench: where.
        runs: how many of each kind.
        seed: of the places.
        kinds: which.
    """
    result = Result("kill -9, with 1 and 2 threads, in fp32 and bf16")
    wide = bench.new_run("pretrain")
    ended = bench.train("pretrain", wide, settings=_WIDE)
    assert ended.code == 0, ended.output
    of_task: dict[str, dict[str, Any]] = {"pretrain": _WIDE, "finetune": {"pretrained_experiment.path": wide}}
    references: dict[Kind, tuple[dict[str, Any], Ended]] = {}
    seen: Counter[str] = Counter()
    for kind in kinds:
        task, threads, name = kind
        settings = {**of_task[task], **FORMATS[name], "training.num_threads": threads}
        references[kind] = bench.reference(task, settings=settings)
        shown = kill_runs(bench, task, runs=runs, seed=seed, settings=settings)
        result.cases += shown.cases
        result.passed += shown.passed
        result.faults += [f"{kind}: {fault}" for fault in shown.faults]
        result.facts[f"{task} {threads}× {name}"] = f"{shown.passed} of {shown.cases}"
        places = ("kills", *(f"resumed {place}" for place in PLACES[task]))
        seen.update({place: int(str(shown.facts[place])) for place in places})
    result.facts |= seen
    result.faults += _without_effect(references)
    if seen["kills"] >= KILLS_PER_RUN * len(KINDS):
        result.faults += [f"nothing was {place}" for place, count in seen.items() if not count]
    return result


def _without_effect(references: dict[Kind, tuple[dict[str, Any], Ended]]) -> list[str]:
    """Return which of the settings did nothing, so that nothing was shown about them."""
    faults = []
    for kind, (_, ended) in references.items():
        if (ended.threads > 1) != (kind[1] > 1):
            faults.append(f"{kind}: {ended.threads} threads were at work")
    for (kind, (first, _)), (other, (second, _)) in combinations(references.items(), 2):
        if kind[:2] == other[:2] and "another model" not in differences(first, second):
            faults.append(f"{kind} and {other} give the same weights")
    return faults
