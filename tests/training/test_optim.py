from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import CPU, small_classifier, toy_loss, toy_net, toy_samples

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.disentangled import DisentangledSelfAttention
from textclf_transformer.training.optim import (
    build_adamw,
    layer_depths,
    load_optimizer_state,
    optimizer_state,
    split_by_decay,
)
from textclf_transformer.training.step import train_step


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.scale = nn.LayerNorm(4)
        self.first = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 5)
        self.decoder.weight = self.embedding.weight


def test_biases_and_norms_are_not_decayed_and_a_shared_weight_stands_once() -> None:
    with_decay, without_decay = split_by_decay(Tied())
    assert set(with_decay) == {"embedding.weight", "first.weight"}
    assert set(without_decay) == {"scale.weight", "scale.bias", "first.bias", "decoder.bias"}


def test_biases_that_stand_alone_are_not_decayed() -> None:
    attention = DisentangledSelfAttention(
        hidden_size=4,
        num_attention_heads=2,
        attention_probs_dropout_prob=0.0,
        position_dropout_prob=0.0,
        backend="explicit",
    )
    with_decay, without_decay = split_by_decay(attention)
    assert set(without_decay) == {"query_bias", "value_bias", "position_query.bias"}
    assert set(with_decay) == {"query_key_value.weight", "position_key.weight", "position_query.weight"}


def test_frozen_parameters_are_left_out() -> None:
    model = Tied()
    model.first.requires_grad_(False)
    with_decay, without_decay = split_by_decay(model)
    assert "first.weight" not in with_decay
    assert "first.bias" not in without_decay


def test_adamw_as_roberta_uses_it() -> None:
    optimizer = build_adamw(Tied(), learning_rate=0.1, weight_decay=0.02)
    decayed, undecayed = optimizer.param_groups
    for group in (decayed, undecayed):
        assert (group["betas"], group["eps"], group["lr"]) == ((0.9, 0.98), 1e-6, 0.1)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.02, 0.0)


@pytest.mark.parametrize("attention_kind", ["standard", "disentangled"])
def test_depths_count_from_the_head_down(attention_kind: str) -> None:
    depths = layer_depths(name for name, _ in small_classifier(attention_kind).named_parameters())
    places = {"encoder.embeddings.": 3, "encoder.layers.0.": 2, "encoder.layers.1.": 1}
    places |= {"pooling.": 0, "classifier.": 0}
    assert all(depth == places[place] for name, depth in depths.items() for place in places if place in name)
    assert set(depths.values()) == {0, 1, 2, 3}


def test_each_depth_has_its_own_rate() -> None:
    model = small_classifier()
    optimizer = build_adamw(model, learning_rate=0.1, weight_decay=0.02, layerwise_lr_decay=0.5)
    groups = {
        name: (group["lr"], group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    assert groups["classifier.dense.weight"] == (0.1, 1.0, 0.02)
    assert groups["pooling.projection.bias"] == (0.1, 1.0, 0.0)
    assert groups["encoder.layers.1.output.weight"] == (0.05, 0.5, 0.02)
    assert groups["encoder.layers.0.output.bias"] == (0.025, 0.25, 0.0)
    assert groups["encoder.embeddings.word_embeddings.weight"] == (0.0125, 0.125, 0.02)
    assert groups["encoder.embeddings.norm.weight"] == (0.0125, 0.125, 0.0)


def test_the_step_multiplies_its_rate_by_the_scale() -> None:
    """The first step of Adam moves each weight by its rate, whatever the gradient."""
    model = small_classifier().double()
    optimizer = build_adamw(model, learning_rate=1.0, weight_decay=0.0, layerwise_lr_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train_step(
        model,
        [toy_samples()],
        loss=lambda model, batch: 1e3 * torch.stack([p.sum() for p in model.parameters()]).sum(),
        optimizer=optimizer,
        learning_rate=0.01,
        max_grad_norm=1e9,
        device=CPU,
        amp_dtype=None,
        scaler=None,
        seed=0,
        step=0,
    )
    depths = layer_depths(before)
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.01 * 0.5 ** depths[name]
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-7)


def test_one_update_equals_the_formula() -> None:
    model = nn.Linear(1, 1).double()
    weight, bias = model.weight.item(), model.bias.item()
    build = build_adamw(model, learning_rate=0.1, weight_decay=0.5)
    model.weight.grad, model.bias.grad = torch.full((1, 1), 3.0).double(), torch.full((1,), -2.0).double()
    build.step()
    # the first bias-corrected step of Adam is the gradient over its own size
    assert model.weight.item() == pytest.approx(weight * (1 - 0.1 * 0.5) - 0.1 * 3 / (3 + 1e-6), abs=1e-12)
    assert model.bias.item() == pytest.approx(bias + 0.1 * 2 / (2 + 1e-6), abs=1e-12)


def trained() -> tuple[nn.Module, torch.optim.AdamW]:
    model = toy_net()
    optimizer = build_adamw(model, learning_rate=0.1, weight_decay=0.3)
    for _ in range(3):
        toy_loss(model, toy_samples()).backward()
        optimizer.step()
    return model, optimizer


def test_state_travels_by_name_and_leaves_hyperparameters_alone() -> None:
    _, optimizer = trained()
    other = build_adamw(toy_net(), learning_rate=0.2, weight_decay=0.7)
    state = optimizer_state(optimizer)
    load_optimizer_state(other, {name: state[name] for name in sorted(state)})  # the order does not matter
    loaded = optimizer_state(other)
    assert set(loaded) == set(state) == {name for name, _ in toy_net().named_parameters()}
    assert all(torch.equal(loaded[name][key], state[name][key]) for name in state for key in state[name])
    assert [group["weight_decay"] for group in other.param_groups] == [0.7, 0.0]


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_the_state_of_another_model_is_refused(fault: str) -> None:
    state = optimizer_state(trained()[1])
    entries = state["output.weight"]
    if fault == "missing":
        del state["output.weight"]
    if fault == "unknown":
        state["elsewhere"] = entries
    if fault == "shape":
        state["output.weight"] = {**entries, "exp_avg": torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match="elsewhere" if fault == "unknown" else r"output\.weight"):
        load_optimizer_state(build_adamw(toy_net(), learning_rate=0.2, weight_decay=0.0), state)
