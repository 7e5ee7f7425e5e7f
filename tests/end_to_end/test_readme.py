"""The commands and the Python of the README and the guides run as written; only sizes are made small."""

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
DOCS = README.parent / "docs"

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


def commands_of(text: str) -> list[list[str]]:
    """Return the indented commands of a page, split into words."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    words = [shlex.split(line) for line in lines]
    return [line[1:] if line[0] == "python" else line for line in words if line[0] in {"python", "textclf"}]


def python_of(text: str) -> list[str]:
    """Return the blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run_python(block: str, page: str) -> None:
    exec(compile(block, page, "exec"), {})


def run_all(commands: list[list[str]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "CHECKOUT", folder)
    monkeypatch.chdir(folder)
    for program, *arguments in commands:
        main, more = COMMANDS[program]
        assert main([*arguments, *more]) == 0, [program, *arguments]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "my.jsonl", documents=90, seed=2)
    section = README.read_text(encoding="utf-8").split("## Your own documents")[1].split("\n## ")[0]
    commands = commands_of(section)
    assert [command[0] for command in commands if command[0] != "textclf"] == list(COMMANDS)[1:]
    run_all(commands, tmp_path, monkeypatch)
    assert (tmp_path / "experiments/finetuning/ft_v1/best.ckpt").is_file()


def test_the_guide_to_own_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "my.jsonl", documents=400, seed=2)
    commands = commands_of((DOCS / "own_documents.md").read_text(encoding="utf-8"))
    assert len(commands) == 12
    run_all(commands, tmp_path, monkeypatch)
    assert "ft_v2" in capsys.readouterr().out


def test_the_guide_to_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"the harbour has {number} ships and a rope" for number in range(200))
    (tmp_path / "unlabelled.txt").write_text(text, encoding="utf-8")
    commands = commands_of((DOCS / "pretraining.md").read_text(encoding="utf-8"))
    assert len(commands) == 4
    run_all(commands, tmp_path, monkeypatch)
    (finished,) = tmp_path.glob("experiments/pretraining/*/model.ckpt")
    assert finished.parent.name == "pre_muon"


def test_the_guide_to_tokenizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "my.jsonl", documents=90, seed=2)
    page = (DOCS / "tokenizers.md").read_text(encoding="utf-8")
    wrapper, training = python_of(page)
    (tmp_path / "whole_words.py").write_text(wrapper, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_python(training, "tokenizers.md")
    commands = commands_of(page)
    assert len(commands) == 8
    run_all(commands, tmp_path, monkeypatch)
    assert len((tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 90
    untrusted = [word for word in commands[2] if word != "--trust-code"]
    assert cli.main([*untrusted[1:], "--overwrite"]) == 2
    assert "add --trust-code" in capsys.readouterr().err


def anchors_of(page: Path) -> set[str]:
    """Return what a link may say behind # to reach a heading of a page, as GitHub makes it."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_lead_somewhere() -> None:
    for page in (*README.parent.glob("*.md"), *DOCS.glob("*.md")):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                name, _, anchor = link.partition("#")
                target = page.parent / name if name else page
                assert target.exists(), (page.name, link)
                assert not anchor or anchor in anchors_of(target), (page.name, link)


def test_python() -> None:
    blocks = python_of(README.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        run_python(block, "README.md")
