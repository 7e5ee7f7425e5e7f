"""Muon beside AdamW: which parameters, what an update is, resuming, the gradient scaler, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from model.model_cases import make_batch, make_encoder
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from textclf_transformer.commands.estimate import StepLoad, estimate_cost
from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.training.building import build_optimizer
from textclf_transformer.training.muon import (
    ITERATIONS,
    build_muon,
    layer_matrices,
    muon_flops,
)
from textclf_transformer.training.optim import build_adamw, load_optimizer_state, optimizer_state

RATE, DECAY = 0.01, 0.5


def masked_lm(attention_kind: str = "standard") -> RobertaForMaskedLM:
    torch.manual_seed(0)
    encoder = make_encoder(attention_kind=attention_kind)
    return RobertaForMaskedLM(encoder, enhanced_mask_decoder=attention_kind == "disentangled").train()


def backward(model: nn.Module, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        backward(model, seed=step)
        optimizer.step()
        optimizer.zero_grad()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("attention_kind", ["standard", "disentangled"])
def test_muon_has_the_matrices_of_the_layers_and_adamw_all_else(attention_kind: str) -> None:
    model = masked_lm(attention_kind)
    linear = {
        f"encoder.layers.{name}.weight"
        for name, module in model.encoder.layers.named_modules()
        if isinstance(module, nn.Linear)
    }
    assert len(linear) == len(model.encoder.layers) * (4 if attention_kind == "standard" else 6)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    muon, adamw = ({name for g in part.param_groups for name in g["param_names"]} for part in optimizer.parts)
    assert muon == layer_matrices(model).keys() == linear
    assert muon | adamw == {name for name, _ in model.named_parameters()}
    assert not muon & adamw
    assert all(group["lr_scale"] == 1.0 for group in optimizer.param_groups)


def evened_out(matrix: Tensor) -> Tensor:
    """Newton-Schulz by way of singular values, which it takes through a polynomial; float64."""
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes /= sizes.norm()
    for _ in range(ITERATIONS):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    assert 0.6 < sizes.median() < 1.2, "they come near 1, but for tiny ones"
    return left @ torch.diag(sizes) @ right


def test_updates_follow_nesterovs_momentum_evened_out() -> None:
    """Each step's update in units of rate · 0.2 · √(longer side), up to the rounding of bf16."""
    model = masked_lm()
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    momentum = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in layer_matrices(model).items()}
    for step in range(3):
        before = weights(model)
        backward(model, seed=step)
        gradients = {name: p.grad.double() for name, p in layer_matrices(model).items() if p.grad is not None}
        optimizer.step()
        for name, parameter in layer_matrices(model).items():
            momentum[name] = 0.95 * momentum[name] + 0.05 * gradients[name]
            expected = evened_out(0.95 * momentum[name] + 0.05 * gradients[name])
            update = before[name].double() * (1 - RATE * DECAY) - parameter.detach().double()
            update /= RATE * 0.2 * math.sqrt(max(parameter.shape))
            assert (update - expected).norm(2) < 0.15, (name, step)


def test_matrices_decay_without_a_gradient_too() -> None:
    model = masked_lm()
    before = weights(model)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in layer_matrices(model).items():
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - RATE * DECAY), rtol=1e-6, atol=0)


def test_gradients_of_both_are_forgotten() -> None:
    model = masked_lm()
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    backward(model, seed=0)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_frozen_has_no_optimizer() -> None:
    model = masked_lm()
    model.encoder.layers[0].requires_grad_(False)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    names = {name for group in optimizer.param_groups for name in group["param_names"]}
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}
    assert layer_matrices(model).keys() == names & weights_of_layer(model, 1)


def weights_of_layer(model: RobertaForMaskedLM, layer: int) -> set[str]:
    place = f"encoder.layers.{layer}."
    return {name for name, p in model.named_parameters() if name.startswith(place) and p.ndim == 2}


