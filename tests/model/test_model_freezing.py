"""Freezing and counting on the hierarchical classifier."""

from __future__ import annotations

import pytest
import torch
from model_cases import make_batch, make_encoder

from textclf_transformer.model.freezing import count_parameters, parameters_in_words
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

LAYERS = 3


def make_model(**changes: object) -> HierarchicalRobertaForClassification:
    encoder = make_encoder(num_hidden_layers=LAYERS)
    return HierarchicalRobertaForClassification(encoder, num_labels=4, **changes)  # type: ignore[arg-type]


def step(model: HierarchicalRobertaForClassification) -> None:
    ids, mask = make_batch("right")
    model.classify_chunks(ids, mask, torch.tensor([3, 1]))["logits"].sum().backward()


def trained_parts(model: HierarchicalRobertaForClassification) -> set[str]:
    """Where gradients arrive: "embeddings", "0", "1" …, "head"."""
    step(model)
    found = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts = name.split(".")
            found.add("head" if parts[0] != "encoder" else parts[2] if parts[1] == "layers" else parts[1])
    return found


def test_gradients_arrive_where_nothing_is_frozen() -> None:
    everything = {"embeddings", "0", "1", "2", "head"}
    model = make_model()
    assert trained_parts(model) == everything
    model.zero_grad()
    model.freeze_embeddings()
    assert trained_parts(model) == everything - {"embeddings"}
    model.zero_grad()
    model.freeze_base_model()
    assert trained_parts(model) == {"head"}
    model.unfreeze_base_model()
    model.zero_grad()
    model.freeze_bottom_k_layers(2)
    assert trained_parts(model) == {"2", "head"}
    model.zero_grad()
    model.freeze_bottom_k_layers(0)
    assert trained_parts(model) == everything - {"embeddings"}
    model.zero_grad()
    model.unfreeze_base_model()
    assert trained_parts(model) == everything


@pytest.mark.parametrize("checkpointing", [True, False])
def test_frozen_layers_build_no_graph(checkpointing: bool) -> None:
    model = make_model(use_gradient_checkpointing=checkpointing)
    ids, mask = make_batch("right")
    model.freeze_base_model()
    assert not model.encode_chunks(ids, mask).requires_grad
    model.freeze_bottom_k_layers(LAYERS - 1)
    inputs = []
    model.encoder.layers[-1].register_forward_pre_hook(lambda _, args: inputs.append(args[0].requires_grad))
    assert model.encode_chunks(ids, mask).requires_grad
    assert inputs == [False]


def test_a_wholly_frozen_base_runs_in_evaluation_mode() -> None:
    model = make_model().train()
    ids, mask = make_batch("right")
    model.freeze_base_model()
    assert torch.equal(model.encode_chunks(ids, mask), model.encode_chunks(ids, mask)), "dropout is on"
    model.eval().train()
    assert not model.encoder.training
    assert model.classifier.training
    model.freeze_bottom_k_layers(LAYERS)
    assert not model.encoder.training
    model.unfreeze_base_model()
    assert model.encoder.training
    assert not torch.equal(model.encode_chunks(ids, mask), model.encode_chunks(ids, mask))
    model.eval()
    model.unfreeze_base_model()
    assert not model.encoder.training


@pytest.mark.parametrize("k", [-1, LAYERS + 1])
def test_layers_that_do_not_exist_cannot_be_frozen(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} layers of {LAYERS}"):
        make_model().freeze_bottom_k_layers(k)


@pytest.mark.parametrize("pooling", ["attention", "max", "transformer"])
def test_breakdown_adds_up(pooling: str) -> None:
    model = make_model(pooling=pooling, max_chunks=5, chunk_position_embeddings=True)
    parts = model.get_parameter_breakdown()
    assert list(parts) == [
        "roberta_embeddings",
        "roberta_encoder",
        "attention_aggregator",
        "classifier",
        "total",
    ]
    total = parts.pop("total")
    assert (
        sum(parts.values()) == total == model.count_parameters() == sum(p.numel() for p in model.parameters())
    )
    assert parts["roberta_embeddings"] == (59 + 18 + 2) * 24
    assert parts["attention_aggregator"] == 5 * 24 + count_parameters([model.pooling])


def test_trainable_parameters_are_those_not_frozen() -> None:
    model = make_model()
    parts = model.get_parameter_breakdown()
    assert model.count_trainable_parameters() == model.count_parameters() == parts["total"]
    model.freeze_embeddings()
    assert model.count_trainable_parameters() == parts["total"] - parts["roberta_embeddings"]
    model.freeze_base_model()
    assert model.count_trainable_parameters() == parts["attention_aggregator"] + parts["classifier"]
    assert model.get_parameter_breakdown() == parts


def test_the_line_for_the_log_names_every_part() -> None:
    model = make_model()
    model.freeze_bottom_k_layers(1)
    parts = model.get_parameter_breakdown()
    assert parameters_in_words(model) == (
        f"parameters: roberta_embeddings {parts['roberta_embeddings']:,}, "
        f"roberta_encoder {parts['roberta_encoder']:,}, "
        f"attention_aggregator {parts['attention_aggregator']:,}, classifier {parts['classifier']:,}, "
        f"total {parts['total']:,}; trained {model.count_trainable_parameters():,}"
    )
    masked_lm = RobertaForMaskedLM(make_encoder())
    count = count_parameters([masked_lm])
    assert parameters_in_words(masked_lm) == f"parameters: total {count:,}; trained {count:,}"


def test_sequence_classification_freezes_and_counts_too() -> None:
    model = RobertaForSequenceClassification(make_encoder(), num_labels=3)
    parts = model.get_parameter_breakdown()
    assert parts["attention_aggregator"] == 0
    assert parts["classifier"] == 24 * 24 + 24 + 3 * 24 + 3
    model.freeze_base_model()
    assert model.count_trainable_parameters() == parts["classifier"]
