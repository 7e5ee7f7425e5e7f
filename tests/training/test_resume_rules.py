from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from textclf_transformer.errors import CheckpointError, UsageError
from textclf_transformer.training.resume import check_resume


def carried() -> dict[str, Any]:
    return {
        "config": {
            "experiment": {"name": "a", "seed": 1},
            "logging": {"log_every": 10, "eval_every": None},
            "architecture": {"num_layers": 4, "dropouts": {"hidden": 0.1}},
            "training": {
                "epochs": 3,
                "optimizer": "adamw",
                "learning_rate": 0.1,
                "batch_size": 8,
                "save_every": 5,
                "device": "auto",
            },
            "data": {"train": {"dataset_path": "/old"}},
            "tokenizer": {"wrapper_path": "wordpiece", "vocab_dir": "/old"},
        },
        "labels": ["x", "y"],
        "fingerprints": {"data": {"train": "aa", "val": "bb", "test": "cc"}, "tokenizer": "dd"},
        "environment": {"code": "abc", "torch": "2.13", "numpy": "2.4", "threads": 2},
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    now = deepcopy(carried())
    *parents, last = path.split("/")
    target: Any = now
    for parent in parents:
        target = target[parent]
    target[last] = value
    return now


def test_nothing_changed() -> None:
    assert check_resume(carried(), {**carried(), "labels": ("x", "y")}, allow_changed=[]) == []


def test_what_an_older_version_did_not_note_of_the_machine_is_no_change() -> None:
    assert check_resume(carried(), changed("environment/processor", "Xeon"), allow_changed=[]) == []
    assert check_resume(changed("environment/processor", "Xeon"), carried(), allow_changed=[]) != []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("config/logging/log_every", 20, "logging.log_every: 10 -> 20"),
        ("config/training/save_every", None, "training.save_every: 5 -> None"),
        ("config/data/train", {"dataset_path": "/new"}, "data.train.dataset_path: /old -> /new"),
        ("config/tokenizer/vocab_dir", "/new", "tokenizer.vocab_dir: /old -> /new"),
        ("environment/threads", 1, "environment.threads: 2 -> 1 .*to rounding, not to the bit"),
        ("config/training/device", "cpu", "training.device: auto -> cpu .*to rounding"),
        ("environment/numpy", "3.0", "environment.numpy: 2.4 -> 3.0 .*another order"),
    ],
)
def test_harmless_differences_pass_and_are_shown(path: str, value: Any, line: str) -> None:
    (passed,) = check_resume(carried(), changed(path, value), allow_changed=[])
    assert re.search(line, passed.notice)


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("config/training/epochs", 5, "training.epochs"),
        ("config/training/learning_rate", 0.2, "training.learning_rate"),
        ("config/training/batch_size", 4, "training.batch_size"),
        ("config/experiment/seed", 2, "experiment.seed"),
        ("config/logging/eval_every", 7, "logging.eval_every"),
        ("config/architecture/dropouts", {"hidden": 0.2}, "architecture.dropouts.hidden"),
        ("fingerprints/data", {"train": "aa", "val": "bb", "test": "zz"}, "fingerprints.data.test"),
    ],
)
def test_some_need_the_flag(path: str, value: Any, key: str) -> None:
    now = changed(path, value)
    with pytest.raises(CheckpointError, match=f"add --allow-changed {key}") as caught:
        check_resume(carried(), now, allow_changed=[])
    assert caught.value.exit_code == 4
    (passed,) = check_resume(carried(), now, allow_changed=[key])
    assert key in passed.notice
    assert check_resume(carried(), carried(), allow_changed=[key]) == []  # the same command once more


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("config/architecture/num_layers", 6, "architecture.num_layers"),
        ("config/training/optimizer", "muon", "training.optimizer"),
        ("config/classification_head", {"token_pooling": "mean"}, "classification_head.token_pooling"),
        ("config/tokenizer/wrapper_path", "byte_bpe", "tokenizer.wrapper_path"),
        ("labels", ["y", "x"], "labels"),
        ("fingerprints/tokenizer", "zz", "fingerprints.tokenizer"),
        ("fingerprints/data", {"train": "zz", "val": "bb", "test": "cc"}, "fingerprints.data.train"),
        ("fingerprints/data", {"train": "aa", "test": "cc"}, "fingerprints.data.val"),
    ],
)
def test_some_are_refused_whatever_the_flag(path: str, value: Any, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"cannot be resumed.*{key}: .* -> "):
        check_resume(carried(), changed(path, value), allow_changed=[key])


