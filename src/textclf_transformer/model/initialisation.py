"""Weight initialisation, all of it."""

from __future__ import annotations

import torch
from torch import nn

from textclf_transformer.model.ordinal import CumulativeLink


def initialise_weights(module: nn.Module, *, std: float = 0.02) -> None:
    """Initialise every parameter below ``module`` as published for RoBERTa, from torch's global stream.

    ========================  =========================
    parameter                 value
    ========================  =========================
    linear weight             normal, mean 0, ``std``
    any bias                  0
    embedding                 normal, mean 0, ``std``; the PAD row 0
    LayerNorm weight          1
    thresholds between        all labels equally likely,
    labels in an order        see ``CumulativeLink``
    ========================  =========================

    Raises:
        TypeError: a module has a parameter that the table does not know.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, mean=0.0, std=std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.Embedding):
            nn.init.normal_(child.weight, mean=0.0, std=std)
            if child.padding_idx is not None:
                with torch.no_grad():
                    child.weight[child.padding_idx].zero_()
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
        elif isinstance(child, CumulativeLink):
            child.level_thresholds()
        else:
            for name, parameter in child.named_parameters(recurse=False):
                if not name.endswith("bias"):
                    raise TypeError(f"{type(child).__name__}.{name} has no published start")
                nn.init.zeros_(parameter)


def initialise_beside_encoder(model: nn.Module) -> None:
    """Initialise all parts of ``model`` but its ``encoder``, which may have come with weights."""
    for name, part in model.named_children():
        if name != "encoder":
            initialise_weights(part)