def test_all_else_is_updated_as_adamw_alone_does_it() -> None:
    both, alone = masked_lm(), masked_lm()
    train(both, build_muon(both, learning_rate=RATE, weight_decay=DECAY), range(3))
    train(alone, build_adamw(alone, learning_rate=RATE, weight_decay=DECAY), range(3))
    matrices, after, expected = layer_matrices(both), weights(both), weights(alone)
    for name in after:
        assert torch.equal(after[name], expected[name]) is (name not in matrices), name


def test_the_rate_of_a_step_reaches_both() -> None:
    model = masked_lm()
    before = weights(model)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(model, optimizer, range(2))
    assert same(weights(model), before)


def test_a_resume_goes_on_to_the_bit() -> None:
    whole, first, second = masked_lm(), masked_lm(), masked_lm()
    train(whole, build_muon(whole, learning_rate=RATE, weight_decay=DECAY), range(5))
    optimizer = build_muon(first, learning_rate=RATE, weight_decay=DECAY)
    train(first, optimizer, range(3))
    state = optimizer_state(optimizer)
    assert state.keys() == {name for name, _ in first.named_parameters()}

    second.load_state_dict(first.state_dict())
    again = build_muon(second, learning_rate=RATE, weight_decay=DECAY)
    load_optimizer_state(again, {name: state[name] for name in sorted(state)})
    train(second, again, range(3, 5))
    assert same(weights(second), weights(whole))


@pytest.mark.parametrize("saved", ["adamw", "muon"])
def test_the_state_of_the_other_optimizer_is_refused(saved: str) -> None:
    model = masked_lm()
    adamw = build_adamw(model, learning_rate=RATE, weight_decay=DECAY)
    muon = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    first, second = (adamw, muon) if saved == "adamw" else (muon, adamw)
    train(model, first, range(1))
    with pytest.raises(CheckpointError, match=r"encoder\.layers\..* is another optimizer's"):
        load_optimizer_state(second, optimizer_state(first))
    assert not second.state


def test_a_decay_by_layers_is_adamws() -> None:
    with pytest.raises(ValueError, match=r"one rate for all layers, found layerwise_lr_decay 0\.9"):
        build_optimizer(masked_lm(), muon=True, learning_rate=1.0, weight_decay=0.0, layerwise_lr_decay=0.9)


def test_an_overflow_skips_both() -> None:
    model = masked_lm()
    before = weights(model)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (True, False):
        scaler.scale(torch.zeros(()))
        backward(model, seed=1)
        if overflow:
            next(iter(layer_matrices(model).values())).grad[0, 0] = math.inf  # type: ignore[index]
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert same(weights(model), before) is overflow


def test_a_model_without_trainable_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer has a trainable matrix"):
        build_muon(nn.Linear(2, 2), learning_rate=RATE, weight_decay=DECAY)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    tensors = [t for entries in optimizer_state(optimizer).values() for t in entries.values() if t.dim()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_the_estimate_counts_one_moment_for_each_matrix_and_the_iterations() -> None:
    model = masked_lm()
    load = StepLoad(
        sequence_length=8,
        tokens_per_step=64,
        tokens_per_micro_batch=64,
        wanted_share=0.15,
        amp=False,
        attention_backend="explicit",
        attention_dropout=False,
    )
    cost = estimate_cost(model, model.encoder, load, muon=True)
    optimizer = build_muon(model, learning_rate=RATE, weight_decay=DECAY)
    train(model, optimizer, range(1))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert cost.state_bytes == 8 * parameters + state_bytes(optimizer)

    with FlopCounterMode(display=False) as counter:
        train(model, optimizer, range(1))
    assert muon_flops(model) == counter.get_total_flops()
    plain = estimate_cost(model, model.encoder, load)
    assert cost.step_flops - plain.step_flops == pytest.approx(muon_flops(model), rel=1e-9)


def test_a_few_steps_learn_a_batch() -> None:
    model = masked_lm()
    ids, mask = make_batch("none")
    labels = ids.masked_fill(torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) > 0.5, -100)
    optimizer = build_muon(model, learning_rate=0.02, weight_decay=0.0)
    losses = []
    for _ in range(30):
        loss = model(ids, mask, labels)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
