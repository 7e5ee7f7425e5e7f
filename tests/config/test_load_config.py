"""Reading configs: everything that is wrong, in one go, with its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from textclf_transformer.config import (
    ClassificationHeadSection,
    FinetuningConfig,
    PretrainingConfig,
    load_config,
)
from textclf_transformer.config.keys import fill_in_defaults
from textclf_transformer.config.schema import MlmHeadSection
from textclf_transformer.config.section import Section
from textclf_transformer.errors import ConfigError, StorageError
from textclf_transformer.experiment import Kind
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.token_pooling import TOKEN_POOLINGS

PRETRAINING = """\
experiment:
  name: pre
tokenizer:
  vocab_dir: vocab
data:
  train:
    dataset_path: train
"""
FINETUNING = """\
experiment:
  name: ft
pretrained_experiment:
  path: pre
data:
  train: {dataset_path: train}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def load(
    path: Path, text: str, *overrides: str, kind: Kind = "pretraining"
) -> PretrainingConfig | FinetuningConfig:
    path.write_text(text, encoding="utf-8")
    return load_config(path, kind, overrides)


def problems(path: Path, text: str, *overrides: str, kind: Kind = "pretraining") -> list[str]:
    """Return the lines of the error, the folder of the file left out."""
    with pytest.raises(ConfigError) as caught:
        load(path, text, *overrides, kind=kind)
    assert caught.value.exit_code == 2
    assert all(line.isprintable() for line in caught.value.lines)
    return [line.replace(f"{path.parent}/", "") for line in caught.value.lines]


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


def test_config_is_frozen(path: Path) -> None:
    config = load(path, PRETRAINING)
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3


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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs=3.0", "an integer"),
        ("training.epochs=true", "an integer"),
        ("training.epochs='3'", "an integer"),
        ("training.epochs=0", "from 1"),
        ("training.epochs=null", "an integer"),
        ("training.epochs=[3]", "an integer"),
        ("training.epochs=" + "9" * 5000, "an integer"),
        ("training.learning_rate=true", "a number"),
        ("training.learning_rate=fast", "a number"),
        ("training.learning_rate=.nan", "a number"),
        ("training.max_grad_norm=.inf", "a number"),
        ("training.save_minutes=1e999", "a number"),
        ("training.learning_rate=0", "above 0"),
        ("training.warmup_ratio=1", "below 1"),
        ("training.use_amp=yes", "true or false"),
        ("training.use_amp=1", "true or false"),
        ("training.amp_dtype=fp8", "auto, bf16, fp16"),
        ("training.device=gpu", "auto, cpu, cuda or cuda:N"),
        ("training.tokens_per_micro_batch=many", "auto or an integer"),
        ("training.tokens_per_micro_batch=0", "auto or an integer"),
        ("training.best_metric=accuracy", "loss"),
        ("training=3", "keys below it"),
        ("training=null", "keys below it"),
        ("data.val=x", "keys below it or null"),
        ("experiment.seed=-1", "from 0"),
        ("experiment.seed=9223372036854775808", "9223372036854775807"),
        ("experiment.name=a/b", "letters"),
        ("experiment.output_dir=''", "text"),
        ("tokenizer.vocab_dir=", "text"),
        ("tokenizer.wrapper_path=bpe", "wordpiece, byte_bpe"),
        ("logging.train_csv=../a.csv", "inside the run folder"),
        ("logging.train_csv=/a.csv", "inside the run folder"),
        ("logging.train_csv='C:a.csv'", "inside the run folder"),
        ("logging.train_csv='..\\a.csv'", "inside the run folder"),
        ("logging.train_csv=model.ckpt", ".csv"),
        ("logging.train_csv=model.ckpt/a.csv", "name of another file"),
        ("logging.train_csv='Tokenizer\\a.csv'", "name of another file"),
        ("logging.train_csv=metrics/eval/metrics.csv", "two files"),
        ("logging.train_csv=./metrics//eval/./metrics.csv", "two files"),
        ("logging.train_csv=Metrics/eval/METRICS.csv", "two files"),
        ("logging.train_csv='metrics\\eval/metrics.csv'", "two files"),
        ('logging.wandb_entity="a\\tb"', "control characters"),
        ("mlm_head.mask_p=0", "above 0"),
        ("mlm_head.mask_token_p=0.95", "at most 1"),
        ("mlm_head.mask_token_p=0.9000000005", "at most 1"),
        ("architecture.attention.num_heads=3", "multiple of num_heads"),
        ("architecture.attention.kind=flash", "standard"),
        ("architecture.dropouts.hidden=1", "below 1"),
        ("training.early_stopping_patience=3", None),
        ("training.epochs.x=3", None),
    ],
)
def test_a_value_that_is_not_allowed_is_one_line(path: Path, override: str, expected: str | None) -> None:
    text = PRETRAINING + "training:\n  epochs: 2\n"
    (line,) = problems(path, text, override)
    assert override.partition("=")[0].split(".")[0] in line
    assert len(line) < 400
    if expected is not None:
        assert expected in line.partition("expected")[2]


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("architecture.attention.num_heads=3", "3 heads, embedding_dim 256"),
        ("architecture.attention.max_relative_positions=32", "32"),
        ("mlm_head.enhanced_mask_decoder=true", "true"),
        ("training.early_stopping_patience=3", "3 without data.val"),
    ],
)
def test_a_broken_rule_says_what_stands_there(path: Path, override: str, found: str) -> None:
    (line,) = problems(path, PRETRAINING, override)
    assert f"; found {found}" in line


