"""Damaged files, a few of the ways; and the judge of them can tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from torture import corrupting
from torture.corruption import damage_files

SEED = 5


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    names = corrupting.make_files(tmp_path)
    assert len(names) == 15
    return names


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    result = damage_files(tmp_path, truncations=6, flips=14, seed=SEED)
    assert not result.faults, "\n".join(result.faults)
    assert result.passed == result.cases == 15 * 20


def test_a_reader_that_crashes_or_errs_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    monkeypatch.setattr(corrupting, "__file__", str(program))
    told = """
import json, os
print(json.dumps({"file": "model.ckpt", "damage": "bit"}))
print(json.dumps({"outcome": "WRONG IN SILENCE", "said": "12"}))
print(json.dumps({"file": "model.ckpt", "damage": "another bit"}), flush=True)
os.kill(os.getpid(), 11)
"""
    program.write_text(told, encoding="utf-8")
    (tmp_path / "files").mkdir()
    result = damage_files(tmp_path / "files", truncations=1, flips=1, seed=SEED)
    assert (result.passed, result.cases) == (0, 1)
    for said in (
        "ended with -11 after",
        "another bit",
        "WRONG IN SILENCE",
        "data.pt: 0 of 2 damages were done",
    ):
        assert any(said in fault for fault in result.faults), said


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
