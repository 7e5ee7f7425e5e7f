"""Where a command's results and messages go: readers that leave, full disks, a caller's own stdout."""

from __future__ import annotations

import argparse
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bodies import raising, run

from textclf_transformer.commands import predict
from textclf_transformer.commands.streams import encoding_of_stdout, stdout_is_terminal
from textclf_transformer.errors import DataError

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
