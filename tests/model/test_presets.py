"""Presets, create_model and the names at the top level."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from model_cases import make_batch, make_encoder, make_hf

import textclf_transformer
from textclf_transformer.errors import ConfigError
from textclf_transformer.model.freezing import count_parameters
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.presets import (
    PRESETS,
    ModelConfig,
    create_encoder,
    create_model,
    create_model_config,
)

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    make_hf("RobertaForMaskedLM").save_pretrained(tmp_path / "published")
    return str(tmp_path / "published")


def test_keywords_and_defaults_of_create_model_are_the_fields_of_model_config() -> None:
    keywords = {
        name: parameter.default for name, parameter in inspect.signature(create_model).parameters.items()
    }
    assert keywords.pop("freeze_base") is False
    assert keywords == dataclasses.asdict(ModelConfig())


def test_published_defaults() -> None:
    with torch.device("meta"):
        model = create_model()
    assert model.encoder.max_sequence_length == 512
    assert model.settings == {
        "num_labels": 3,
        "pooling": "attention",
        "token_pooling": "cls",
        "classifier_kind": "normalised",
        "attention_hidden_size": 256,
        "attention_heads": 8,
        "attention_dropout": 0.1,
        "hidden_dropout": 0.1,
        "classifier_dropout": 0.3,
        "layer_norm_eps": 1e-5,
        "max_chunks": 20,
        "chunk_position_embeddings": False,
        "ordinal": False,
    }
    assert model.use_gradient_checkpointing


def test_parameters_of_the_roberta_base_model_to_the_unit() -> None:
    with torch.device("meta"):
        model = create_model(num_classes=3)
        reference = transformers.RobertaModel(
            transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
            add_pooling_layer=False,
        )
    parts = model.get_parameter_breakdown()
    assert parts == {
        "roberta_embeddings": 38_999_808,
        "roberta_encoder": 85_054_464,
        "attention_aggregator": 197_120,
        "classifier": 297_987,
        "total": 124_549_379,
    }
    # Theirs has one row of token types more.
    assert parts["roberta_embeddings"] + parts["roberta_encoder"] + 768 == reference.num_parameters()
    assert model.count_parameters() == parts["total"]
    sentence = README.read_text(encoding="utf-8").split("hierarchical classifier with three labels has ")[1]
    assert " ".join(sentence.split()).startswith(
        f"{parts['total']:,} parameters: {parts['roberta_embeddings']:,} in the embeddings, "
        f"{parts['roberta_encoder']:,} in the encoder's layers, {parts['attention_aggregator']:,} in the "
        f"attention over chunks, {parts['classifier']:,} in the classifier."
    )


@pytest.mark.parametrize("name", PRESETS)
def test_preset_names_tell_the_size_and_take_a_batch(name: str) -> None:
    with torch.device("meta"):
        model = RobertaForMaskedLM(create_encoder(name))
    assert round(count_parameters([model]) / 1e6) == PRESETS[name].millions
    config = create_model_config(f"{name} ({PRESETS[name].millions}M)")
    assert config == create_model_config(name)
    assert (config.base_model_name, config.hidden_size) == (name, PRESETS[name].hidden_size)
    assert model.encoder.max_sequence_length == config.chunk_size == 512


def test_a_preset_takes_another_vocabulary() -> None:
    encoder = create_encoder("roberta-tiny", vocab_size=77, pad_token_id=0)
    assert (encoder.vocab_size, encoder.pad_token_id, encoder.max_sequence_length) == (77, 0, 512)


def test_a_preset_says_that_it_is_random_and_is_trained_whole(caplog: pytest.LogCaptureFixture) -> None:
    model = create_model(**dataclasses.asdict(create_model_config("roberta-tiny")))
    assert "roberta-tiny: randomly initialised" in caplog.text
    assert model.count_trainable_parameters() == model.count_parameters()
    ids, mask = make_batch("right")
    out = model(ids.unsqueeze(0), mask.unsqueeze(0), return_attention=True)
    assert out["logits"].shape == (1, 3)
    assert out["attention_weights"].shape == (1, 4)


def test_a_folder_is_loaded_and_its_embeddings_are_frozen(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model = create_model(base_model_name=folder, num_classes=4)
    assert "randomly" not in caplog.text
    assert "left behind: head.bias" in caplog.text
    reference = (
        transformers.RobertaForMaskedLM.from_pretrained(folder).roberta.encoder.layer[1].output.dense.weight
    )
    assert torch.equal(model.encoder.layers[1].output.weight, reference)
    parts = model.get_parameter_breakdown()
    assert model.count_trainable_parameters() == parts["total"] - parts["roberta_embeddings"]


@pytest.mark.parametrize("keyword", ["freeze_base", "freeze_base_encoder"])
def test_the_base_is_frozen_by_either_name(keyword: str, folder: str) -> None:
    model = create_model(base_model_name=folder, **{keyword: True})
    parts = model.get_parameter_breakdown()
    assert model.count_trainable_parameters() == parts["attention_aggregator"] + parts["classifier"]
    assert not model.encoder.training


def test_frozen_embeddings_can_be_chosen_either_way(folder: str) -> None:
    model = create_model(base_model_name=folder, freeze_embeddings=False)
    assert model.count_trainable_parameters() == model.count_parameters()
    model = create_model(base_model_name="roberta-tiny", freeze_embeddings=True)
    parts = model.get_parameter_breakdown()
    assert model.count_trainable_parameters() == parts["total"] - parts["roberta_embeddings"]


def test_every_keyword_reaches_the_model(folder: str) -> None:
    model = create_model(
        base_model_name=folder,
        hidden_size=24,
        num_classes=7,
        max_chunks=5,
        chunk_size=16,
        attention_hidden_size=11,
        attention_heads=2,
        attention_dropout=0.2,
        hidden_dropout=0.3,
        classifier_dropout=0.4,
        use_gradient_checkpointing=False,
        pooling_strategy="multihead",
        token_pooling="mean",
        chunk_position_embeddings=True,
    )
    assert model.settings == {
        "num_labels": 7,
        "pooling": "multihead",
        "token_pooling": "mean",
        "classifier_kind": "normalised",
        "attention_hidden_size": 11,
        "attention_heads": 2,
        "attention_dropout": 0.2,
        "hidden_dropout": 0.3,
        "classifier_dropout": 0.4,
        "layer_norm_eps": 1e-5,
        "max_chunks": 5,
        "chunk_position_embeddings": True,
        "ordinal": False,
    }
    assert not model.use_gradient_checkpointing
    assert model.pooling.projection.out_features == 11
    assert model.pooling.dropout.p == 0.2
    assert model.chunk_dropout.p == 0.3
    assert model.classifier.dropout.p == 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name": "roberta-huge"}, r"roberta-huge.*roberta-base \(125M\)"),
        ({"hidden_size": 768}, "found 768, expected 24"),
        ({"chunk_size": 17}, "found 17, expected 3 to 16"),
        ({"chunk_size": 2}, "found 2, expected 3 to 16"),
        ({"num_classes": 0}, "num_classes; found 0, expected an integer from 1 up"),
        ({"num_classes": "3"}, "num_classes; found '3'"),
        ({"chunk_size": 16.0}, "chunk_size; found 16.0"),
        ({"base_model_name": None}, "base_model_name; found NoneType, expected a preset"),
        ({"base_model_name": Path("nowhere")}, "no such base model; found 'nowhere'"),
        ({"max_chunks": 0}, "max_chunks; found 0"),
        ({"attention_heads": 0}, "attention_heads; found 0, expected an integer from 1 up"),
        ({"attention_hidden_size": "x"}, "attention_hidden_size; found 'x'"),
        ({"attention_dropout": 1}, "attention_dropout; found 1, expected a number from 0 to below 1"),
        ({"hidden_dropout": "x"}, "hidden_dropout; found 'x'"),
        ({"classifier_dropout": float("nan")}, "classifier_dropout; found nan"),
    ],
)
def test_conflicts_are_one_line(changes: dict[str, object], message: str, folder: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(**({"base_model_name": folder} | changes))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="roberta-base"):
        create_model_config("roberta-huge")


def test_numbers_of_numpy_and_torch_go_through_a_folder(folder: str, tmp_path: Path) -> None:
    model = create_model(
        base_model_name=folder,
        num_classes=np.int64(4),
        max_chunks=torch.tensor(5),
        hidden_dropout=np.float32(0.25),
    )
    model.to_hf(tmp_path / "out")
    settings = HierarchicalRobertaForClassification.from_hf(tmp_path / "out").settings
    assert (settings["num_labels"], settings["max_chunks"], settings["hidden_dropout"]) == (4, 5, 0.25)


def test_top_level_names() -> None:
    for name in textclf_transformer.__all__:
        assert getattr(textclf_transformer, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = textclf_transformer.nonsense
    assert isinstance(make_encoder(), textclf_transformer.RobertaModel)
