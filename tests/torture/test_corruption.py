"""Damaged files: each is refused by its name or reads as before; none is wrong in silence, none crashes.

A config is the one file without a checksum, because people write it; what is left of it is read for what it
says ("as written"), and a run that has a checkpoint shows or refuses what changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from torture import corrupting

import textclf_transformer

SEED = 5
HARMLESS = {"refused", "the same"}
# how many of a file's damages may leave it as it was: zip headers, comments and layout, but no content
WITH_SLACK = {"model.ckpt", "data.pt", "config.yaml", "tokenizer/tokenizer.json", "store/header.json"}

Outcomes = dict[str, Counter[str]]


def torment(root: Path, names: list[str], *, truncations: int, flips: int) -> Outcomes:
    """Damage and read the files in a process of its own; return the outcomes of each."""
    source = Path(textclf_transformer.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, corrupting.__file__, str(root), str(SEED), str(truncations), str(flips), *names],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        timeout=900,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    last = lines[-1] if lines else "the beginning"
    assert process.returncode == 0, f"ended with {process.returncode} after {last}\n{process.stderr[-2000:]}"
    outcomes: Outcomes = defaultdict(Counter)
    for damage, result in zip(lines[::2], lines[1::2], strict=True):
        outcomes[damage["file"]][result["outcome"]] += 1
        allowed = HARMLESS | ({"as written"} if damage["file"] == "config.yaml" else set())
        assert result["outcome"] in allowed, (damage, result)
    return outcomes


def check(outcomes: Outcomes, names: list[str], *, damages: int) -> None:
    assert sorted(outcomes) == sorted(names)
    for name, counts in outcomes.items():
        print(f"{name}: {dict(counts)}")
        assert counts.total() == damages
        assert counts["refused"] > damages / 4  # else the damage never reached what is read
        if name not in WITH_SLACK:
            assert counts["refused"] == damages, (name, counts)


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    names = corrupting.make_files(tmp_path)
    assert len(names) == 15
    return names


def test_damaged_files_are_refused_by_name(tmp_path: Path, names: list[str]) -> None:
    check(torment(tmp_path, names, truncations=6, flips=14), names, damages=20)


@pytest.mark.slow
def test_damaged_files_are_refused_by_name_all_of_them(tmp_path: Path, names: list[str]) -> None:
    check(torment(tmp_path, names, truncations=64, flips=200), names, damages=264)


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ("num_layers: 3", "as written"),
        ("num_layers: 4", "the same"),
        ("num_layers: -4", "refused"),
        ("num_layer: 4", "refused"),
    ],
)
def test_the_judge_of_configs_can_tell(tmp_path: Path, names: list[str], changed: str, outcome: str) -> None:
    original = corrupting.read_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("num_layers: 4", changed, 1), encoding="utf-8")
    assert corrupting.judge(tmp_path, "config.yaml", original)[0] == outcome


def test_the_judge_sees_what_is_wrong_in_silence(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = corrupting.read_store(tmp_path)
    tokens = bytearray((tmp_path / "store/tokens.bin").read_bytes())
    tokens[0] ^= 1
    (tmp_path / "store/tokens.bin").write_bytes(tokens)
    assert corrupting.judge(tmp_path, "store/tokens.bin", original)[0] == "refused"
    monkeypatch.setattr("textclf_transformer.data.store.Store._verify", lambda store, name: None)
    assert corrupting.judge(tmp_path, "store/tokens.bin", original)[0] == "WRONG IN SILENCE"
    monkeypatch.setattr("textclf_transformer.data.store.Store.open", lambda folder: 1 / 0)
    assert corrupting.judge(tmp_path, "store/tokens.bin", original)[0] == "fault of ours"
