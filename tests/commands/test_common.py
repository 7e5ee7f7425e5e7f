"""What every command does with errors, and its exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from bodies import raising, run

from textclf_transformer import __version__
from textclf_transformer.commands import cli
from textclf_transformer.commands.common import warn
from textclf_transformer.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteError,
    RunInUseError,
    StorageError,
    UsageError,
)


def test_flags_reach_the_body() -> None:
    seen = []
    argv = ("--debug", "--quiet", "--trust-code", "--set", "a.b=1", "--set", "c=x=y")
    assert run(lambda arguments: seen.append(arguments), *argv) == 0
    (arguments,) = seen
    assert arguments.debug and arguments.quiet and arguments.trust_code
    assert arguments.overrides == ["a.b=1", "c=x=y"]
    assert run(lambda arguments: seen.append(arguments)) == 0
    assert not (seen[1].debug or seen[1].quiet or seen[1].trust_code or seen[1].overrides)


def test_the_code_of_the_body_is_returned() -> None:
    assert run(lambda arguments: 143) == 143


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ConfigError("x"), 2),
        (DataError("x"), 3),
        (CheckpointError("x"), 4),
        (NonFiniteError("x"), 5),
        (StorageError("x"), 6),
        (RunInUseError("x"), 7),
    ],
)
def test_errors_of_users_are_one_line_with_their_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == code
    assert capsys.readouterr() == ("", "error: x\n")


def test_several_problems_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(ConfigError.from_problems(["one", "two\x1b[31m"]))) == 2
    assert capsys.readouterr().err == "error: one\nerror: two\\x1b[31m\n"


@pytest.mark.parametrize(
    "number",
    [
        errno.ENOSPC,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EDQUOT,
        errno.ESTALE,
        errno.ENAMETOOLONG,
    ],
)
def test_disk_and_permission_faults_are_6(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(OSError(number, os.strerror(number), "/data/x"))) == 6
    assert capsys.readouterr().err == f"error: {os.strerror(number)}; /data/x\n"


@pytest.mark.parametrize("error", [ValueError("a\nb"), FileNotFoundError(2, "No such file", "x")])
def test_faults_of_ours_are_1_and_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: a fault of ours: {type(error).__name__}") and err.count("\n") == 1
    assert "--debug" in err


@pytest.mark.parametrize("error", [ValueError("x"), DataError("x")])
def test_debug_shows_the_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    run(raising(error), "--debug")
    err = capsys.readouterr().err
    assert "Traceback" in err and "in raising" not in err and "in body" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


SECOND_SIGNAL = """
import atexit, os, signal
from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.training.signals import StopSignal, die_of_interrupt

die_of_interrupt()  # as pretrain.py begins

def stopped(arguments):
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(stop.requested)

atexit.register(os.kill, os.getpid(), signal.SIGINT)
run_command(command_parser("textclf test", "A command for tests."), [], stopped)
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals there")
def test_a_second_ctrl_c_while_a_stopped_run_ends_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND_SIGNAL], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGINT
    assert b"Traceback" not in done.stderr and b"saving at the end" in done.stderr


@pytest.mark.parametrize("argv", [["--unknown"], ["--set"], ["extra"], ["--de"]])
def test_usage_errors_are_2_and_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(AssertionError("the body must not run")), *argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and "textclf test --help" in err


def test_version_and_help_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(AssertionError()), "--version") == 0
    assert capsys.readouterr() == (f"textclf_transformer {__version__}\n", "")
    assert run(raising(AssertionError()), "--help") == 0
    assert "--trust-code" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "code"), [("2", 2), ("x", 2), ("1", 0), ("", 0)])
def test_more_than_one_process_is_refused(size: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert run(lambda arguments: None) == code


def test_help_is_answered_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(raising(AssertionError()), "--help") == 0


def test_warnings_are_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn("two\nlines")
    assert capsys.readouterr() == ("", "warning: two\\nlines\n")


def test_too_little_memory_is_for_the_user_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    def body(arguments: argparse.Namespace) -> None:
        torch.empty(1 << 55)

    for case in (body, raising(MemoryError()), raising(torch.OutOfMemoryError("CUDA out of memory\nmore"))):
        assert run(case) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: the memory does not suffice; found ") and line.endswith("; free some")


def test_warnings_of_the_package_are_one_line_each_text_once(
    capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    from textclf_transformer.evaluation.metrics import label_metrics

    def body(arguments: argparse.Namespace) -> None:
        for _ in range(2):
            label_metrics(np.array([0]), np.array([0]), num_labels=3)
        warnings.warn("of somebody else", stacklevel=1)

    assert run(body) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "neither present nor predicted" in line
    assert [str(warning.message) for warning in recwarn] == ["of somebody else"]


def test_ctrl_c_is_the_callers_again_after_a_stopped_run() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit):
            run(raising(SystemExit(130)))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert cli.main(["compare", "--version"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        assert run(lambda arguments: signal.getsignal(signal.SIGINT) is not signal.default_int_handler) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
