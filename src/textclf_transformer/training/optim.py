"""AdamW as RoBERTa uses it; optimizers' states by parameter name, so that a resume mixes nothing up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from textclf_transformer.errors import CheckpointError
from textclf_transformer.training.state import OTHER_CHECKPOINT

# Moments of RoBERTa (Liu et al. 2019, section 3.1 and table 9): a shorter second moment than Adam's default
# is stabler.
BETAS = (0.9, 0.98)
EPSILON = 1e-6

# What Muon, whose groups have a momentum, and AdamW remember of a parameter.
_REMEMBERED = {True: {"momentum_buffer"}, False: {"step", "exp_avg", "exp_avg_sq"}}

_ENCODER_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")

_NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def split_by_decay(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Return the trainable parameters with and without weight decay, by name.

    No decay on biases and on all parameters of normalisation modules: both are scales and shifts that decay
    would pull away from the identity. Everything else decays, embeddings too. A parameter that several
    modules share stands once, under its first name.
    """
    undecayed = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "bias" or name.endswith("_bias") or isinstance(module, _NORMS)
    }
    with_decay: dict[str, nn.Parameter] = {}
    without_decay: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():  # each shared parameter once
        if parameter.requires_grad:
            (without_decay if id(parameter) in undecayed else with_decay)[name] = parameter
    return with_decay, without_decay


def layer_depths(names: Iterable[str]) -> dict[str, int]:
    """Return how far below the head each parameter of a model lies.

    Args:
        names: of all parameters; those of an encoder begin with ``encoder.``.

    Returns:
        name → 0 for what stands on the encoder, 1 for its highest layer, 2 for the next, one more than the
        lowest layer's for the embeddings.
    """
    layers = {name: _ENCODER_LAYER.match(name) for name in names}
    num_layers = 1 + max((int(match[1]) for match in layers.values() if match), default=-1)
    return {
        name: num_layers - int(match[1]) if match else (num_layers + 1 if name.startswith("encoder.") else 0)
        for name, match in layers.items()
    }


def build_adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    layerwise_lr_decay: float = 1.0,
    except_for: Collection[str] = (),
) -> torch.optim.AdamW:
    """Return AdamW, betas (0.9, 0.98), eps 1e-6, over the two groups of ``split_by_decay``.

    With ``layerwise_lr_decay`` each of the two is divided by ``layer_depths``. A group's ``lr_scale`` is what
    ``train_step`` multiplies the rate of the step by (Howard & Ruder 2018, section 3.2, who divide by 2.6 per
    layer; Clark et al. 2020 take 0.8 for a base model).

    Args:
        model: the model, already on its device.
        learning_rate: the peak of the head; the loop sets the rate of each step.
        weight_decay: decoupled decay of the first group; the second has 0.
        layerwise_lr_decay: factor on the rate per step of depth, above 0 and at most 1.
        except_for: names of parameters that another optimizer trains.

    Raises:
        ValueError: nothing is trainable.
    """
    with_decay, without_decay = (
        {name: parameter for name, parameter in group.items() if name not in except_for}
        for group in split_by_decay(model)
    )
    if not with_decay and not without_decay:
        raise ValueError("no parameter is trainable")
    devices = {parameter.device.type for parameter in (with_decay | without_decay).values()}
    depths = layer_depths(name for name, _ in model.named_parameters())
    scales = {name: layerwise_lr_decay**depth for name, depth in depths.items()}
    return torch.optim.AdamW(
        [
            {
                "params": [(name, p) for name, p in group.items() if scales[name] == scale],
                "weight_decay": decay,
                "lr": learning_rate * scale,
                "lr_scale": scale,
            }
            for group, decay in ((with_decay, weight_decay), (without_decay, 0.0))
            for scale in sorted({scales[name] for name in group}, reverse=True)
        ],
        lr=learning_rate,
        betas=BETAS,
        eps=EPSILON,
        # one pass over the memory in place of a dozen; other devices may lack it
        fused=devices <= {"cpu", "cuda"},
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return what ``optimizer`` remembers of each parameter, by its name; no learning rates and the like.

    Raises:
        ValueError: the optimizer was built without parameter names.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(_names(group), group["params"], strict=True):
            if optimizer.state:  # a parameter trained from now on has an empty one beside the others' states
                state[name] = dict(optimizer.state.get(parameter, {}))
    return state


def carry_state(before: torch.optim.Optimizer, after: torch.optim.Optimizer) -> None:
    """Give ``after`` what ``before`` remembers of the parameters that both have; the others begin anew.

    Raises:
        ValueError: an optimizer was built without parameter names.
    """
    known = optimizer_state(before)
    names = [name for group in after.param_groups for name in _names(group)]
    load_optimizer_state(after, {name: known.get(name, {}) for name in names} if known else {})


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    state: dict[str, dict[str, Tensor]],
    *,
    source: str = "the checkpoint",
) -> None:
    """Give ``optimizer`` the state of ``optimizer_state``; its hyperparameters stay as they were built.

    That way a weight decay that the user changed with ``--allow-changed`` is not undone by the checkpoint.

    Raises:
        CheckpointError: the state belongs to other parameters, or has other shapes; names ``source``.
        ValueError: the optimizer was built without parameter names.
    """
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(_names(group), group["params"], strict=True)
    }
    strange = sorted(set(state) - set(parameters))
    # before its first update a parameter has no state; after it, none may be missing
    missing = sorted(set(parameters) - set(state)) if state else []
    if strange or missing:
        raise CheckpointError(
            "the optimizer's state belongs to another model",
            where=source,
            found=f"{len(missing)} without state, {len(strange)} unknown: {(missing + strange)[:5]}",
            mend=OTHER_CHECKPOINT,
        )
    for group in optimizer.param_groups:
        expected = _REMEMBERED["momentum" in group]
        for name in _names(group):
            if state.get(name) and state[name].keys() != expected:
                raise CheckpointError(
                    f"the state of {name} is another optimizer's",
                    where=source,
                    found=", ".join(sorted(state[name])),
                    expected=", ".join(sorted(expected)),
                    mend=OTHER_CHECKPOINT,
                )
    for name, entries in state.items():
        for key, value in entries.items():
            expected_shape = () if key == "step" else tuple(parameters[name].shape)
            if tuple(value.shape) != expected_shape:
                raise CheckpointError(
                    f"the optimizer's {key} of {name} has another shape",
                    where=source,
                    found=tuple(value.shape),
                    expected=str(expected_shape),
                    mend=OTHER_CHECKPOINT,
                )
    # an optimizer of several, as ``MuonWithAdamW`` is, names them
    for part in getattr(optimizer, "parts", (optimizer,)):
        names = [name for group in part.param_groups for name in _names(group)]  # in the order of state_dict
        part.load_state_dict(
            {
                "state": {position: state[name] for position, name in enumerate(names) if name in state},
                "param_groups": part.state_dict()["param_groups"],
            }
        )


def _names(group: dict[str, Any]) -> list[str]:
    if "param_names" not in group:
        raise ValueError("the optimizer must be built from named parameters, see build_optimizer")
    names: list[str] = group["param_names"]
    return names
