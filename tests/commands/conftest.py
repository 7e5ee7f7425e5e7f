"""Fixtures that several tests of commands use."""

from __future__ import annotations

import json

import pytest
from end_to_end.conftest import Checkout, write_corpus
from evaluate_cases import NAMES


@pytest.fixture
def noisy(finetuned: Checkout) -> str:
    """Documents a fifth of which carry a wrong label, so that there are mistakes of every kind."""
    write_corpus(finetuned.root / "clean.jsonl", documents=60, seed=9)
    lines = (finetuned.root / "clean.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for place, record in enumerate(records):
        if place % 5 == 0:
            record["label"] = NAMES[(place + 1) % 3]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (finetuned.root / "noisy.jsonl").write_text(text, encoding="utf-8")
    return "noisy.jsonl"