def test_what_is_still_to_be_filled_in_under_a_wrong_key_is_a_wrong_key(path: Path) -> None:
    missing, unknown = problems(path, PRETRAINING.replace("vocab_dir: vocab", "vocabdir: <FILL IN>"))
    assert unknown.startswith("unknown key; config.yaml:4, tokenizer.vocabdir;")
    assert missing.startswith("this key is missing; config.yaml:3, tokenizer.vocab_dir;")


def test_shares_that_add_up_to_one_are_allowed(path: Path) -> None:
    for shares in (("0.9", "0.1"), ("0.7", "0.3"), ("1", "0"), ("0", "1")):
        mask, random = shares
        assert load(path, PRETRAINING, f"mlm_head.mask_token_p={mask}", f"mlm_head.random_token_p={random}")
    for thousandths in range(1001):
        assert MlmHeadSection(mask_token_p=thousandths / 1000, random_token_p=(1000 - thousandths) / 1000)


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("architecture.num_layers=3", "from the pretraining checkpoint"),
        ("architecture.attention.num_heads=3", "from the pretraining checkpoint"),
        ("tokenizer=wordpiece", "from the pretraining run"),
        ("tokenizer.vocab_dir=x", "from the pretraining run"),
        ("chunking.chunk_size=2", "from 3"),
        ("classification_head.num_labels=1", "from 2"),
        ("training.early_stopping_patience=2", "needs validation data"),
        ("training.chunks_per_group=3", "gradient_checkpointing is done"),
        ("classification_head.kind=huggingface", "reads the first chunk's [CLS]"),
        ("pretrained_experiment.from_hf=folder", "found both"),
        ("pretrained_experiment.path=null", "found neither"),
    ],
)
def test_rules_of_finetuning(path: Path, override: str, word: str) -> None:
    (line,) = problems(path, FINETUNING, override, kind="finetuning")
    assert word in line and f"--set {override.partition('=')[0]};" in line


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


def test_a_stride_that_skips_tokens_is_refused(path: Path) -> None:
    assert load(path, FINETUNING, "chunking.chunk_size=10", "chunking.stride=8", kind="finetuning")
    (line,) = problems(path, FINETUNING, "chunking.chunk_size=10", "chunking.stride=9", kind="finetuning")
    assert "skipped" in line and "--set chunking.stride;" in line


