from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from toys import Run, ToyBatches, same_bits

from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.signals import StopSignal, die_of_interrupt, raising_on_interrupt

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_is_only_noted_and_handlers_come_back(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == code
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGINT", 130), ("SIGINT", "SIGTERM", 143)])
def test_the_second_signal_leaves_at_once(first: str, second: str, code: int) -> None:
    program = f"""
import os, signal
from textclf_transformer.training.signals import StopSignal
with StopSignal() as stop:
    try:
        os.kill(os.getpid(), signal.{first})
        os.kill(os.getpid(), signal.{second})
    finally:
        print("not reached")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (code, b"")
    assert b"saving at the end of this step" in result.stderr
    assert b"without saving" in result.stderr


def test_a_terminal_hangs_up_twice_and_still_lets_the_run_save() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested == 129


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_while_torch_is_imported_is_quiet() -> None:
    program = """
import os, signal, sys
from textclf_transformer.training.signals import die_of_interrupt
die_of_interrupt()
os.kill(os.getpid(), signal.SIGINT)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_an_interrupt_that_somebody_ignores_or_handles_stays_so(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        die_of_interrupt()
        with raising_on_interrupt():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_an_exception_again_once_the_imports_are_done() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        die_of_interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        with raising_on_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen: list[object] = []

    def work() -> None:
        with StopSignal() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_real_signal_saves_and_the_resume_has_the_same_bits(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    whole, run = Run.at(tmp_path / "whole"), Run.at(tmp_path / "stopped")
    whole.start().run()

    def send(epoch: int, index: int) -> None:
        if (epoch, index) == (1, 2):
            os.kill(os.getpid(), number)

    with StopSignal() as stop, pytest.raises(SystemExit) as caught:
        run.start(batches=ToyBatches(on_step=send), stop_signal=stop).run()
    assert caught.value.code == code
    assert 3 <= load_checkpoint(run.folder.checkpoint)["loop"]["step"] <= 7
    run.start().run()
    assert same_bits(load_checkpoint(run.folder.checkpoint), load_checkpoint(whole.folder.checkpoint))
    assert run.rows("train") == whole.rows("train")
    assert run.rows("val") == whole.rows("val")
