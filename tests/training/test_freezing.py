"""The freeze schedule: what is trained when, at what cost, and the same bits after a resume in any phase."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume_bits import SETTINGS, assert_same_run, stopped
from torch import Tensor, nn
from toys import FEATURES, Run, ToyNet, small_classifier

from textclf_transformer.config import FreezePhaseSection
from textclf_transformer.errors import ConfigError
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.freezing import FreezeSchedule, train_only
from textclf_transformer.training.optim import build_adamw, load_optimizer_state, optimizer_state
from textclf_transformer.training.progress import Progress

PHASES = (
    FreezePhaseSection(from_epoch=0, train="head", learning_rate=0.02),
    FreezePhaseSection(from_epoch=1, train="top_k", k=1),
    FreezePhaseSection(from_epoch=3, train="all", learning_rate=0.01),
)


def schedule(*, num_hidden_layers: int = 2, decay: float = 1.0) -> FreezeSchedule:
    return FreezeSchedule(
        PHASES,
        learning_rate=0.05,
        weight_decay=0.01,
        layerwise_lr_decay=decay,
        num_hidden_layers=num_hidden_layers,
    )


def classifier() -> HierarchicalRobertaForClassification:
    torch.manual_seed(0)
    return small_classifier()


def trained_names(optimizer: torch.optim.Optimizer) -> set[str]:
    return {name for group in optimizer.param_groups for name in group["param_names"]}


def update(model: HierarchicalRobertaForClassification, optimizer: torch.optim.Optimizer) -> None:
    ids = torch.randint(1, 20, (2, 2, 6))
    model(ids, torch.zeros_like(ids, dtype=torch.bool))["logits"].square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_phases_follow_the_epochs() -> None:
    trains = [schedule().phase_of(epoch).train for epoch in range(5)]
    assert trains == ["head", "top_k", "top_k", "all", "all"]


def test_what_is_trained_and_what_it_costs() -> None:
    model, freeze = classifier(), schedule()
    everything = {name for name, _ in model.named_parameters()}
    head = {name for name in everything if not name.startswith("encoder.")}
    top = {name for name in everything if name.startswith("encoder.layers.1.")}
    optimizer: torch.optim.Optimizer = build_adamw(model, learning_rate=0.05, weight_decay=0.01)
    for epoch, expected, rate in ((0, head, 0.02), (1, head | top, 0.05), (3, everything, 0.01)):
        frozen = {n: p.clone() for n, p in model.named_parameters() if n not in expected}
        moments = {name: entries["exp_avg"].clone() for name, entries in optimizer_state(optimizer).items()}
        optimizer, peak = freeze.enter(model, optimizer, epoch=epoch)
        assert peak == rate
        assert trained_names(optimizer) == expected
        carried = {n: e["exp_avg"] for n, e in optimizer_state(optimizer).items() if e}
        assert carried.keys() == moments.keys() & expected
        assert all(torch.equal(carried[name], moments[name]) for name in carried)
        assert model.encoder.training == (epoch > 0)
        assert model.classifier.training
        update(model, optimizer)
        assert {name for name, entries in optimizer_state(optimizer).items() if entries} == expected
        assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in frozen.items())


def test_all_layers_as_the_upper_ones_freeze_the_embeddings_alone() -> None:
    model = classifier()
    train_only(model, "top_k", k=2)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("encoder.embeddings.")}


def test_frozen_layers_build_no_graph() -> None:
    model, freeze = classifier(), schedule()
    built: dict[str, bool] = {}
    for number, layer in enumerate(model.encoder.layers):
        layer.register_forward_hook(
            lambda _, __, output, number=number: built.update({f"layer {number}": output.requires_grad})
        )
    optimizer: torch.optim.Optimizer = build_adamw(model, learning_rate=0.05, weight_decay=0.01)
    graphs = []
    for epoch in (0, 1, 3):
        optimizer, _ = freeze.enter(model, optimizer, epoch=epoch)
        update(model, optimizer)
        graphs.append((built["layer 0"], built["layer 1"]))
    assert graphs == [(False, False), (False, True), (True, True)]


def test_going_back_to_the_head_drops_what_the_encoder_had() -> None:
    model = classifier()
    phases = (PHASES[2].model_copy(update={"from_epoch": 0}), PHASES[0].model_copy(update={"from_epoch": 1}))
    freeze = FreezeSchedule(
        phases, learning_rate=0.05, weight_decay=0.01, layerwise_lr_decay=1.0, num_hidden_layers=2
    )
    optimizer, _ = freeze.enter(model, build_adamw(model, learning_rate=1, weight_decay=0), epoch=0)
    update(model, optimizer)
    same, _ = freeze.enter(model, optimizer, epoch=0)
    assert same is optimizer
    optimizer, _ = freeze.enter(model, optimizer, epoch=1)
    assert not any(name.startswith("encoder.") for name in optimizer_state(optimizer))
    assert not model.encoder.training


def test_the_state_before_the_first_update_of_a_phase_can_be_loaded() -> None:
    """A scaler that skips that update leaves the newly trained parameters without moments."""
    model, freeze = classifier(), schedule()
    optimizer, _ = freeze.enter(model, build_adamw(model, learning_rate=1, weight_decay=0), epoch=0)
    update(model, optimizer)
    optimizer, _ = freeze.enter(model, optimizer, epoch=1)
    state = optimizer_state(optimizer)
    again = build_adamw(model, learning_rate=1, weight_decay=0)
    load_optimizer_state(again, state)
    update(model, again)
    assert all(optimizer_state(again).values())


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"training\.freeze.*k 1 from epoch 1.*at most 0"):
        schedule(num_hidden_layers=0)


class ToyClassifier(ToyNet):
    """Two layers on an embedding, with what the schedule asks of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(nn.Linear(FEATURES, FEATURES) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids).mean(1)
        for layer in self.encoder.layers:
            hidden = torch.tanh(layer(hidden))
        return self.output(self.dropout(self.norm(hidden)))

    def freeze_base_model(self) -> None:
        self.freeze_bottom_k_layers(2)

    def freeze_bottom_k_layers(self, k: int) -> None:
        self.embedding.requires_grad_(False)
        for number, layer in enumerate(self.encoder.layers):
            layer.requires_grad_(number >= k)

    def unfreeze_base_model(self) -> None:
        self.requires_grad_(True)


