from __future__ import annotations

import io
from typing import Any

import pytest

from textclf_transformer.training import progress as module
from textclf_transformer.training.progress import Progress

ROW: dict[str, Any] = {
    "step": 10,
    "epoch": 0.5,
    "split": "train",
    "loss": 1.23456,
    "learning_rate": 5e-4,
    "tokens_per_second": 12345.6,
    "memory_host_mib": 1536.0,
    "memory_device_mib": None,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    with Progress(stream=stream, seconds_between_lines=5.0) as progress:
        progress.start(done=8, total=100)
        for _ in range(4):
            clock.now += 2.0
            progress.advance()
            progress.show(ROW)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "step 9/100  epoch 0.50  loss 1.2346  lr 5.00e-04  12,346 tokens/s  1.5 GiB  3 min left",
        "step 12/100  epoch 0.50  loss 1.2346  lr 5.00e-04  12,346 tokens/s  1.5 GiB  3 min left",
    ]


def test_the_last_step_is_always_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start(done=0, total=2)
    for _ in range(2):
        progress.advance()
        progress.show(ROW)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1/2", "2/2"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "20 s"), (1.0, "2 min"), (66.0, "1 h 50 min"), (36.0, "1 h 00 min")]
)
def test_time_left(monkeypatch: pytest.MonkeyPatch, seconds: float, text: str) -> None:
    clock = Clock(monkeypatch)
    progress = Progress(stream=io.StringIO())
    progress.start(done=0, total=101)
    assert progress.time_left() == "?"
    clock.now += seconds
    progress.advance()
    assert progress.time_left() == text


def test_a_bar_on_a_terminal_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.start(done=0, total=4)
        progress.advance()
        progress.show(ROW)
        progress.message("kept [bold]as it is[/bold]")
    shown = stream.getvalue()
    assert "1/4" in shown
    assert "loss 1.2346" in shown
    assert "kept [bold]as it is[/bold]" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.start(done=0, total=4)
        progress.advance()
    assert "\x1b[3" not in stream.getvalue()


def test_quiet_shows_warnings_only() -> None:
    stream = io.StringIO()
    with Progress(stream=stream, quiet=True) as progress:
        progress.start(done=0, total=1)
        progress.advance()
        progress.show(ROW)
        progress.message("hello")
        progress.show_evaluation({"step": 1, "split": "val", "loss": 1.0}, is_best=True)
        progress.warn("warning: \x1b[31mred")
    assert stream.getvalue() == "warning: \\x1b[31mred\n"


def test_an_evaluation_shows_its_metrics() -> None:
    stream = io.StringIO()
    row = {"step": 3, "epoch": 0.1, "split": "val", "loss": 1.0, "learning_rate": 0.1, "f1_macro": 0.25}
    Progress(stream=stream).show_evaluation(row, is_best=True)
    assert stream.getvalue() == "val at step 3: loss 1.0000  f1_macro 0.2500  (best so far)\n"


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().message("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_a_narrow_terminal_cuts_the_end_of_the_line_and_not_the_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.start(done=0, total=1234)
        progress.advance()
        progress.show(ROW)
    last = stream.getvalue().rsplit("\r", 1)[-1]
    assert "1/1234" in last and "epoch 0.50" in last
