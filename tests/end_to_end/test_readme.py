"""The commands and the Python of the README run as written; only sizes are made small."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from end_to_end.conftest import write_corpus

import finetune
import pretrain
from experiments import generate_finetuning_experiment, generate_pretraining_experiment
from textclf_transformer import experiment
from textclf_transformer.commands import cli

README = Path(__file__).resolve().parents[2] / "README.md"

SMALL_PRETRAINING = {
    "architecture.embedding_dim": 32,
    "architecture.num_layers": 1,
    "architecture.ffn_dim": 32,
    "architecture.attention.num_heads": 2,
    "training.epochs": 1,
}


def small(values: dict[str, int]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "textclf": (cli.main, []),
    "experiments/generate_pretraining_experiment.py": (
        generate_pretraining_experiment.main,
        small(SMALL_PRETRAINING),
    ),
    "pretrain.py": (pretrain.main, ["--quiet"]),
    "experiments/generate_finetuning_experiment.py": (
        generate_finetuning_experiment.main,
        small({"training.epochs": 1}),
    ),
    "finetune.py": (finetune.main, ["--quiet"]),
}


def readme_commands() -> list[list[str]]:
    """Return the commands of the README's own-documents section, split into words."""
    section = README.read_text(encoding="utf-8").split("## Your own documents")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    words = [shlex.split(line) for line in lines]
    return [line[1:] if line[0] == "python" else line for line in words if line[0] in {"python", "textclf"}]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "my.jsonl", documents=90, seed=2)
    commands = readme_commands()
    assert [command[0] for command in commands if command[0] != "textclf"] == list(COMMANDS)[1:]
    for program, *arguments in commands:
        main, more = COMMANDS[program]
        assert main([*arguments, *more]) == 0, program
    assert (tmp_path / "experiments/finetuning/ft_v1/best.ckpt").is_file()


def test_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
