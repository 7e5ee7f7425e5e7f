from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import same_bits

from textclf_transformer.errors import CheckpointError, StorageError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training import checkpoint as module
from textclf_transformer.training.checkpoint import (
    UnknownFormatError,
    load_checkpoint,
    load_latest,
    save_checkpoint,
)
from textclf_transformer.training.checkpointer import Checkpointer


def state(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(40, 30, generator=generator)
    return {
        "model": {"weight": weight, "tied": weight, "half": weight.bfloat16(), "mask": weight > 0},
        "optimizer": {"weight": {"step": torch.tensor(3.0)}},
        "scaler": None,
        "loop": {"step": seed, "best": 0.1, "name": "naïve", "nested": [1, (2.5, None)], "ok": True},
        "metrics": {"train": 0, "eval": 0},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.ckpt", state())
    return tmp_path / "model.ckpt"


def test_round_trip(path: Path) -> None:
    loaded = load_checkpoint(path)
    assert same_bits(loaded, state())
    assert loaded["model"]["weight"].data_ptr() == loaded["model"]["tied"].data_ptr()  # written once
    content = torch.load(path, weights_only=True)
    assert content["format_version"] == 1
    assert set(content["digests"]) >= {"", "/model/weight", "/optimizer/weight/step"}


def test_a_view_takes_only_its_part_into_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "view.ckpt", {"part": torch.zeros(1_000_000)[:10]})
    assert (tmp_path / "view.ckpt").stat().st_size < 10_000


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.zeros(2), {1, 2}, b"bytes", Path("x"), nn.Linear(1, 1), object()]
)
def test_tensors_and_plain_python_only(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"tensors and plain Python only.*/loop/odd"):
        save_checkpoint(tmp_path / "model.ckpt", {"loop": {"odd": value}})
    assert list(tmp_path.iterdir()) == []


def test_keys_are_plain_python_too(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"cannot hold a key of .*float64.* at /loop"):
        save_checkpoint(tmp_path / "model.ckpt", {"loop": {np.float64(0.5): 1}})
    assert list(tmp_path.iterdir()) == []


def test_parameters_and_ordered_dicts_become_plain(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path / "model.ckpt", {"model": model.state_dict(), "raw": {"w": model.weight}})
    loaded = load_checkpoint(tmp_path / "model.ckpt")
    assert type(loaded["model"]) is dict
    assert type(loaded["raw"]["w"]) is torch.Tensor
    assert not loaded["raw"]["w"].requires_grad