def test_finetuning_may_leave_architecture_null_or_set_dropouts(path: Path) -> None:
    config = load(path, FINETUNING + "architecture:\n", kind="finetuning")
    assert config.architecture.dropouts.hidden is None
    config = load(path, FINETUNING + "architecture: {dropouts: {hidden: 0.2}}\n", kind="finetuning")
    assert (config.architecture.dropouts.hidden, config.architecture.dropouts.attention) == (0.2, None)


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


def test_a_byte_order_mark_and_windows_lines_are_read(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + PRETRAINING.replace("\n", "\r\n").encode())
    assert load_config(path, "pretraining").experiment.name == "pre"


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


@pytest.mark.parametrize("value", [math.inf, math.nan, True, "1"])
def test_a_section_takes_finite_numbers_only_also_without_a_range(value: object) -> None:
    class Free(Section):
        share: float

    with pytest.raises(ValueError, match="share"):
        Free.model_validate({"share": value})
    assert Free.model_validate({"share": 1}).share == 1


def test_disentangled_attention_brings_its_own_keys(path: Path) -> None:
    disentangled = "architecture.attention.kind=disentangled"
    far, decoder = "architecture.attention.max_relative_positions=4", "mlm_head.enhanced_mask_decoder=true"
    config = load(path, PRETRAINING, disentangled, far, decoder)
    assert isinstance(config, PretrainingConfig)
    assert config.architecture.attention.max_relative_positions == 4
    (line,) = problems(path, PRETRAINING, far)
    assert "architecture.attention.max_relative_positions" in line
    (line,) = problems(path, PRETRAINING, decoder)
    assert "mlm_head.enhanced_mask_decoder" in line
    (line,) = problems(path, PRETRAINING, "architecture.attention.kind=disentagled")
    assert "disentangled" in line


def test_poolings_of_the_config_are_those_of_the_model() -> None:
    field = ClassificationHeadSection.model_fields["pooling"]
    assert get_args(field.annotation) == POOLINGS
    for pooling in POOLINGS:
        if pooling in POSITIONED_POOLINGS:
            ClassificationHeadSection(pooling=pooling, chunk_position_embeddings=True)
        else:
            with pytest.raises(ValidationError):
                ClassificationHeadSection(pooling=pooling, chunk_position_embeddings=True)


def test_token_poolings_of_the_config_are_those_of_the_model() -> None:
    field = ClassificationHeadSection.model_fields["token_pooling"]
    assert get_args(field.annotation) == TOKEN_POOLINGS


def test_hugging_faces_head_reads_cls_alone(path: Path) -> None:
    sets = ("classification_head.kind=huggingface", "classification_head.pooling=cls")
    load(path, FINETUNING, *sets, kind="finetuning")
    sets = (*sets, "classification_head.token_pooling=mean")
    (line,) = problems(path, FINETUNING, *sets, kind="finetuning")
    assert "found huggingface with pooling cls, token_pooling mean" in line


def test_positions_for_a_pooling_without_use_for_them(path: Path) -> None:
    sets = ("classification_head.pooling=mean", "classification_head.chunk_position_embeddings=true")
    (line,) = problems(path, FINETUNING, *sets, kind="finetuning")
    assert "chunk_position_embeddings" in line and "pooling mean" in line


def test_a_config_of_an_older_version_gets_the_defaults() -> None:
    section = {"num_labels": 3, "pooling": "mean"}
    filled = fill_in_defaults({"classification_head": section, "data": {"val": None}}, FinetuningConfig)
    assert filled["classification_head"]["attention_heads"] == 8
    assert filled["classification_head"]["pooling"] == "mean"
    assert filled["data"] == {"val": None, "test": None}  # what has no default stays away
    assert section == {"num_labels": 3, "pooling": "mean"}
