"""Muon for the matrices of the layers, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
matrix with orthonormal rows or columns, so that rare directions move as far as frequent ones; torch's
``Muon`` does that, by five Newton-Schulz iterations in bf16. The root mean square of an update is brought to
0.2, that of AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2), so one learning rate serves both.

Queries, keys and values are one matrix here and stay so: orthogonalised apart, as others do, they learned no
faster (LOG.md; measured with 2 layers of 256).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from textclf_transformer.training.optim import build_adamw

MOMENTUM = 0.95
ITERATIONS = 5

_MATRIX_OF_A_LAYER = re.compile(r"encoder\.layers\.\d+\..*weight")


class MuonWithAdamW(torch.optim.Optimizer):
    """The two as one: groups and state are theirs, a step is one of each.

    It has what a training step needs, and is saved and loaded by ``optimizer_state`` and
    ``load_optimizer_state``; the base class's ``state_dict``, hooks and defaults it has not.

    Args:
        muon: of the matrices.
        adamw: of everything else.

    Attributes:
        parts: both.
    """

    # the base class's constructor would make groups and state beside those of the parts
    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.parts = (muon, adamw)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of both."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:  # type: ignore[override]
        """What both remember, by parameter."""
        return {parameter: entries for part in self.parts for parameter, entries in part.state.items()}

    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)


def layer_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable matrices of an encoder's layers, by name: what Muon updates.

    Not the embeddings and what projects onto the vocabulary, whose rows stand for single tokens; nor the
    head, which finetuning leaves behind.

    Args:
        model: with its encoder as ``encoder``.
    """
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2 and _MATRIX_OF_A_LAYER.fullmatch(name)
    }


def build_muon(model: nn.Module, *, learning_rate: float, weight_decay: float) -> MuonWithAdamW:
    """Return Muon over ``layer_matrices``, momentum 0.95 (Nesterov's), and ``build_adamw`` for the others.

    Args:
        model: the model, already on its device, with its encoder as ``encoder``.
        learning_rate: the peak; the loop sets the rate of each step.
        weight_decay: decoupled decay, of the matrices too.

    Raises:
        ValueError: no layer has a trainable matrix, or nothing else is trainable.
    """
    matrices = layer_matrices(model)
    if not matrices:
        raise ValueError("no layer has a trainable matrix")
    muon = torch.optim.Muon(
        [{"params": list(matrices.items()), "lr_scale": 1.0}],
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=MOMENTUM,
        nesterov=True,
        ns_steps=ITERATIONS,
        adjust_lr_fn="match_rms_adamw",
    )
    others = build_adamw(
        model, learning_rate=learning_rate, weight_decay=weight_decay, except_for=frozenset(matrices)
    )
    return MuonWithAdamW(muon, others)


def muon_flops(model: nn.Module) -> float:
    """Return the operations of one step's iterations: three products each, of the shorter side first."""
    sides = [sorted(parameter.shape) for parameter in layer_matrices(model).values()]
    return float(sum(ITERATIONS * 2 * (2 * short**2 * long + short**3) for short, long in sides))
