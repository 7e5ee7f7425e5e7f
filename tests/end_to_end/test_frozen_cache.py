"""A frozen encoder's vectors are computed once: the same run as without, also when it is cut off."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.training import frozen_cache
from textclf_transformer.training.vector_file import VectorFile

SETTINGS = ("--set", "training.epochs=3", "--set", "training.use_amp=false", "--set", "logging.log_every=1")
HEAD_THEN_ALL = "[{from_epoch: 0, train: head, learning_rate: 1e-2}, {from_epoch: 2, train: all}]"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of chunks of each call of the encoder."""
    calls: list[int] = []
    encode = RobertaModel.encode

    def counting(
        self: RobertaModel, input_ids: torch.Tensor, *args: object, **kwargs: object
    ) -> torch.Tensor:
        calls.append(len(input_ids))
        return encode(self, input_ids, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(RobertaModel, "encode", counting)
    return calls


def finished_run(checkout: Checkout, name: str, *more: str, freeze: str = HEAD_THEN_ALL) -> Path:
    folder = checkout.finetuning(name, "pre", *SETTINGS, *more, "--set", f"training.freeze={freeze}")
    checkout.run(finetune.main, name, "--quiet")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.ckpt", weights_only=True)["model"]


def rows(folder: Path, which: str) -> list[dict[str, str]]:
    with (folder / "metrics" / which / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                key: value
                for key, value in row.items()
                if not key.endswith(("_seconds", "_per_second")) and not key.startswith("memory_")
            }
            for row in csv.DictReader(file)
        ]


def test_the_run_is_the_same_with_and_without(pretrained: Checkout, encoded: list[int]) -> None:
    without = finished_run(pretrained, "without", "--set", "training.frozen_cache_gib=0")
    chunks_without = sum(encoded)
    encoded.clear()
    cached = finished_run(pretrained, "cached")
    assert sum(encoded) < 0.8 * chunks_without
    for name, tensor in weights(without).items():
        torch.testing.assert_close(weights(cached)[name], tensor, rtol=1e-5, atol=1e-6)
    for which in ("train", "eval"):
        for row, other in zip(rows(cached, which), rows(without, which), strict=True):
            assert (row["step"], row["tokens_seen"]) == (other["step"], other["tokens_seen"])
            assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
    assert not (cached / "frozen_cache").exists()


def test_a_run_cut_off_while_encoding_goes_on_to_the_same_bits(
    pretrained: Checkout, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "[{from_epoch: 0, train: head}]"
    small = ("--set", "training.tokens_per_micro_batch=96")
    whole = finished_run(pretrained, "whole", *small, freeze=head)
    all_chunks = sum(encoded)
    folder = pretrained.finetuning("cut", "pre", *SETTINGS, *small, "--set", f"training.freeze={head}")
    monkeypatch.setattr(frozen_cache, "_COMMIT_SECONDS", 0.0)
    append, appended = VectorFile.append, []

    def dying(self: VectorFile, vectors: object) -> None:
        append(self, vectors)  # type: ignore[arg-type]
        appended.append(1)
        if len(appended) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(VectorFile, "append", dying)
    assert finetune.main(["cut", "--quiet"]) == 130
    assert (folder / "frozen_cache" / "train.f32").stat().st_size > 0
    encoded.clear()
    pretrained.run(finetune.main, "cut", "--quiet")
    assert 0 < sum(encoded) < all_chunks
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(folder)[name], tensor), name
    assert rows(folder, "train") == rows(whole, "train")
    assert rows(folder, "eval") == rows(whole, "eval")
