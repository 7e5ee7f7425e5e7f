"""No output that a user names replaces what a run, a store, a tokenizer or published weights live by."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from textclf_transformer.commands import audit, compare, evaluate, export, predict, prepare, report
from textclf_transformer.commands import train_tokenizer as train_tokenizer_command
from textclf_transformer.commands.outputs import check_output, check_outputs_differ
from textclf_transformer.errors import UsageError

KEPT = [
    "run/config.yaml",
    "run/config.resolved.yaml",
    "run/model.ckpt",
    "run/model.ckpt.prev",
    "run/best.ckpt",
    "run/run.json",
    "run/report.html",
    "run/.lock",
    "run/tokenizer/tokenizer.json",
    "run/tokenizer/vocab.txt",
    "run/metrics/train/metrics.csv",
    "run/curves.csv",
    "run/notes/copy.ckpt",
    "link/model.ckpt",
    "store/train/header.json",
    "store/train/tokens.bin",
    "tensors/train.pt",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "weights/config.json",
    "weights/model.safetensors",
    "templates/finetuning.yaml",
]
RESULTS = [
    "run/evaluation.json",
    "run/notes/predictions.csv",
    "predictions.csv",
    "results/config.json",
    "run.json",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of all kinds, each of which holds its own name."""
    for name in [*KEPT, *RESULTS]:
        path = tmp_path / name
        if not name.startswith("link/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    (tmp_path / "run/curves.csv").write_text("step,epoch,split,loss\n")
    (tmp_path / "store/train/document_offsets.bin").touch()
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/one.txt").write_text("a")
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", KEPT)
def test_what_others_read_is_refused(place: Path, name: str) -> None:
    with pytest.raises(
        UsageError, match=r"would replace what others read; --out .*; found .*; choose another"
    ):
        check_output("--out", Path(name))


def test_a_name_of_a_run_is_kept_before_its_file_is_there(place: Path) -> None:
    (place / "run/best.ckpt").unlink()
    with pytest.raises(UsageError, match=r"found best.ckpt of the run run"):
        check_output("--out", place / "run/best.ckpt")


@pytest.mark.parametrize("name", ["new.bin", "new.yaml", "texts/new.PT"])
def test_an_ending_of_what_is_no_result_is_refused_at_once(place: Path, name: str) -> None:
    """The second time it would be taken for something else than the result of the first."""
    with pytest.raises(
        UsageError, match=r"no result is of this kind; --out (new|texts).*; found a .*; choose"
    ):
        check_output("--out", Path(name))


@pytest.mark.parametrize("name", [*RESULTS, "new.csv", "run/new.json", "/dev/null"])
def test_results_may_be_written_and_replaced(place: Path, name: str) -> None:
    check_output("--out", Path(name), inputs=[Path("in.jsonl"), Path("texts"), Path("run")])


def test_a_report_may_replace_that_of_its_own_run(place: Path) -> None:
    check_output("--out", Path("link/report.html"), own=place / "run/report.html")


@pytest.mark.parametrize("name", ["in.jsonl", "./texts/../in.jsonl", "texts/one.txt"])
def test_inputs_are_not_replaced(place: Path, name: str) -> None:
    with pytest.raises(UsageError, match="would replace an input"):
        check_output("--out", Path(name), inputs=[Path("in.jsonl"), Path("texts")])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["loop.txt", "--out", "new"], 3), (["loop.txt", "in.jsonl", "--out", "loop.txt"], 2)],
)
def test_links_in_a_circle_are_no_fault_of_ours(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    (place / "loop.txt").symlink_to("loop.txt")
    check_output("--out", Path("new.csv"), inputs=[Path("loop.txt")])
    assert train_tokenizer_command.main(arguments) == code
    assert "loop.txt" in capsys.readouterr().err


Main = Callable[[list[str]], int]


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (predict.main, ["nobody", "in.jsonl", "--out", "run/model.ckpt"]),
        (predict.main, ["nobody", "in.jsonl", "--out", "in.jsonl"]),
        (evaluate.main, ["nobody", "--json", "run/best.ckpt"]),
        (evaluate.main, ["nobody", "--data", "in.jsonl", "--json", "in.jsonl"]),
        (compare.main, ["a", "b", "--json", "tokenizer/tokenizer.json"]),
        (compare.main, ["a", "b", "--html", "run/config.yaml"]),
        (report.main, ["./run", "--out", "run/metrics/train/metrics.csv"]),
        (audit.main, ["in.jsonl", "--json", "store/train/header.json"]),
        (audit.main, ["--train", "in.jsonl", "--json", "in.jsonl"]),
        (
            prepare.main,
            ["in.jsonl", "--tokenizer", "tokenizer", "--out", "run/tokenizer", "--overwrite"],
        ),
        (train_tokenizer_command.main, ["in.jsonl", "--out", "run/tokenizer", "--overwrite"]),
        (export.main, ["./run", "run/tokenizer", "--to", "hf", "--overwrite"]),
    ],
)
def test_all_commands_ask(
    place: Path, capsys: pytest.CaptureFixture[str], main: Main, arguments: list[str]
) -> None:
    (place / "run/config.yaml").write_text("experiment: {name: run}\n")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main(arguments) == 2
    assert "error: the output would replace " in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (compare.main, ["a", "b", "--json", "new.out", "--html", "./texts/../new.out"]),
        (audit.main, ["in.jsonl", "--json", "new.svg", "--plot", "new.svg"]),
    ],
)
def test_two_results_need_two_files(
    place: Path, capsys: pytest.CaptureFixture[str], main: Main, arguments: list[str]
) -> None:
    assert main(arguments) == 2
    assert "error: two results would be written to one file" in capsys.readouterr().err
    assert not list(place.glob("new.*"))


def test_an_export_does_not_replace_a_tokenizer(place: Path) -> None:
    assert not export._is_export(place / "tokenizer")


@pytest.mark.skipif(os.name == "nt", reason="/dev/null")
def test_any_number_of_results_goes_nowhere() -> None:
    check_outputs_differ({"--json": Path("/dev/null"), "--html": Path("/dev/null"), "--plot": None})
