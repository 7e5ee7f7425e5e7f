"""What a config is once it is read: defaults, precedence, texts and numbers, older versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_cases import FINETUNING, PRETRAINING, load, problems

from textclf_transformer.config import FinetuningConfig, PretrainingConfig, load_config
from textclf_transformer.config.keys import fill_in_defaults


def test_defaults_of_pretraining(path: Path) -> None:
    config = load(path, PRETRAINING)
    assert isinstance(config, PretrainingConfig)
    assert config.experiment.seed == 42
    assert config.tokenizer.vocab_dir == Path("vocab")
    assert config.data.val is None
    assert (config.training.learning_rate, config.training.batch_size, config.training.epochs) == (
        5e-4,
        64,
        10,
    )
    assert (config.training.warmup_ratio, config.training.best_metric) == (0.06, "loss")
    assert config.architecture.dropouts.attention == 0


def test_defaults_of_finetuning(path: Path) -> None:
    config = load(path, FINETUNING, kind="finetuning")
    assert isinstance(config, FinetuningConfig)
    assert config.tokenizer is None
    assert config.architecture.dropouts.hidden is None
    assert (config.training.learning_rate, config.training.batch_size, config.training.epochs) == (
        1e-4,
        16,
        5,
    )
    assert (config.training.warmup_ratio, config.training.best_metric) == (0.1, "f1_macro")
    assert (config.pretrained_experiment.checkpoint, config.pretrained_experiment.load_weights) == (
        "best",
        True,
    )


def test_precedence_is_command_line_file_default(path: Path) -> None:
    text = PRETRAINING + "training:\n  epochs: 3\n  batch_size: 8\n"
    config = load(path, text, "training.epochs=4", "training.epochs=5", "data.val.dataset_path=v")
    assert (config.training.epochs, config.training.batch_size, config.training.grad_accum_steps) == (5, 8, 1)
    assert config.data.val is not None and config.data.val.dataset_path == Path("v")


def test_numbers_as_people_write_them(path: Path) -> None:
    config = load(
        path, PRETRAINING + "training: {learning_rate: 1e-4, weight_decay: 0}\n", "training.max_grad_norm=1E2"
    )
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-4, 0)
    assert config.training.max_grad_norm == 100


def test_names_that_look_like_other_things_stay_text(path: Path) -> None:
    config = load(
        path, PRETRAINING.replace("pre", "no"), "logging.wandb_project='123'", "logging.wandb_entity=yes"
    )
    assert (config.experiment.name, config.logging.wandb_project) == ("no", "123")
    assert config.logging.wandb_entity == "yes"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("st/a #1/train", "st/a #1/train"),
        ("#1", "#1"),
        ("2024", "2024"),
        ("true", "true"),
        ("t: ok", "t: ok"),
        ("[a]", "[a]"),
        ("null", "null"),
        ("it's", "it's"),
        ("'a' or 'b", "'a' or 'b"),
        ("'a' or 'b'", "'a' or 'b'"),
        ("'st/a #1'", "st/a #1"),
        ("'it''s'", "it's"),
        ('"caf\\xe9"', "café"),
    ],
)
def test_a_text_on_the_command_line_is_taken_as_typed(path: Path, typed: str, meant: str) -> None:
    keys = ("data.train.dataset_path", "logging.wandb_project")
    config = load(path, PRETRAINING, *(f"{key}={typed}" for key in keys))
    assert (config.data.train.dataset_path, config.logging.wandb_project) == (Path(meant), meant)


def test_only_where_null_is_allowed_it_is_no_text(path: Path) -> None:
    overrides = [f"{key}=null" for key in ("experiment.output_dir", "logging.wandb_entity")]
    config = load(path, PRETRAINING, *overrides)
    assert (config.experiment.output_dir, config.logging.wandb_entity) == (None, None)


def test_config_is_frozen(path: Path) -> None:
    config = load(path, PRETRAINING)
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3


def test_labels_that_are_integers_are_read_as_their_text(path: Path) -> None:
    key = "classification_head.ordinal_labels"
    config = load(path, FINETUNING, f"{key}=[1, two, -3]", kind="finetuning")
    assert config.classification_head.ordinal_labels == ["1", "two", "-3"]
    for wrong in ("[1, true]", "[1, 2.5]", "[1, null]", "[1, '']", "5"):
        (line,) = problems(path, FINETUNING, f"{key}={wrong}", kind="finetuning")
        assert f"--set {key};" in line and "true or false" not in line
        assert "expected a list of texts, or null" in line or wrong == "[1, '']"
    (line,) = problems(path, FINETUNING, f"{key}=[1, '1']", kind="finetuning")
    assert "a label stands twice" in line


def test_a_byte_order_mark_and_windows_lines_are_read(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + PRETRAINING.replace("\n", "\r\n").encode())
    assert load_config(path, "pretraining").experiment.name == "pre"


def test_a_config_of_an_older_version_gets_the_defaults() -> None:
    section = {"num_labels": 3, "pooling": "mean"}
    filled = fill_in_defaults({"classification_head": section, "data": {"val": None}}, FinetuningConfig)
    assert filled["classification_head"]["attention_heads"] == 8
    assert filled["classification_head"]["pooling"] == "mean"
    assert filled["data"] == {"val": None, "test": None}  # what has no default stays away
    assert section == {"num_labels": 3, "pooling": "mean"}
