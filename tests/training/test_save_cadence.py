"""When a state is due on the disk."""

from __future__ import annotations

import pytest

from textclf_transformer.training import save_cadence
from textclf_transformer.training.save_cadence import SaveCadence


def test_what_is_on_the_disk_is_not_new_and_the_clock_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(save_cadence.time, "monotonic", lambda: now)
    cadence = SaveCadence(every_steps=None, every_minutes=1.0)
    cadence.begin(step=3)
    now += 60.0
    assert not cadence.is_new(3) and not cadence.due(3)  # as it was loaded
    assert cadence.due(4)
    cadence.count(4, saved=True)
    assert not cadence.is_new(4) and not cadence.due(4)
    now += 59.0
    assert cadence.is_new(5) and not cadence.due(5)
    now += 1.0
    assert cadence.due(5)


def test_a_save_that_failed_is_due_after_the_next_step() -> None:
    cadence = SaveCadence(every_steps=2, every_minutes=None)
    cadence.count(2, saved=False)
    assert cadence.due(3)
    cadence.count(3, saved=True)
    assert not cadence.due(5) and cadence.due(6)
