"""Damaged files, a thousand ways: each is refused by its name or reads as before; none is wrong in silence.

A config is the one file without a checksum, because people write it; what is left of it is read for what it
says ("as written"), and a run that has a checkpoint shows or refuses what changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from torture import corrupting
from torture.bench import Result

import textclf_transformer

HARMLESS = {"refused", "the same"}
# files whose damages may leave them as they were: zip headers, comments and layout, but no content
WITH_SLACK = {"model.ckpt", "data.pt", "config.yaml", "tokenizer/tokenizer.json", "store/header.json"}
_STORE = "the files of a store"
_SECONDS = 1800


def damage_files(root: Path, *, truncations: int, flips: int, seed: int) -> Result:
    """Damage and read one of each file that a user is handed, in a process of its own.

    Args:
        root: an empty folder.
        truncations: of each file.
        flips: single bits of each file.
        seed: of the bits.
    """
    result = Result(f"damaged files: each cut off at {truncations} places, {flips} bits flipped")
    names = corrupting.make_files(root)
    source = Path(textclf_transformer.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, corrupting.__file__, *map(str, (root, seed, truncations, flips)), *names],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        timeout=_SECONDS,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    if process.returncode != 0:
        last = lines[-1] if lines else "the beginning"
        result.faults.append(f"ended with {process.returncode} after {last}: {process.stderr[-2000:]}")
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for damage, reading in zip(lines[::2], lines[1::2], strict=False):
        name, outcome = damage["file"], reading["outcome"]
        outcomes[name][outcome] += 1
        is_harmless = outcome in HARMLESS or (name == "config.yaml" and outcome == "as written")
        label = f"seed {seed}, {name}, {damage['damage']}"
        result.case([] if is_harmless else [f"{outcome}: {reading['said']}"], label)
    result.faults += _without_effect(outcomes, names, damages=truncations + flips)
    result.facts = _facts(outcomes)
    return result


def _without_effect(outcomes: Mapping[str, Counter[str]], names: list[str], *, damages: int) -> list[str]:
    """Return which files were not put to the test as they should have been."""
    faults = []
    for name in names:
        counts = outcomes.get(name, Counter())
        if counts.total() != damages:
            faults.append(f"{name}: {counts.total()} of {damages} damages were done")
        least = damages / 4 if name in WITH_SLACK else damages
        if counts["refused"] < least:  # else the damage never reached what is read
            faults.append(
                f"{name}: only {counts['refused']} of {damages} damages were refused: {dict(counts)}"
            )
    return faults


def _facts(outcomes: Mapping[str, Counter[str]]) -> dict[str, object]:
    together: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, counts in outcomes.items():
        together[_STORE if name.startswith("store/") else name] += counts
    return {
        name: ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        for name, counts in together.items()
    }
