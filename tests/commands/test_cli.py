"""``textclf`` finds the verb and does nothing else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from textclf_transformer import __version__
from textclf_transformer.commands import cli


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_a_module_with_main(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert f"textclf {verb}" in capsys.readouterr().out


def test_the_rest_of_the_line_goes_to_the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []

    def main(argv: Sequence[str]) -> int:
        seen.append(argv)
        return 3

    module = importlib.import_module(cli.VERBS["prepare"][0])
    monkeypatch.setattr(module, "main", main)
    assert cli.main(["prepare", "a", "--version", "--x"]) == 3
    assert seen == [["a", "--version", "--x"]]


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb, (_, meaning) in cli.VERBS.items():
        assert verb in out and meaning in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"textclf_transformer {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["prepair"], "did you mean prepare?"),
        (["train_tokenizer", "--out", "x"], "did you mean train-tokenizer?"),
        (["pretrain", "pre_v1"], "did you mean python pretrain.py NAME?"),
        (["finetuning"], "did you mean python finetune.py NAME?"),
        (["xyz"], "unknown verb"),
        ([], "which verb?"),
        (["--quiet", "prepare", "x"], "after the verb"),
        (["--unknown"], "--unknown"),
    ],
)
def test_a_wrong_line_is_one_line_and_2(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert word in err


WITHOUT_TORCH = """
import sys
from textclf_transformer.commands.cli import main

main(["--help"])
sys.exit("torch" in sys.modules)
"""


def test_help_does_not_wait_for_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, stdout=subprocess.DEVNULL)
