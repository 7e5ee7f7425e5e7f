"""What the training commands settle before they compute."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from end_to_end.conftest import Checkout

import pretrain
from textclf_transformer.commands import report


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
