"""Which values a config may have, alone and beside others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
from config_cases import FINETUNING, PRETRAINING, load, problems
from pydantic import ValidationError

from textclf_transformer.config import ClassificationHeadSection, PretrainingConfig
from textclf_transformer.config.schema import MlmHeadSection
from textclf_transformer.config.section import Section
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.token_pooling import TOKEN_POOLINGS


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


def test_with_validation_data_a_run_may_stop_early(path: Path) -> None:
    overrides = ("data.val.dataset_path=val", "training.early_stopping_patience=3")
    assert load(path, PRETRAINING, *overrides).training.early_stopping_patience == 3


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


def test_a_stride_that_skips_tokens_is_refused(path: Path) -> None:
    assert load(path, FINETUNING, "chunking.chunk_size=10", "chunking.stride=8", kind="finetuning")
    (line,) = problems(path, FINETUNING, "chunking.chunk_size=10", "chunking.stride=9", kind="finetuning")
    assert "skipped" in line and "--set chunking.stride;" in line


def test_finetuning_may_leave_architecture_null_or_set_dropouts(path: Path) -> None:
    config = load(path, FINETUNING + "architecture:\n", kind="finetuning")
    assert config.architecture.dropouts.hidden is None
    config = load(path, FINETUNING + "architecture: {dropouts: {hidden: 0.2}}\n", kind="finetuning")
    assert (config.architecture.dropouts.hidden, config.architecture.dropouts.attention) == (0.2, None)


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
