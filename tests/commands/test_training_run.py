"""What the training commands settle before they compute."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from end_to_end.conftest import Checkout

import pretrain
from textclf_transformer.commands import report
from textclf_transformer.commands.finetuning_task import _frozen_cache
from textclf_transformer.commands.generating import shown
from textclf_transformer.commands.plan import _duration, _epochs_computed
from textclf_transformer.commands.run_files import json_number
from textclf_transformer.training.frozen_cache import cache_gib


def test_libraries_are_settled_before_the_first_product_and_the_report_is_made_where_the_run_was(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuBLAS reads its workspace once, and compiling multiplies before the loop begins."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: list[str | None] = []
    monkeypatch.setattr(
        pretrain, "compile_encoder", lambda _: seen.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
    )

    def spy(run: object, *, device: str, **_: object) -> SimpleNamespace:
        seen.append(device)
        return SimpleNamespace(write=lambda path: None)

    monkeypatch.setattr(report, "make_report", spy)
    keys = ("training.epochs=1", "training.compile=true", "training.device=cpu", "logging.report=true")
    checkout.pretraining("pre", *(part for key in keys for part in ("--set", key)))
    checkout.run(pretrain.main, "pre", "--quiet")
    assert seen == [":4096:8", "cpu"]


@pytest.mark.parametrize(
    ("first_epoch", "cached_epochs", "computed"), [(0, None, 3), (0, 3, 1), (1, 4, 0), (2, 2, 3), (4, 2, 3)]
)
def test_the_encoder_works_once_while_its_vectors_are_kept(
    first_epoch: int, cached_epochs: int | None, computed: int
) -> None:
    cache = None if cached_epochs is None else SimpleNamespace(epochs=cached_epochs)
    phase = SimpleNamespace(first_epoch=first_epoch, epochs=3)
    assert _epochs_computed(phase, SimpleNamespace(frozen_cache=cache)) == computed  # type: ignore[arg-type]


def test_run_json_has_no_number_that_json_lacks() -> None:
    assert [json_number(value) for value in (0.5, math.nan, math.inf, -math.inf)] == [0.5, None, None, None]


def test_paths_are_shown_from_the_working_directory_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown(tmp_path / "here" / "run" / "config.yaml") == Path("run/config.yaml")
    assert shown(tmp_path / "config.yaml") == tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("seconds", "shown_as"),
    [(1, "1 second"), (89, "89 seconds"), (90, "2 minutes"), (5399, "90 minutes"), (5400, "1.5 hours")],
)
def test_a_duration_has_a_unit_of_its_size(seconds: float, shown_as: str) -> None:
    assert _duration(seconds) == shown_as


def test_a_cache_of_the_frozen_encoder_has_room_for_what_is_read_in_each_epoch(tmp_path: Path) -> None:
    """Test is read once, at the end."""
    sizes = {"train": 3000, "val": 1000, "test": 5000}
    batches = {
        split: SimpleNamespace(num_chunks=chunks, steps_per_epoch=1) for split, chunks in sizes.items()
    }
    for chunks, dropout, kept in ((4000, 0.0, True), (3999, 0.0, False), (4000, 0.1, False)):
        training = SimpleNamespace(
            freeze=[SimpleNamespace(from_epoch=0, train="head")],
            epochs=2,
            word_dropout=dropout,
            frozen_cache_gib=cache_gib(chunks, hidden_size=64),
        )
        context = SimpleNamespace(
            config=SimpleNamespace(training=training),
            arguments=SimpleNamespace(quiet=True),
            run=SimpleNamespace(frozen_cache=tmp_path),
            device=torch.device("cpu"),
            amp_dtype=None,
        )
        found = _frozen_cache(context, batches, hidden_size=64)  # type: ignore[arg-type]
        assert (found is not None) is kept