def with_phases(*, decay: float = 1.0) -> dict[str, Any]:
    torch.manual_seed(0)
    model = ToyClassifier()
    return {
        "model": model,
        "optimizer": build_adamw(model, learning_rate=0.05, weight_decay=0.01),
        "freeze": schedule(decay=decay),
        "epochs": 5,
    }


# 4 steps an epoch: phases begin behind steps 4 and 12
@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 11, 12, 13, 19])
def test_a_resume_in_any_phase_has_the_same_bits(tmp_path: Path, step: int) -> None:
    whole, run = Run.at(tmp_path / "whole"), Run.at(tmp_path / "stopped")
    whole.start(**{**SETTINGS, **with_phases()}).run()
    stopped(run, after=step, **with_phases())
    run.start(**{**SETTINGS, **with_phases()}).run()
    assert_same_run(run, whole)
    names = load_checkpoint(run.folder.checkpoint)["optimizer"]
    assert "embedding.weight" in names


def test_a_resume_with_layerwise_rates_has_the_same_bits(tmp_path: Path) -> None:
    whole, plain, run = (Run.at(tmp_path / name) for name in ("whole", "plain", "stopped"))
    loop = whole.start(**{**SETTINGS, **with_phases(decay=0.5)})
    loop.run()
    stopped(run, after=7, **with_phases(decay=0.5))
    run.start(**{**SETTINGS, **with_phases(decay=0.5)}).run()
    assert_same_run(run, whole)
    flat = plain.start(**{**SETTINGS, **with_phases()})
    flat.run()
    assert not torch.equal(flat.model.encoder.layers[1].weight, loop.model.encoder.layers[1].weight)


def test_layerwise_rates_multiply_the_rate_of_the_phase() -> None:
    """A layer keeps its factor when layers below it are frozen."""
    model, freeze = classifier(), schedule(decay=0.5)
    optimizer: torch.optim.Optimizer = build_adamw(model, learning_rate=1.0, weight_decay=0.01)
    for epoch, expected in ((0, {1.0}), (1, {1.0, 0.5}), (3, {1.0, 0.5, 0.25, 0.125})):
        optimizer, _ = freeze.enter(model, optimizer, epoch=epoch)
        assert {group["lr_scale"] for group in optimizer.param_groups} == expected
        update(model, optimizer)


def test_the_rate_of_a_phase_is_its_own(tmp_path: Path) -> None:
    run = Run.at(tmp_path / "run")
    settings = {**SETTINGS, **with_phases(), "log_every": 1, "schedule": lambda step: 1.0}
    run.start(**settings).run()
    rates = [float(row["learning_rate"]) for row in run.rows("train")]
    assert rates == [0.02] * 4 + [0.05] * 8 + [0.01] * 8


# 4 steps an epoch in either plan: the next step is in the phase of the upper layers, whose peak is 0.05
def test_a_resume_at_the_beginning_of_a_phase_tells_the_rate_of_that_phase(tmp_path: Path) -> None:
    run, told = Run.at(tmp_path / "run"), io.StringIO()
    flat = {**SETTINGS, "schedule": lambda step: 1.0}
    stopped(run, after=4, **{**with_phases(), "schedule": flat["schedule"]})
    longer = {**flat, **with_phases(), "epochs": 6, "progress": Progress(stream=told)}
    loop = run.start(**longer)
    assert "going on at 4 with learning rate 5.000e-02" in told.getvalue()
    assert loop.learning_rate == 0.02  # the phase itself begins with its first step