def rewritten(path: Path, change: Any) -> None:
    """Alter a checkpoint and write it back as a whole file: only the digests can tell."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["model"]["weight"].view(torch.int32)[3, 4].bitwise_xor_(1), "/model/weight"),
        (lambda c: c["model"]["mask"][0, 0].logical_not_(), "/model/mask"),
        (lambda c: c["optimizer"]["weight"].update(step=torch.tensor(4.0)), "/optimizer/weight/step"),
        (lambda c: c["model"].pop("half"), "/model/half"),
        (lambda c: c["model"].update(half=c["model"]["half"].reshape(-1)), "the plain values"),
        (lambda c: c["loop"].update(step=1), "the plain values"),
        (lambda c: c["loop"].update(ok=1), "the plain values"),
        (lambda c: c.pop("scaler"), "the plain values"),
        (lambda c: c.pop("digests"), "no digests"),
    ],
)
def test_a_change_that_keeps_the_file_whole_is_found(path: Path, change: Any, named: str) -> None:
    rewritten(path, change)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4


def test_truncation_is_refused_everywhere(path: Path) -> None:
    content = path.read_bytes()
    for length in [0, 1, *range(100, len(content), len(content) // 40), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=path.name):
            load_checkpoint(path)


def test_a_flipped_bit_is_found_or_without_effect(path: Path) -> None:
    content, randomness, found = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        flipped = bytearray(content)
        flipped[randomness.randrange(len(content))] ^= 1 << randomness.randrange(8)
        path.write_bytes(flipped)
        try:
            assert same_bits(load_checkpoint(path), state())  # padding of the archive
        except CheckpointError:
            found += 1
    assert found > 75


def test_another_format_version_is_named(path: Path) -> None:
    rewritten(path, lambda content: content.update(format_version=99))
    with pytest.raises(UnknownFormatError, match="version 99, expected version 1"):
        load_checkpoint(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "other.pt")


def test_the_newest_that_can_be_read_is_taken(tmp_path: Path) -> None:
    current, previous, warnings = tmp_path / "model.ckpt", tmp_path / "model.ckpt.prev", list[str]()
    assert load_latest(current, previous, warn=warnings.append) is None
    save_checkpoint(current, state(1), keep_previous=previous)
    save_checkpoint(current, state(2), keep_previous=previous)
    latest = load_latest(current, previous, warn=warnings.append)
    assert latest is not None
    assert (latest[0]["loop"]["step"], warnings) == (2, [])
    current.write_bytes(current.read_bytes()[:-50])
    latest = load_latest(current, previous, warn=warnings.append)
    assert latest is not None
    assert latest[0]["loop"]["step"] == 1
    assert str(previous) in warnings[0]
    assert str(current) in warnings[0]
    previous.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        load_latest(current, previous, warn=warnings.append)
    assert str(current) in str(caught.value)
    assert str(previous) in str(caught.value)
    assert current.exists()
    assert previous.exists()


def test_a_newer_format_is_no_reason_to_go_back(tmp_path: Path) -> None:
    current, previous = tmp_path / "model.ckpt", tmp_path / "model.ckpt.prev"
    save_checkpoint(current, state(1), keep_previous=previous)
    save_checkpoint(current, state(2), keep_previous=previous)
    rewritten(current, lambda content: content.update(format_version=2))
    with pytest.raises(UnknownFormatError):
        load_latest(current, previous, warn=pytest.fail)


def test_a_damaged_state_does_not_push_out_the_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, warnings = RunFolder.at(tmp_path), list[str]()
    writer = Checkpointer(run, extra={"labels": ["x", "y"]}, warn=warnings.append)
    for seed in (1, 2):
        writer.save(lambda seed=seed: state(seed), required=True)  # type: ignore[misc]
    run.checkpoint.write_bytes(b"damaged")
    resumed = Checkpointer(run, extra={"labels": ["x", "y"]}, warn=warnings.append)
    loaded = resumed.load()
    assert loaded is not None
    assert loaded["loop"]["step"] == 1
    resumed.save(lambda: state(3), required=True)
    assert load_checkpoint(run.previous_checkpoint)["loop"]["step"] == 1
    resumed.save(lambda: state(4), required=True)
    assert load_checkpoint(run.previous_checkpoint)["loop"]["step"] == 3


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path)
    save_checkpoint(run.checkpoint, {key: value for key, value in state().items() if key != "optimizer"})
    with pytest.raises(CheckpointError, match="lacks optimizer"):
        Checkpointer(run, extra={}, warn=pytest.fail).load()


@pytest.mark.parametrize(
    ("change", "place", "found", "expected"),
    [
        ({"model": [1]}, "model", "a list", "a valid dictionary"),
        ({"model": {"weight": 1}}, "model.weight", "1", "an instance of Tensor"),
        ({"optimizer": []}, "optimizer", "a list", "a valid dictionary"),
        ({"optimizer": {"weight": {"step": 3.0}}}, "optimizer.weight.step", "3.0", "an instance of Tensor"),
        ({"scaler": {"scale": 2.0}}, "scaler.growth_factor", "nothing", "such an entry"),
        ({"loop": {"step": "three"}}, "loop.step", "'three'", "a valid integer"),
        ({"loop": {"step": -3}}, "loop.step", "-3", "0 or more"),
        ({"loop": {"steps_per_epoch": 0}}, "loop.steps_per_epoch", "0", "greater than or equal to 1"),
        ({"loop": {"best_metric": "good"}}, "loop.best_metric", "'good'", "a valid number"),
        ({"metrics": 5}, "metrics", "5", "a valid dictionary"),
        ({"metrics": {"train": 0}}, "metrics.eval", "nothing", "such an entry"),
        ({"config": "yes"}, "config", "'yes'", "a valid dictionary"),
        ({"config": {"data": {"val": {}}}}, "config.data.val.dataset_path", "nothing", "such an entry"),
        ({"environment": None}, "environment", "None", "a valid dictionary"),
        ({"fingerprints": {"data": {"val": 1}}}, "fingerprints.data.val", "1", "a valid string"),
        ({"labels": ["a", torch.zeros(9)]}, "labels.1", "a Tensor", "a valid string"),
        ({"labels": ["a", "a"]}, "labels", "a list", "two or more different names"),
        ({"tokenizer": {"wrapper_path": "wordpiece"}}, "tokenizer.vocab_size", "nothing", "such an entry"),
    ],
)
def test_a_whole_file_of_other_types_is_named_and_the_one_before_taken(
    tmp_path: Path, change: dict[str, Any], place: str, found: str, expected: str
) -> None:
    """Digests say nothing of a file that somebody else, or another program, has written anew."""
    current, previous, warnings = tmp_path / "model.ckpt", tmp_path / "model.ckpt.prev", list[str]()
    save_checkpoint(current, state(1))
    save_checkpoint(current, {**state(2), **change}, keep_previous=previous)
    said = f"{current}: {place}; found {found}, expected {expected}"
    with pytest.raises(CheckpointError, match="something else than a checkpoint of this project") as caught:
        load_checkpoint(current)
    assert said in str(caught.value)
    loaded = load_latest(current, previous, warn=warnings.append)
    assert loaded is not None and loaded[0]["loop"]["step"] == 1
    assert said in warnings[0] and current.exists()


def test_a_disk_that_refuses_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(content: object, stream: Any) -> None:
        stream.write(b"x" * 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", refuse)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(path, state(5), keep_previous=path.with_suffix(".prev"))
    monkeypatch.undo()
    assert load_checkpoint(path)["loop"]["step"] == 0
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_save_imports_nothing(tmp_path: Path) -> None:
    """An import in the first save would fail with the disk of the installation, as a fault of ours."""
    program = f"""
import sys
from pathlib import Path
import torch
from textclf_transformer.training.checkpoint import save_checkpoint
before = set(sys.modules)
save_checkpoint(Path({str(tmp_path / "model.ckpt")!r}), {{"weight": torch.ones(3)}})
print(sorted(set(sys.modules) - before))
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_lists_in_lists_by_the_thousand_are_refused(path: Path) -> None:
    """torch reads them without recursion; whoever goes through them afterwards may not."""
    deep: Any = 1
    for _ in range(3_000):
        deep = [deep]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        rewritten(path, lambda content: content["loop"].update(deep=deep))
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(CheckpointError, match="lists in lists that no run writes"):
        load_checkpoint(path)


def test_a_digest_of_what_has_no_name_is_refused(path: Path) -> None:
    rewritten(path, lambda content: content["digests"].update({5: "x"}))
    with pytest.raises(CheckpointError, match=r"digests do not match.*found 5$"):
        load_checkpoint(path)
