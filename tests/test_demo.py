"""The demo's data: made once, and made anew when a library that it reads is another."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

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
