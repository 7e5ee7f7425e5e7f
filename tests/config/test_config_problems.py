"""Everything that is wrong with a config is told in one go, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_cases import FINETUNING, PRETRAINING, load, problems

from textclf_transformer.config import load_config
from textclf_transformer.errors import ConfigError, StorageError


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=3 # more",
        "training.epochs=#3",
        "training.best_metric=loss #1",
        "training.class_weights=[1, 2] # by hand",
        "training.class_weights=[] #",
        "training.class_weights=- 1\n- 2 # by hand",
        "training.freeze=[{from_epoch: 0, train: all}] # all",
    ],
)
def test_a_comment_behind_a_value_is_refused(path: Path, override: str) -> None:
    (line,) = problems(path, FINETUNING, override, kind="finetuning")
    assert "lost as a comment" in line and f"--set {override.partition('=')[0]};" in line


def test_all_problems_come_at_once_each_with_its_line(path: Path) -> None:
    text = """\
experiment:
  name: con
  sed: 3
training:
  lerning_rate: 1e-4
  batch_size: "16"
  log_every: 3
  epochs: 3
  epochs: 4
traning: {}
data:
  val: {dataset_path: v}
"""
    found = problems(path, text, "training.warmup_ratio=2", "nonsense")
    assert {line.split(";")[1].strip() for line in found} == {
        "--set nonsense",
        "--set training.warmup_ratio",
        "config.yaml:2, experiment.name",
        "config.yaml:3, experiment.sed",
        "config.yaml:5, training.lerning_rate",
        "config.yaml:6, training.batch_size",
        "config.yaml:7, training.log_every",
        "config.yaml:9, training.epochs",
        "config.yaml:10, traning",
        "config.yaml:11, data.train.dataset_path",
        "config.yaml, tokenizer.vocab_dir",
    }
    assert len(found) == 11


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.lerning_rate", "training.learning_rate"),
        ("training.learningrate", "training.learning_rate"),
        ("training.log_every", "logging.log_every"),
        ("training.mask_p", "mlm_head.mask_p"),
        ("logging.epochs", "training.epochs"),
        ("epochs", "training.epochs"),
        ("traning", "training"),
        ("architecture.num_heads", "architecture.attention.num_heads"),
        ("architecture.hidden_dropout", None),
        ("data.validation", None),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(path: Path, key: str, meant: str | None) -> None:
    (line,) = problems(path, PRETRAINING, f"{key}=1")
    assert line.startswith(f"unknown key; --set {key};")
    if meant is not None:
        assert line.endswith(f"did you mean {meant}?")


def test_key_of_the_other_kind(path: Path) -> None:
    (line,) = problems(path, PRETRAINING + "chunking: {stride: 3}\n")
    assert line == "this key belongs to the config of finetuning; config.yaml:8, chunking; remove it"
    (line,) = problems(path, FINETUNING, "mlm_head.mask_p=0.1", kind="finetuning")
    assert "belongs to the config of pretraining; --set mlm_head.mask_p;" in line
    # a single key of a section that both have
    (line,) = problems(path, FINETUNING, "training.optimizer=muon", kind="finetuning")
    assert "belongs to the config of pretraining; --set training.optimizer; remove it" in line
    (line,) = problems(path, PRETRAINING, "training.class_weights=balanced")
    assert "belongs to the config of finetuning; --set training.class_weights; remove it" in line


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("[]", "[]"),
        ("[{from_epoch: 0, train: foo}]", "train: 'foo'"),
        ("[{train: head}]", "a section without from_epoch"),
        ("head", "'head'"),
    ],
)
def test_a_wrong_phase_is_told_what_a_phase_looks_like(path: Path, value: str, found: str) -> None:
    (line,) = problems(path, FINETUNING, f"training.freeze={value}", kind="finetuning")
    phase = "{from_epoch, train: head or top_k or all, k, learning_rate}"
    assert f"training.freeze; found {found}, expected a list of one or more {phase}, or null" in line


def test_a_phase_without_its_k_is_named_in_words(path: Path) -> None:
    freeze = "training.freeze=[{from_epoch: 0, train: top_k}]"
    (line,) = problems(path, FINETUNING, freeze, kind="finetuning")
    assert "found no k with train top_k from epoch 0" in line


def test_what_is_still_to_be_filled_in_under_a_wrong_key_is_a_wrong_key(path: Path) -> None:
    missing, unknown = problems(path, PRETRAINING.replace("vocab_dir: vocab", "vocabdir: <FILL IN>"))
    assert unknown.startswith("unknown key; config.yaml:4, tokenizer.vocabdir;")
    assert missing.startswith("this key is missing; config.yaml:3, tokenizer.vocab_dir;")


@pytest.mark.parametrize(
    "key", ["wandb_api_key", "api-token", "password", "client_secret", "AWS_CREDENTIALS"]
)
def test_secrets_belong_into_the_environment_and_are_not_shown(path: Path, key: str) -> None:
    (line,) = problems(path, PRETRAINING + f"logging:\n  {key}: hunter2\n")
    assert "environment" in line and "hunter2" not in line and "config.yaml:9" in line
    (line,) = problems(path, PRETRAINING, f"logging.{key}=hunter2")
    assert "environment" in line and "hunter2" not in line


@pytest.mark.parametrize("key", ["wandb_keys_file", "tokens_per_batch", "monkey"])
def test_words_that_only_contain_a_secret_word_are_no_secrets(path: Path, key: str) -> None:
    (line,) = problems(path, PRETRAINING + f"logging: {{{key}: 1}}\n")
    assert "environment" not in line


def test_control_characters_reach_no_terminal(path: Path) -> None:
    (line,) = problems(path, PRETRAINING, 'training.device="\\e[31mred"')
    assert "\x1b" not in line


def test_files_that_cannot_be_a_config(path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(path, "pretraining")
    with pytest.raises(StorageError):
        load_config(path.parent, "pretraining")
    path.write_bytes(b"a: 1\n# \xff\n")
    with pytest.raises(ConfigError, match=r"UTF-8; .*config\.yaml:2"):
        load_config(path, "pretraining")
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="too large"):
        load_config(path, "pretraining")
    path.write_bytes(b"a: [\n")
    with pytest.raises(ConfigError, match=r"not YAML.*config\.yaml:"):
        load_config(path, "pretraining")


def test_an_empty_file_names_each_missing_key(path: Path) -> None:
    found = problems(path, "")
    assert [line.split(", ")[1].split(";")[0] for line in found] == [
        "experiment.name",
        "tokenizer.vocab_dir",
        "data.train.dataset_path",
    ]


def test_an_unfilled_placeholder_says_what_to_fill_in(path: Path) -> None:
    text = PRETRAINING.replace("dataset_path: train", "dataset_path: <FILL IN>").replace(
        "name: pre", "name: <FILL IN>"
    )
    name, dataset = problems(path, text)
    assert name.startswith("this key still has to be filled in; config.yaml:2, experiment.name")
    assert dataset.startswith("this key still has to be filled in; config.yaml:7, data.train.dataset_path")
    assert "textclf prepare" in dataset
    assert load(path, text, "data.train.dataset_path=x", "experiment.name=y").experiment.name == "y"
