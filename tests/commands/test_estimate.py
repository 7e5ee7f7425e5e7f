"""Estimates beside what torch counts: operations by its flop counter, kept bytes by what autograd saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from textclf_transformer.commands.estimate import StepLoad, estimate_cost, layers_in_graph
from textclf_transformer.model import linear
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification

CHUNKS, LENGTH, WIDTH = 16, 64, 64


def classifier(
    *, kind: str, layers: int = 3, recompute: bool = False, dropout: float = 0.0
) -> HierarchicalRobertaForClassification:
    torch.manual_seed(0)
    encoder = RobertaModel(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LENGTH + 1,
        pad_token_id=0,
        attention_kind=kind,
        attention_probs_dropout_prob=dropout,
    )
    return HierarchicalRobertaForClassification(
        encoder, num_labels=2, pooling="mean", use_gradient_checkpointing=recompute
    )


def load(**changes: Any) -> StepLoad:
    settings: dict[str, Any] = {
        "sequence_length": LENGTH,
        "tokens_per_step": CHUNKS * LENGTH,
        "tokens_per_micro_batch": CHUNKS * LENGTH,
        "wanted_share": 1 / LENGTH,
        "amp": False,
        "attention_backend": "explicit",
        "attention_dropout": False,
    }
    return StepLoad(**{**settings, **changes})


def run(model: HierarchicalRobertaForClassification, *, amp: bool = False) -> None:
    ids = torch.randint(1, 50, (4, CHUNKS // 4, LENGTH))
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        model(ids, torch.zeros_like(ids, dtype=torch.bool))["logits"].sum().backward()


@pytest.mark.parametrize("kind", ["standard", "disentangled"])
@pytest.mark.parametrize("frozen", ["nothing", "a layer", "everything"])
@pytest.mark.parametrize("recompute", ["nothing", "chunks"])
def test_operations_are_those_that_torch_counts(
    monkeypatch: pytest.MonkeyPatch, kind: str, frozen: str, recompute: Any
) -> None:
    model = classifier(kind=kind, recompute=recompute == "chunks")
    if frozen == "a layer":
        model.freeze_bottom_k_layers(1)
    if frozen == "everything":
        model.freeze_base_model()
    assert layers_in_graph(model.encoder) == {"nothing": 3, "a layer": 2, "everything": 0}[frozen]
    monkeypatch.setattr(linear, "_PRODUCT", None)  # torch's counter does not know oneDNN's product
    with FlopCounterMode(display=False) as counter:
        run(model)
    groups = {"tokens_per_group": 4 * LENGTH, "tokens_kept": 2 * 4 * LENGTH}
    cost = estimate_cost(model, model.encoder, load(recompute=recompute, **groups))
    assert cost.step_flops == pytest.approx(counter.get_total_flops(), rel=0.06)


def saved_bytes(work: Callable[[], object], model: HierarchicalRobertaForClassification) -> int:
    """Return the bytes of all storages but weights that autograd keeps for a backward pass of ``work``."""
    kept: dict[int, Tensor] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("kind", ["standard", "disentangled"])
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_each_layer_keeps_what_autograd_saves(kind: str, amp: bool, frozen: int, dropout: float) -> None:
    estimated, saved = [], []
    for layers in (3, 5):
        model = classifier(kind=kind, layers=layers, dropout=dropout)
        model.freeze_bottom_k_layers(frozen)
        if not frozen:
            model.unfreeze_base_model()
        cost = estimate_cost(model, model.encoder, load(amp=amp, attention_dropout=dropout > 0))
        estimated.append(cost.activation_bytes)
        saved.append(saved_bytes(lambda model=model: run(model, amp=amp), model))
    assert estimated[1] - estimated[0] == pytest.approx(saved[1] - saved[0], rel=0.06)


@pytest.mark.parametrize("kind", ["standard", "disentangled"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_last_layer_keeps_less_where_few_outputs_are_wanted(kind: str, dropout: float) -> None:
    model = classifier(kind=kind, dropout=dropout)
    ids = torch.randint(1, 50, (CHUNKS, LENGTH))
    none = torch.zeros_like(ids, dtype=torch.bool)
    estimated, saved = [], []
    for count in (1, LENGTH):
        wanted = torch.arange(LENGTH).expand_as(ids) < count
        saved.append(saved_bytes(lambda wanted=wanted: model.encoder.encode(ids, none, wanted).sum(), model))
        settings = load(wanted_share=count / LENGTH, attention_dropout=dropout > 0)
        estimated.append(estimate_cost(model, model.encoder, settings).activation_bytes)
    assert estimated[1] - estimated[0] == pytest.approx(saved[1] - saved[0], rel=0.06)


def test_what_is_frozen_keeps_nothing_and_has_no_optimizer_state() -> None:
    model = classifier(kind="standard")
    whole = estimate_cost(model, model.encoder, load())
    assert whole.state_bytes == 16 * whole.parameters
    model.freeze_base_model()
    head = estimate_cost(model, model.encoder, load())
    assert head.state_bytes == 4 * whole.parameters + 12 * head.trainable_parameters
    assert head.activation_bytes < whole.activation_bytes / 2


def test_groups_of_chunks_bound_the_memory() -> None:
    model = classifier(kind="standard")
    group = 4 * LENGTH
    few, many = (
        estimate_cost(
            model,
            model.encoder,
            load(recompute="chunks", tokens_per_group=group, tokens_per_micro_batch=n, tokens_per_step=n),
        )
        for n in (group, 100 * group)
    )
    assert few.activation_bytes == many.activation_bytes
    layers = estimate_cost(model, model.encoder, load(recompute="layers", wanted_share=1.0))
    everything = estimate_cost(model, model.encoder, load(wanted_share=1.0))
    assert layers.activation_bytes < everything.activation_bytes
