"""What every command does with errors, and its exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from textclf_transformer import __version__
from textclf_transformer.commands import cli, predict
from textclf_transformer.commands.common import add_override_flag, command_parser, run_command, warn
from textclf_transformer.commands.streams import encoding_of_stdout, stdout_is_terminal
from textclf_transformer.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteError,
    RunInUseError,
    StorageError,
    UsageError,
)


def run(body: Callable[[argparse.Namespace], int | None], *argv: str) -> int:
    parser = command_parser("textclf test", "A command for tests.")
    add_override_flag(parser)
    return run_command(parser, argv, body)


def raising(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def body(arguments: argparse.Namespace) -> None:
        raise error

    return body


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


CLOSED_PIPE = """
import sys
from textclf_transformer.commands.common import command_parser, run_command

def body(arguments):
    try:
        for number in range(int(sys.argv[1])):
            print(number)
        sys.stdout.flush()
    finally:
        print("still in the buffer when the interpreter ends")

sys.exit(run_command(command_parser("x", "y"), [], body))
"""


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
@pytest.mark.parametrize("lines", [10, 1_000_000])
def test_a_reader_that_leaves_is_no_error(lines: int) -> None:
    """As with ``| head -0``, with output that fits a buffer and with output that does not."""
    # Unbuffered output would leave nothing for the interpreter to stumble over at its end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", CLOSED_PIPE, str(lines)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_leaves_in_a_table_is_no_error() -> None:
    code = CLOSED_PIPE.replace("print(number)", "results_console().print(number)", 1)
    code = code.replace(
        "import sys", "import sys\nfrom textclf_transformer.commands.tables import results_console"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


MESSAGES = """
import sys
from textclf_transformer.commands.common import command_parser, run_command, warn
from textclf_transformer.training.progress import Progress

def body(arguments):
    for number in range(3):
        warn("w")
        Progress().message("m")
        print("e", file=sys.stderr)
        sys.stderr.flush()
    print("done")

sys.exit(run_command(command_parser("x", "y"), [], body))
"""


def in_shell(code: str, line: str) -> int:
    """Run ``line`` in bash, with "$PYTHON" and "$CODE" in it; returns its exit code."""
    environment = os.environ | {"PYTHON": sys.executable, "CODE": code}
    return subprocess.run(["bash", "-c", line], env=environment, timeout=60, check=False).returncode


@pytest.mark.parametrize("messages", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_messages_that_cannot_be_written_end_no_command(messages: str, tmp_path: Path) -> None:
    if "full" in messages and not Path("/dev/full").exists():
        pytest.skip("there is no such device")
    file = tmp_path / "out"
    # waits until the reader, where there is one, has left
    assert in_shell(MESSAGES, f"""(sleep 0.3; exec "$PYTHON" -c "$CODE") >'{file}' {messages}""") == 0
    assert file.read_text() == "done\n"


@pytest.mark.parametrize("results", [">/dev/full", "| true"])
@pytest.mark.parametrize("end", ["pass", "raise DataError('broken')", "raise KeyboardInterrupt"])
def test_results_that_cannot_be_written_leave_the_exit_code(end: str, results: str, tmp_path: Path) -> None:
    """The interpreter would try once more when it shuts down, and leave with 120."""
    if "full" in results and not Path("/dev/full").exists():
        pytest.skip("there is no such device")
    code = MESSAGES.replace("done", "x").replace('print("x")', f'print("x"); {end}')
    code = code.replace("import sys", "import sys; from textclf_transformer.errors import DataError")
    file = tmp_path / "err"
    command = f"""unset PYTHONUNBUFFERED; set -o pipefail; "$PYTHON" -c "$CODE" 2>'{file}' {results}"""
    if end == "pass":
        expected = 6 if "full" in results else 0
    else:
        expected = 3 if "DataError" in end else 130
    assert in_shell(code, command) == expected
    assert "Exception ignored" not in file.read_text()


def test_a_character_that_the_locale_lacks_is_escaped(tmp_path: Path) -> None:
    code = MESSAGES.replace("done", "a – b")
    file = tmp_path / "out"
    assert in_shell(code, f"""PYTHONIOENCODING=ascii "$PYTHON" -c "$CODE" >'{file}'""") == 0
    assert file.read_text() == "a \\u2013 b\n"


def test_no_file_is_taken_for_a_missing_stream() -> None:
    code = MESSAGES.replace("import sys", "import os, sys")
    code = code.replace('print("done")', "assert open(os.devnull).fileno() > 2")
    assert in_shell(code, '"$PYTHON" -c "$CODE" <&- >&- 2>&-') == 0


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


def test_stdout_is_a_callers_again_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)

    def body(arguments: argparse.Namespace) -> None:
        print("\u2013")
        with encoding_of_stdout("utf-8", errors="strict"):
            print("\u2013")
        print("\u2013")

    assert run(body) == 0
    assert (stream.encoding, stream.errors) == ("latin-1", "replace")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u2013\n\xe2\x80\x93\n\\u2013\n"  # type: ignore[attr-defined]


class Tee:
    """What a caller may put in stdout's place: it writes, and has neither isatty nor fileno nor encoding."""

    def __init__(self) -> None:
        self.text = ""
        self.is_broken = False

    def write(self, text: str) -> int:
        if self.is_broken:
            raise BrokenPipeError
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_stdout_may_be_any_object_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    tee = Tee()
    monkeypatch.setattr(sys, "stdout", tee)
    predict._print(iter(["a,b\n"]))
    assert tee.text == "a,b\n"
    tee.text = ""
    assert not stdout_is_terminal()
    with encoding_of_stdout("utf-8", errors="strict"):
        assert run(lambda arguments: print("there")) == 0
    assert tee.text == "there\n"
    tee.is_broken = True
    assert run(lambda arguments: print("gone")) == 0


def test_a_reader_that_leaves_hides_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(Tee):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Left())
    assert run(lambda arguments: 3) == 3


class Broken(Tee):
    """A caller's object whose flush fails in a way of its own."""

    def flush(self) -> None:
        raise RuntimeError("no widget")


def test_a_callers_stdout_hides_no_error_and_stays_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    assert run(raising(DataError("broken"))) == 3
    assert capsys.readouterr().err == "error: broken\n"

    class FullOnce(io.TextIOWrapper):
        is_full = False

        def flush(self) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().flush()

    file = tmp_path / "out"
    with FullOnce(file.open("wb")) as stream:

        def body(arguments: argparse.Namespace) -> None:
            stream.is_full = True
            print("result")

        monkeypatch.setattr(sys, "stdout", stream)
        assert run(body) == 6
        stream.is_full = False
        stream.write("more\n")
    assert file.read_text() == "result\nmore\n"


def test_a_closed_stdout_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert run(lambda arguments: print("nobody reads this")) == 0
