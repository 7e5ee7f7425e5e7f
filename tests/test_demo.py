"""The demo: data that are made once, and anew when a library is another; help, and Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.conftest import NEUTRAL, TOPICS

from experiments import demo
from textclf_transformer import experiment
from textclf_transformer.commands import cli
from textclf_transformer.data.text_files import Document

Installed = Callable[[str], list[str]]


@pytest.fixture
def prepare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Prepare the data in a checkout whose libraries have this version; give the commands that were run."""
    for name in ("TOKENIZER", "STORE", "CORPUS", "VERSIONS"):
        monkeypatch.setattr(demo, name, tmp_path / getattr(demo, name).relative_to(demo.CHECKOUT))
    for module in (demo, experiment):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    words = random.Random(0)
    documents = [
        Document(
            " ".join(words.choices([*NEUTRAL, *topic.split()], k=40)), label, f"{label} {number}", None, ""
        )
        for label, topic in TOPICS.items()
        for number in range(10)
    ]
    monkeypatch.setattr(demo, "documentation_documents", lambda: iter(documents))

    def prepare(version: str) -> list[str]:
        commands: list[str] = []

        def run(program: object, verb: object, *arguments: object) -> None:
            assert program == "textclf"
            commands.append(str(verb))
            assert cli.main([str(verb), *map(str, arguments), "--quiet"]) == 0

        monkeypatch.setattr(demo, "run", run)
        monkeypatch.setattr(demo, "version", lambda library: version)
        demo.prepare_data()
        return commands

    return prepare


def test_data_are_made_anew_for_other_libraries_only(prepare_with: Installed) -> None:
    assert prepare_with("1") == ["train-tokenizer", "prepare"]
    assert prepare_with("1") == []
    assert prepare_with("2") == ["train-tokenizer", "prepare"]
    assert prepare_with("2") == []


def test_data_that_are_gone_are_made_anew(prepare_with: Installed) -> None:
    prepare_with("1")
    demo.STORE.rename(demo.STORE.with_name("elsewhere"))
    assert "prepare" in prepare_with("1")


def test_a_store_of_an_earlier_demo_is_replaced(prepare_with: Installed) -> None:
    prepare_with("1")
    demo.VERSIONS.rename(demo.STORE / "versions.json")
    assert "prepare" in prepare_with("1")
    assert not (demo.STORE / "versions.json").exists()


def test_help_and_a_wrong_flag_start_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "prepare_data", lambda: pytest.fail("the demo began"))
    assert demo.main(["--help"]) == 0
    assert demo.main(["--fast"]) == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


# It takes a second to save once Ctrl-C was pressed.
SLOW_TO_SAVE = """
import pathlib, signal, sys, time

def save(*_):
    time.sleep(1)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(130)

signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals a process group")
def test_an_interrupted_command_may_save_before_the_demo_ends(tmp_path: Path) -> None:
    command, saved = tmp_path / "command.py", tmp_path / "saved"
    command.write_text(SLOW_TO_SAVE, encoding="utf-8")
    code = f"from experiments import demo; demo.run({str(command)!r}, {str(saved)!r})"
    own_group: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=demo.CHECKOUT, **own_group) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert saved.read_text(encoding="utf-8") == "saved"
