"""Memory that runs out in an evaluation: smaller pieces, the same numbers; one line where none suffices."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer.model.encoder import RobertaModel

SETTINGS = ("--set", "training.use_amp=false", "--set", "training.epochs=1")


class Allocator:
    """Memory for at most ``rows`` rows without gradients; counts its refusals."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, rows: int) -> None:
        self.refusals = 0
        encode = RobertaModel.encode

        def short(
            model: RobertaModel, input_ids: torch.Tensor, *args: object, **kwargs: object
        ) -> torch.Tensor:
            if not torch.is_grad_enabled() and len(input_ids) > rows:
                self.refusals += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return encode(model, input_ids, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(RobertaModel, "encode", short)


def evaluations(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics" / "eval" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_same_numbers(folder: Path, other: Path) -> None:
    rows, others = evaluations(folder), evaluations(other)
    assert rows and len(rows) == len(others)
    for row, expected in zip(rows, others, strict=True):
        assert (row["step"], row["split"]) == (expected["step"], expected["split"])
        assert float(row["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_a_shortage_in_an_evaluation_halves_what_is_computed_at_once(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[Path]:
        folders = [
            pretrained.pretraining(f"pre{len(made)}", *SETTINGS),
            pretrained.finetuning(f"ft{len(made)}", "pre", *SETTINGS),
        ]
        made.append(folders)
        pretrained.run(pretrain.main, folders[0].name, "--quiet")
        pretrained.run(finetune.main, folders[1].name, "--quiet")
        return folders

    made: list[list[Path]] = []
    roomy = run()
    allocator = Allocator(monkeypatch, rows=3)
    tight = run()
    assert allocator.refusals > 4
    for folder, other in zip(tight, roomy, strict=True):
        assert_same_numbers(folder, other)


def test_where_a_single_row_is_too_much_one_line_says_so_and_the_steps_are_kept(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.pretraining("none", *SETTINGS)
    Allocator(monkeypatch, rows=0)
    capsys.readouterr()
    assert pretrain.main(["none", "--quiet"]) not in (0, None)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "memory" in errors[0] and "training.tokens_per_micro_batch" in errors[0]
    assert (folder / "model.ckpt").exists()
