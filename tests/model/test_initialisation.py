"""How each parameter starts: every tensor of every model, against the published values."""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import PAD, make_encoder
from torch import Tensor, nn

from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.initialisation import initialise_weights
from textclf_transformer.model.ordinal import CumulativeLink
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

KINDS = ("standard", "disentangled")
STD = 0.02
WITH_PAD_ROW = ("word_embeddings.weight", "position_embeddings.weight")
WITHOUT_PAD_ROW = ("relative_position_embeddings.weight", "chunk_positions.weight", "cls.weight")


def hierarchical(kind: str, pooling: str, **changes: object) -> nn.Module:
    encoder = make_encoder(hidden_size=48, intermediate_size=96, attention_kind=kind)
    return HierarchicalRobertaForClassification(
        encoder,
        num_labels=9,
        pooling=pooling,
        attention_hidden_size=40,
        max_chunks=6,
        chunk_position_embeddings=pooling in POSITIONED_POOLINGS,
        **changes,  # type: ignore[arg-type]
    )


def models(kind: str) -> list[nn.Module]:
    decoder = kind == "disentangled"
    return [
        RobertaForMaskedLM(
            make_encoder(attention_kind=kind), tie_weights=False, enhanced_mask_decoder=decoder
        ),
        RobertaForMaskedLM(make_encoder(attention_kind=kind)),
        RobertaForSequenceClassification(make_encoder(attention_kind=kind), num_labels=5),
        *(hierarchical(kind, pooling) for pooling in POOLINGS),
        hierarchical(kind, "cls", classifier_kind="huggingface"),
        hierarchical(kind, "mean", ordinal=True),
    ]


def assert_normal(values: Tensor, name: str) -> None:
    error_of_std = STD / (2 * values.numel()) ** 0.5
    assert abs(values.std().item() - STD) < 5 * error_of_std, name
    assert abs(values.mean().item()) < 5 * STD / values.numel() ** 0.5, name


def assert_starts_as_published(name: str, parameter: Tensor) -> None:
    if name.endswith("norm.weight"):
        assert torch.equal(parameter, torch.ones_like(parameter)), name
    elif name.endswith("bias"):
        assert not parameter.any(), name
    elif name.endswith(WITH_PAD_ROW) and not name.endswith(WITHOUT_PAD_ROW):
        others = torch.arange(len(parameter)) != PAD
        assert not parameter[PAD].any(), name
        assert bool(parameter[others].all()), name
        assert_normal(parameter[others], name)
    else:
        assert bool(parameter.all()), name
        assert_normal(parameter, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_starts_as_published(kind: str) -> None:
    for model in models(kind):
        thresholds = {
            f"{name}.bias" for name, part in model.named_modules() if isinstance(part, CumulativeLink)
        }
        for name, parameter in model.named_parameters():
            if name not in thresholds:
                assert_starts_as_published(name, parameter.detach())


def test_ordered_labels_start_equally_likely() -> None:
    (link,) = (
        part
        for part in hierarchical("standard", "mean", ordinal=True).modules()
        if isinstance(part, CumulativeLink)
    )
    expected = [math.log(r / (9 - r)) for r in range(1, 9)]
    assert link.thresholds.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_initialisation_overwrites_all_weights(kind: str) -> None:
    for model in models(kind):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
        initialise_weights(model)
        left = [name for name, parameter in model.named_parameters() if bool((parameter == 7.0).any())]
        assert not left


def test_a_parameter_without_a_published_start_is_refused() -> None:
    module = nn.Module()
    module.scale = nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match=r"Module\.scale"):
        initialise_weights(nn.Sequential(module))
