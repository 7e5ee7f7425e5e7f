"""A frozen encoder's vectors are computed once: the same run as without, also when it is cut off."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
from textclf_transformer.atomic import storage_errors
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.training import frozen_cache
from textclf_transformer.training.frozen_cache import FrozenEncoderCache
from textclf_transformer.training.loop import TrainingLoop
from textclf_transformer.training.state import Batch
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


def rows_with_times(folder: Path, which: str) -> list[dict[str, str]]:
    with (folder / "metrics" / which / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows(folder: Path, which: str) -> list[dict[str, str]]:
    return [
        {
            key: value
            for key, value in row.items()
            if not key.endswith(("_seconds", "_per_second")) and not key.startswith("memory_")
        }
        for row in rows_with_times(folder, which)
    ]


@pytest.mark.parametrize("token_pooling", ["cls", "mean"])
def test_the_run_is_the_same_with_and_without(
    pretrained: Checkout, encoded: list[int], token_pooling: str
) -> None:
    pooling = ("--set", f"classification_head.token_pooling={token_pooling}")
    without = finished_run(pretrained, "without", *pooling, "--set", "training.frozen_cache_gib=0")
    chunks_without = sum(encoded)
    encoded.clear()
    cached = finished_run(pretrained, "cached", *pooling)
    assert sum(encoded) < 0.8 * chunks_without
    for name, tensor in weights(without).items():
        torch.testing.assert_close(weights(cached)[name], tensor, rtol=1e-6, atol=1e-6)
    for which in ("train", "eval"):
        for row, other in zip(rows(cached, which), rows(without, which), strict=True):
            assert (row["step"], row["tokens_seen"]) == (other["step"], other["tokens_seen"])
            assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=1e-6)
    assert not (cached / "frozen_cache").exists()


def test_word_dropout_hides_from_training_alone_and_keeps_no_vectors(
    pretrained: Checkout, encoded: list[int]
) -> None:
    head = "[{from_epoch: 0, train: head}]"
    quiet = ("--set", "classification_head.classifier_dropout=0", "--set", "training.learning_rate=1e-12")
    cached = finished_run(pretrained, "cached", *quiet, freeze=head)
    encoded_once = sum(encoded)
    encoded.clear()
    hidden = finished_run(pretrained, "hidden", *quiet, "--set", "training.word_dropout=0.5", freeze=head)
    assert sum(encoded) > 1.5 * encoded_once
    for which, equal in (("train", False), ("eval", True)):  # of weights that did not move
        for row, other in zip(rows(cached, which), rows(hidden, which), strict=True):
            assert (float(row["loss"]) == pytest.approx(float(other["loss"]), rel=3e-7)) == equal


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


def test_an_encoder_frozen_once_more_after_it_was_trained_is_evaluated_as_it_is_now(
    pretrained: Checkout,
) -> None:
    again = (
        "[{from_epoch: 0, train: head}, {from_epoch: 1, train: all, learning_rate: 1e-2},"
        " {from_epoch: 2, train: head}]"
    )
    rare = ("--set", "logging.eval_every=10000")  # none but at the end: nothing looks in while it is trained
    cached = finished_run(pretrained, "cached", *rare, freeze=again)
    without = finished_run(pretrained, "without", *rare, "--set", "training.frozen_cache_gib=0", freeze=again)
    for row, other in zip(rows(cached, "eval"), rows(without, "eval"), strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=1e-6)


def test_a_disk_that_is_full_keeps_nothing_and_says_so_even_when_quiet(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = []

    def full(self: VectorFile, *args: object) -> None:
        with storage_errors(self._path):
            self._stream.write(bytes(100))
            raise OSError(28, "No space left on device")

    def stop_after_filling(self: TrainingLoop[Batch]) -> None:
        left.append((folder / "frozen_cache").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(VectorFile, "append", full)
    monkeypatch.setattr(TrainingLoop, "run", stop_after_filling)
    folder = pretrained.finetuning("full", "pre", *SETTINGS, "--set", f"training.freeze={HEAD_THEN_ALL}")
    assert finetune.main(["full", "--quiet"]) == 130
    assert left == [False]
    assert "No space left on device" in capsys.readouterr().err


def test_what_an_earlier_start_kept_goes_once_it_is_switched_off(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretrained.finetuning("off", "pre", *SETTINGS, "--set", f"training.freeze={HEAD_THEN_ALL}")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", stop)
        assert finetune.main(["off", "--quiet"]) == 130
    assert (folder / "frozen_cache" / "train.f32").exists()
    assert finetune.main(["off", "--quiet", "--set", "training.frozen_cache_gib=0"]) == 0
    assert not (folder / "frozen_cache").exists()


def stop(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_shortage_of_memory_while_encoding_halves_what_is_encoded_at_once(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = RobertaModel.encode

    def short(self: RobertaModel, input_ids: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if len(input_ids) > 5:
            raise MemoryError
        return encode(self, input_ids, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingLoop, "run", stop)
    vectors = {}
    for name in ("whole", "halved"):
        folder = pretrained.finetuning(name, "pre", *SETTINGS, "--set", f"training.freeze={HEAD_THEN_ALL}")
        assert finetune.main([name, "--quiet"]) == 130
        vectors[name] = np.fromfile(folder / "frozen_cache" / "train.f32", dtype=np.float32)
        monkeypatch.setattr(RobertaModel, "encode", short)
    np.testing.assert_allclose(vectors["halved"], vectors["whole"], rtol=1e-5, atol=1e-5)


def test_the_time_of_encoding_belongs_to_the_time_of_the_run(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, monotonic, late = FrozenEncoderCache.fill, time.monotonic, [0.0]

    def slow(self: FrozenEncoderCache, *args: Any, **kwargs: Any) -> None:
        fill(self, *args, **kwargs)
        late[0] += 1000.0

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late[0])
    monkeypatch.setattr(FrozenEncoderCache, "fill", slow)
    folder = finished_run(pretrained, "slow", freeze="[{from_epoch: 0, train: head}]")
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert 1000 < report["elapsed_seconds"] < 1900
    assert float(rows_with_times(folder, "train")[0]["elapsed_seconds"]) > 1000


def test_the_plan_says_whether_vectors_are_kept(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.finetuning("plan", "pre", *SETTINGS, "--set", f"training.freeze={HEAD_THEN_ALL}")
    for setting, said in (
        ("frozen_cache_gib=8", "are kept on the disk"),
        ("frozen_cache_gib=0", "are not kept on the disk (training.frozen_cache_gib: 0)"),
        ("word_dropout=0.2", "are not kept on the disk (training.word_dropout 0.2"),
    ):
        assert finetune.main(["plan", "--dry-run", "--set", f"training.{setting}"]) == 0
        shown = capsys.readouterr()
        assert said in shown.err + shown.out
    assert not (folder / "frozen_cache").exists()
