"""Files from strangers: nothing runs, nothing takes more memory than the file has, and the file is named."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from textclf_transformer.errors import CheckpointError, DataError, StorageError, UsageError
from textclf_transformer.safe_load import safe_load


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.pt"


def rewrite(
    path: Path, change: Callable[[str, bytes], bytes], *, compression: int = zipfile.ZIP_STORED
) -> None:
    """Write the zip anew with each record passed through ``change``; the checksums are right again."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records:
            archive.writestr(name, change(name, content))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        safe_load(path)
    assert len(caught.value.lines) == 1
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_tensors_and_plain_python_come_back(path: Path) -> None:
    state: dict[str, Any] = {
        "ids": torch.arange(6).view(2, 3),
        "mask": torch.zeros(2, 3, dtype=torch.bool),
        "view": torch.arange(10)[3:5],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "weight": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 4),
        "plain": [1, 2.5, None, True, "text", b"bytes", (1, {2})],
    }
    torch.save(state, path)
    loaded = safe_load(path)
    assert loaded.keys() == state.keys()
    assert loaded["plain"] == state["plain"]
    for name in ("ids", "mask", "view", "half", "weight", "empty"):
        assert torch.equal(loaded[name], state[name]) and loaded[name].dtype == state[name].dtype


def test_state_dicts_of_modules_and_optimizers_come_back(path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    loaded = safe_load(path)
    assert torch.equal(loaded["model"]["weight"], model.weight)
    assert torch.equal(
        loaded["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )


def test_tensor_dataset_comes_back(path: Path) -> None:
    torch.save(TensorDataset(torch.arange(4), torch.ones(4)), path)
    assert torch.equal(safe_load(path).tensors[0], torch.arange(4))


@pytest.mark.parametrize("variable", ["0", "1"])
def test_code_never_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
    torch.save({"x": Evil(tmp_path / "mark")}, path)
    refused(path, "mkdir")
    assert not (tmp_path / "mark").exists()


def test_environment_cannot_open_the_second_door(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our own list of names, torch's refusal still stands."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr("textclf_transformer.safe_load._check_globals", lambda pickled: None)
    torch.save({"x": Evil(tmp_path / "mark")}, path)
    refused(path)
    assert not (tmp_path / "mark").exists()


def test_what_torch_would_allow_but_takes_memory_is_refused(path: Path) -> None:
    torch.save({"x": bytearray(3)}, path)
    refused(path, "bytearray")
    sparse = torch.sparse_coo_tensor(torch.zeros(1, 0), torch.zeros(0), (10**12,), check_invariants=True)
    torch.save({"x": sparse}, path)
    refused(path, "sparse")


def test_old_formats_are_refused(path: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    refused(path, "zip")
    path.write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    refused(path, "zip")
    assert not (tmp_path / "mark").exists()


def test_torchscript_is_refused(path: Path) -> None:
    torch.save({"x": 1}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("data/constants.pkl", b"")
    refused(path, "TorchScript")


@pytest.mark.parametrize(
    "name", ["data/constants.PKL", "archive/DATA.pkl", "archive/Data/0", "archive/data.pkl"]
)
def test_names_are_compared_as_torch_does(path: Path, name: str) -> None:
    """torch takes the first record whose name is the one it seeks, in capitals or not."""
    torch.save({"x": torch.ones(1)}, path.with_name("archive.pt"))
    path.with_name("archive.pt").rename(path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the one name that is really there twice
        archive.writestr(name, pickle.dumps(1, protocol=2))
    refused(path, "TorchScript" if "constants" in name else "same name")


@pytest.mark.parametrize(
    ("from_end", "what"), [(34, "locator"), (50, "start"), (58, "size"), (98, "mark of the 64-bit record")]
)
def test_a_directory_elsewhere_than_the_end_says_is_refused(path: Path, from_end: int, what: str) -> None:
    torch.save({"x": torch.ones(1)}, path)
    whole = bytearray(path.read_bytes())
    whole[-from_end] ^= 1
    path.write_bytes(bytes(whole))
    refused(path, "where its end says")


def test_bytes_behind_the_archive_are_refused(path: Path) -> None:
    torch.save({"x": torch.ones(1)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x01\x02 another directory"
    refused(path, "where its end says")


def test_values_that_are_no_data_are_refused(path: Path) -> None:
    for value in (torch.Size, torch._utils._rebuild_tensor_v2, torch.ones(2).untyped_storage()):
        torch.save({"x": [value]}, path)
        refused(path, "only tensors and plain Python")
    dataset = TensorDataset(torch.ones(1))
    dataset.more = torch.zeros(1).expand(10**15)  # type: ignore[attr-defined]
    torch.save(dataset, path)
    refused(path, "contiguous")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    torch.save({"x": torch.arange(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path)


def test_a_flipped_bit_in_a_tensor_is_refused(path: Path) -> None:
    torch.save({"x": torch.full((1000,), 7)}, path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))
    assert torch.load(path, weights_only=True)["x"].unique().numel() == 2, "torch alone does not notice"
    refused(path, "checksum")


def test_noise_is_refused(path: Path) -> None:
    torch.save({"x": torch.arange(1000)}, path)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        damaged = bytearray(whole)
        position = int(torch.randint(len(whole), (1,), generator=generator))
        damaged[position : position + 8] = bytes(8) if any(damaged[position : position + 8]) else b"\xff" * 8
        path.write_bytes(bytes(damaged))
        try:
            assert torch.equal(safe_load(path)["x"], torch.arange(1000))
        except DataError as error:
            assert str(path) in str(error)


def test_a_zip_bomb_is_refused_before_it_unpacks(path: Path) -> None:
    torch.save({"x": torch.zeros(1_000_000)}, path)
    rewrite(path, lambda name, content: content, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    refused(path, "compressed")


def test_records_larger_than_the_file_are_refused(path: Path) -> None:
    """Two entries of the directory that point at the same bytes declare more than there is."""
    torch.save({"x": torch.zeros(10_000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        first = next(entry for entry in archive.infolist() if entry.file_size >= 40_000)
        archive.filelist.append(first)
        archive._didModify = True  # type: ignore[attr-defined]
    refused(path, "declares")


def test_a_storage_larger_than_its_record_is_refused(path: Path) -> None:
    torch.save({"x": torch.zeros(4)}, path)
    # K\x04 is the number 4, of elements in the storage and of rows in the shape.
    rewrite(
        path,
        lambda name, content: content.replace(b"K\x04", b"K\x7f") if name.endswith("data.pkl") else content,
    )
    refused(path)


def test_an_expanded_tensor_is_refused(path: Path) -> None:
    torch.save([{"x": (torch.zeros(1).expand(10**15),)}], path)
    refused(path, "1000000000000000", "contiguous")


def test_a_value_in_itself_is_refused(path: Path) -> None:
    cycle: list[Any] = [torch.ones(1)]
    cycle.append({"x": (cycle,)})
    torch.save(cycle, path)
    refused(path, "itself")


def test_lists_that_unfold_without_end_are_refused(path: Path) -> None:
    """A file of 2 kB that has 2**60 values, for whoever goes through them."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    torch.save(value, path)
    refused(path, "without end")
    lists: list[list[Any]] = [[] for _ in range(60)]
    for outer, inner in pairwise(lists):  # each is complete only after it has been named
        outer += [inner, inner]
    torch.save(lists, path)
    refused(path, "without end")


def test_a_key_that_would_be_hashed_without_end_is_refused(path: Path) -> None:
    body = b"\x80\x02})q\x00"
    for place in range(60):
        body += b"h" + bytes([place]) + b"\x86q" + bytes([place + 1])  # (what is on the stack, the same)
    torch.save({"x": 1}, path)
    rewrite(path, lambda name, content: body + b"Ns." if name.endswith("data.pkl") else content)
    refused(path, "without end")


def test_values_may_be_named_more_than_once(path: Path) -> None:
    shape, names = (3, 4, 5), ["a", "b"]
    value = {"shapes": [shape] * 1000, "names": [names, names], (1, (2, 3)): {(4,)}}
    torch.save(value, path)
    assert safe_load(path) == value


def test_the_class_of_the_error_is_the_callers(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"data\.pt"):
        safe_load(path, error=CheckpointError)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, path: Path) -> None:
    refused(path, "No such file")
    refused(tmp_path)


def test_a_failing_disk_is_a_storage_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({}, path)

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(StorageError, match="Input/output"):
        safe_load(path)


@pytest.mark.parametrize(
    ("version", "is_safe"), [("2.9.1+cu128", False), ("1.13", False), ("2.10.0", True), ("3.0", True)]
)
def test_a_torch_with_known_holes_opens_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_safe: bool
) -> None:
    torch.save({"x": 1}, path)
    monkeypatch.setattr(torch, "__version__", version)
    if is_safe:
        assert safe_load(path) == {"x": 1}
    else:
        with pytest.raises(UsageError, match="pip install --upgrade torch"):
            safe_load(path)


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_shortage_of_memory_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """A resume would go back to the state before, or tell the user to begin anew."""
    torch.save({"ids": torch.zeros(3)}, path)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(fault)) as caught:
        safe_load(path)
    assert caught.value is fault


def test_nobody_is_told_to_load_a_damaged_file_with_its_code(path: Path) -> None:
    torch.save({"a": 10**5000}, path)
    with pytest.raises(DataError, match=r"found UnpicklingError: Unsupported operand 139$"):
        safe_load(path)
