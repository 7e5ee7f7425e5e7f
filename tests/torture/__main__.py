"""The long part of the torture suite: ``make torture``, or ``python -m torture`` with ``tests`` on the path.

Prints each row when it is done and puts the rows into docs/reliability.md. Ends with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from torture.bench import REPOSITORY, TASKS, Bench, Result
from torture.corruption import damage_files
from torture.costs import cost_of_saving, work_kept
from torture.formats import kill_in_formats
from torture.full_disk import fill_disks
from torture.kills import kill_runs
from torture.lost_disk import lose_disks
from torture.power_loss import cut_power
from torture.sabotage import catch_sabotage, pass_without_sabotage
from torture.stops import stop_runs
from torture.system_calls import SAVES, break_system_calls

from benchmarks.machine import code_commit
from benchmarks.measuring import hardware, write_between

PAGE = REPOSITORY / "docs" / "reliability.md"
START, END = "<!-- tables: made by make torture -->", "<!-- end of tables -->"


def rows(seed: int, share: float) -> dict[str, list[Callable[[Bench], Result]]]:
    """Return the rows of the suite by name, with ``share`` of their full number of cases."""

    def cases(full: int) -> int:
        return max(round(full * share), 1)

    sample = None if share >= 1 else cases(300)
    return {
        "kill": [partial(kill_runs, task=task, runs=cases(100), seed=seed) for task in TASKS],
        "calls": [partial(break_system_calls, saves=tuple(SAVES), sample=sample, seed=seed)],
        "power": [partial(cut_power, task=task, resumed=cases(20), seed=seed) for task in TASKS],
        "disk": [partial(fill_disks, sizes=cases(40))],
        "lost": [partial(lose_disks, cases=cases(40), seed=seed)],
        "stop": [partial(stop_runs, cases=cases(120), seed=seed)],
        "formats": [partial(kill_in_formats, runs=cases(5), seed=seed)],
        "damage": [partial(_damage, truncations=max(cases(64), 2), flips=cases(200), seed=seed)],
        "sabotage": [pass_without_sabotage, catch_sabotage],
        "cost": [cost_of_saving, partial(work_kept, kills=cases(6))],
    }


def main() -> int:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(prog="torture", description="The long part of the torture suite.")
    parser.add_argument("--seed", type=int, default=1, help="of all places and samples")
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of cases")
    parser.add_argument("--rows", nargs="+", choices=list(rows(0, 1)), help="only these")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "build" / "torture.jsonl")
    arguments = parser.parse_args()
    chosen = rows(arguments.seed, arguments.share)
    failed = False
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="torture") as folder, Bench(Path(folder) / "bench") as bench:
        for name in arguments.rows or chosen:
            for row in chosen[name]:
                started = time.monotonic()
                result = row(bench)
                minutes = (time.monotonic() - started) / 60
                if result.skipped is None and result.cases == 0:
                    result.faults.append("nothing was put to the test")
                failed |= bool(result.faults) or result.passed < result.cases
                print(_line(result), f"({minutes:.1f} min)", flush=True)
                print("".join(f"    {fault}\n" for fault in result.faults[:20]), end="", flush=True)
                _keep(arguments.results, result, seed=arguments.seed, minutes=minutes)
                write_between(PAGE, START, END, _tables(arguments.results))
    return int(failed)


def _damage(bench: Bench, *, truncations: int, flips: int, seed: int) -> Result:
    folder = bench.root / "damaged"
    folder.mkdir()
    return damage_files(folder, truncations=truncations, flips=flips, seed=seed)


def _keep(path: Path, result: Result, *, seed: int, minutes: float) -> None:
    """Add a row to the results; an older one of the same title goes."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["title"] != result.title]
    conditions = {
        "seed": seed,
        "minutes": round(minutes, 1),
        "commit": code_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "hardware": hardware(),
    }
    row = json.dumps({**asdict(result), **conditions, "faults": len(result.faults)}, ensure_ascii=False)
    path.write_text("".join(f"{line}\n" for line in [*kept, row]), encoding="utf-8")


def _line(result: Result) -> str:
    outcome = result.skipped or f"{result.passed}/{result.cases}"
    facts = "; ".join(f"{name}: {value}" for name, value in result.facts.items())
    return f"{result.title}: {outcome}" + (f" ({facts})" if facts else "")


def _tables(path: Path) -> str:
    """Return the results kept at ``path`` as Markdown."""
    results = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = ["| what was done | passed | figures | minutes | seed, commit, date |", "|---|---|---|---|---|"]
    for row in results:
        facts = "; ".join(f"{name}: {value}" for name, value in row["facts"].items())
        outcome = f"skipped: {row['skipped']}" if row["skipped"] else f"{row['passed']} of {row['cases']}"
        outcome += f", {row['faults']} faults" if row["faults"] else ""
        lines.append(
            f"| {row['title']} | {outcome} | {facts} | {row['minutes']} "
            f"| {row['seed']}, {row['commit']}, {row['date']} |"
        )
    machines = sorted({row["hardware"] for row in results})
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}.", ""])


if __name__ == "__main__":
    sys.exit(main())