def test_all_differences_are_shown_at_once() -> None:
    now = changed("config/training/epochs", 5)
    now["config"]["training"]["batch_size"] = 4
    with pytest.raises(CheckpointError, match=r"epochs: 3 -> 5, training\.batch_size: 8 -> 4"):
        check_resume(carried(), now, allow_changed=[])


@pytest.mark.parametrize(
    ("place", "key", "words"),
    [
        ("/old", "data.train", "the documents in /old are not those of the checkpoint"),
        ("/new", "data.train", "the documents in /new are not those of the checkpoint, which lay in /old"),
        (None, "data.train", "there are no documents now, then those in /old"),
        ("/old", "tokenizer", "the tokenizer's files in /old are not those of the checkpoint"),
    ],
)
def test_a_changed_fingerprint_is_told_in_words(place: str | None, key: str, words: str) -> None:
    now = changed("config/data/train", None if place is None else {"dataset_path": place})
    *parents, last = key.split(".")
    holder = now["fingerprints"]["data"] if parents else now["fingerprints"]
    holder[last] = "f" * 64
    with pytest.raises(CheckpointError) as caught:
        check_resume(carried(), now, allow_changed=[])
    assert f"fingerprints.{key}: {'aa' if parents else 'dd'} -> ffffffffffffffff... ({words})" in str(
        caught.value
    )
    assert "; put the same files back there (a store: the same text, " in str(caught.value)
    assert "change it back" not in str(caught.value)


def test_weights_of_another_pretraining_are_told_in_words() -> None:
    then, now = carried(), carried()
    for state, weights in ((then, "ee"), (now, "ff")):
        state["config"]["pretrained_experiment"] = {"path": None, "from_hf": "/weights"}
        state["fingerprints"]["pretrained"] = weights
    words = "the weights in /weights are not those of the checkpoint"
    with pytest.raises(CheckpointError, match=words):
        check_resume(then, now, allow_changed=[])
    (passed,) = check_resume(then, now, allow_changed=["fingerprints.pretrained"])
    assert f"ee -> ff ({words}) (this run goes on with its own)" in passed.notice


def test_weights_that_are_not_loaded_are_not_compared() -> None:
    """Older versions noted which weights a run does not load."""
    section = {"path": "/weights", "load_weights": False}
    then = changed("config/pretrained_experiment", section) | {"fingerprints": {"pretrained": "ee"}}
    now = deepcopy(then) | {"fingerprints": {"pretrained": "random weights"}}
    assert check_resume(then, now, allow_changed=[]) == []
    now["config"]["pretrained_experiment"]["load_weights"] = True
    (passed,) = check_resume(then, now, allow_changed=["pretrained_experiment.load_weights"])
    assert passed.key == "pretrained_experiment.load_weights"


def test_a_flag_with_a_typo_is_named() -> None:
    with pytest.raises(UsageError, match=r"did you mean training\.epochs"):
        check_resume(carried(), carried(), allow_changed=["training.epoch"])


def test_true_is_not_one() -> None:
    assert check_resume(carried(), changed("config/training/epochs", 3.0), allow_changed=[]) == []
    with pytest.raises(CheckpointError):
        check_resume(
            changed("config/training/epochs", 1), changed("config/training/epochs", True), allow_changed=[]
        )


def test_a_null_section_is_no_difference_of_its_own() -> None:
    with_test, without = carried(), carried()
    with_test["config"]["data"]["test"] = {"dataset_path": "/t"}
    without["config"]["data"]["test"] = None
    (passed,) = check_resume(with_test, without, allow_changed=[])
    assert "data.test.dataset_path: /t -> nothing" in passed.notice
