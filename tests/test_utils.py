"""Seeds, the device, classes from outside, and the table of names."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from textclf_transformer.config import ArchitectureSection
from textclf_transformer.errors import ConfigError, UsageError
from textclf_transformer.utils import (
    architecture_arguments,
    check_share,
    cpu_is_intels,
    cpu_name,
    derive_seed,
    load_class,
    resolve_device,
    seed_everything,
)


def test_derived_seeds_are_the_same_on_every_machine() -> None:
    # Written down once; a change here means that every run's order and masks change.
    assert derive_seed("mask", 42, 0, 7) == 7100508866396601717


def test_derived_seeds_fit_a_torch_generator_and_differ() -> None:
    seeds = {derive_seed("mask", 42, epoch, sample) for epoch in range(20) for sample in range(500)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Every bit takes part: a shift too many, or too few bytes, would leave some at 0.
    assert np.bitwise_or.reduce(np.array(sorted(seeds))) == 2**63 - 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        ((1, 2), (12,)),
        (("1",), (1,)),
        ((1, 2), (2, 1)),
        (("a", ""), ("a",)),
        ((-1,), (1,)),
    ],
)
def test_other_parts_give_another_seed(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert derive_seed(*one) != derive_seed(*other)


def test_numpy_integers_count_as_integers_and_floats_are_refused() -> None:
    assert derive_seed(np.int64(5)) == derive_seed(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        derive_seed(1.0)  # type: ignore[arg-type]


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize(
    ("value", "below_one"), [(0, True), (np.float32(0.5), True), (1, False), (0.5, False)]
)
def test_a_share_is_given_back_as_pythons_number(value: float, below_one: bool) -> None:
    share = check_share(value, "dropout", below_one=below_one)
    assert share == value and type(share) is float


@pytest.mark.parametrize(
    ("value", "below_one"), [(1, True), (1.5, False), (-0.1, False), (True, False), ("0", False)]
)
def test_what_is_no_share_is_refused(value: object, below_one: bool) -> None:
    with pytest.raises(ConfigError, match=rf"not a share; dropout; .*{value!r}"):
        check_share(value, "dropout", below_one=below_one)


def test_seed_everything_rules_all_three_streams() -> None:
    seed_everything(3)
    first = draw()
    assert all(one != other for one, other in zip(first, draw(), strict=True))
    seed_everything(3)
    assert draw() == first
    seed_everything(3 + 2**40)
    assert all(one != other for one, other in zip(first, draw(), strict=True))


def test_device_auto_and_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_cuda_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match=r"training\.device"):
            resolve_device(name)


def test_a_device_number_past_the_last_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", ""])
def test_unknown_device_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_device(name)


def test_architecture_is_translated_by_one_table() -> None:
    section = ArchitectureSection(max_sequence_length=33, embedding_dim=8, num_layers=2, ffn_dim=16)
    assert architecture_arguments(section) == {
        "max_sequence_length": 33,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "intermediate_size": 16,
        "attention_kind": "standard",
        "num_attention_heads": 4,
        "max_relative_positions": None,
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "embedding_dropout_prob": 0.1,
    }


def test_code_from_outside_is_not_touched_without_trust(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass A: pass\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match="--trust-code"):
        load_class(f"{file}:A", trust_code=False)
    with pytest.raises(UsageError, match="--trust-code"):
        load_class("collections:OrderedDict", trust_code=False)
    # A folder of that name is not the package.
    with pytest.raises(UsageError, match="--trust-code"):
        load_class("textclf_transformer_other.x:A", trust_code=False)
    assert not (tmp_path / "ran").exists()
    assert load_class(f"{file}:A", trust_code=True).__name__ == "A"
    assert (tmp_path / "ran").exists()


def test_a_class_of_the_package_needs_no_trust() -> None:
    assert load_class("textclf_transformer.errors:DataError", trust_code=False).__name__ == "DataError"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("missing.py:A", "cannot be imported"),
        ("no_such_module:A", "cannot be imported"),
        ("collections:Missing", "no class Missing"),
        ("collections:abc", "no class abc"),
        ("collections", "not the name of a class"),
        (":A", "not the name of a class"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_one_line(name: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        load_class(name, trust_code=True)


def test_an_error_in_foreign_code_names_the_code(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.py:A; found ZeroDivisionError"):
        load_class(f"{file}:A", trust_code=True)
    file.write_text("raise SystemExit(0)\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.py:A; found SystemExit"):
        load_class(f"{file}:A", trust_code=True)


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        ("vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor @ 2.50GHz\n", True),
        ("vendor_id\t: GenuineIntel\nmodel name\t: 13th Gen Intel(R) Core(TM) i7-13700\n", True),
        ("vendor_id\t: GenuineIntel\nmodel name\t: Common KVM processor\n", True),
        ("vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", False),
        ("CPU implementer\t: 0x41\n", False),
    ],
)
def test_the_maker_of_the_processor_is_known_whatever_its_name(
    information: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: information)
    monkeypatch.setattr("platform.processor", lambda: "aarch64")
    for remembered in (cpu_name, cpu_is_intels):
        remembered.cache_clear()
    try:
        assert cpu_is_intels() == expected
    finally:
        for remembered in (cpu_name, cpu_is_intels):
            remembered.cache_clear()


def test_a_file_that_is_loaded_again_gives_the_same_classes_until_it_changes(tmp_path: Path) -> None:
    files = [tmp_path / name / "mine.py" for name in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"class A:\n    home = {file.parent.name!r}\n", encoding="utf-8")
    one, two = (load_class(f"{file}:A", trust_code=True) for file in files)
    assert (one.home, two.home) == ("one", "two")  # type: ignore[attr-defined]
    kept = one()
    assert load_class(f"{files[0]}:A", trust_code=True) is one
    files[0].write_text("class A:\n    home = 'edited'\n", encoding="utf-8")
    assert load_class(f"{files[0]}:A", trust_code=True).home == "edited"  # type: ignore[attr-defined]
    assert type(pickle.loads(pickle.dumps(kept))) is one
