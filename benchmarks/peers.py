"""Hugging Face's side: their models with our weights, trained and used as people usually do, and as well as
one can.

*naive*: the defaults, in float32, padded to the longest sequence that the model takes. *strong*: bf16
autocast where the hardware multiplies bf16, sequences grouped by length and padded to the longest of their
batch, compiled where that helps.
Both clip gradients at 1 and use fused AdamW, as their Trainer does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.workloads import ROBERTA, TEMPLATE, Dropouts
from textclf_transformer.training.numerics import choose_amp_dtype

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched; the weights are ours

Style = Literal["naive", "strong"]

IGNORE_INDEX = -100
MAX_GRAD_NORM = 1.0
LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Peer:
    """How the other side works.

    Attributes:
        style: naive or strong.
        dropouts: of their model.
        compiled: whether ``torch.compile`` is used.
        attention: of their attentions; sdpa is the default, on a CPU eager is faster.
        rows: sequences computed at once (a training step adds up as many passes as it takes).
    """

    style: Style
    dropouts: Dropouts
    compiled: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    rows: int = 8

    def __str__(self) -> str:
        compiled = ", compiled" if self.compiled else ""
        return self.style + compiled + (", eager attention" if self.attention == "eager" else "")

    @property
    def our_dropouts(self) -> Dropouts:
        """Our dropout beside this peer: the template's against naive, else equal."""
        return TEMPLATE if self.style == "naive" else self.dropouts

    def amp_dtype(self, device: torch.device) -> torch.dtype | None:
        """Return the dtype of autocast, None for float32; strong's is ours."""
        return choose_amp_dtype(device, use_amp=self.style == "strong", amp_dtype="auto")

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return which sequences are computed together; strong groups those of similar length."""
        order = list(range(len(lengths)))
        if self.style == "strong":
            order.sort(key=lambda index: -lengths[index])
        return [order[start : start + self.rows] for start in range(0, len(order), self.rows)]

    def width(self, lengths: Sequence[int], longest: int) -> int:
        """Return to how many tokens sequences of these lengths are padded."""
        return max(lengths) if self.style == "strong" else longest


def training_peers(*, compiled: bool, rows: int = 8) -> dict[str, Peer]:
    """Return the peers of a training row; ``compiled`` is about the strong ones."""
    ours = Peer("strong", TEMPLATE, compiled=compiled, rows=rows)
    return {
        "naive": Peer("naive", ROBERTA, rows=rows),
        "strong, dropout 0.1": replace(ours, dropouts=ROBERTA),
        "strong, our dropout": ours,
        "strong, our dropout, eager attention": replace(ours, attention="eager"),
    }


def prediction_peers(*, rows: int = 8) -> dict[str, Peer]:
    """Return the peers of a prediction row."""
    strong = Peer("strong", TEMPLATE, rows=rows)
    return {
        "naive": Peer("naive", ROBERTA, rows=rows),
        "strong": strong,
        "strong, eager attention": replace(strong, attention="eager"),
    }


def hugging_face(ours: Any, class_name: str, peer: Peer, **options: Any) -> Any:
    """Return a model of transformers, as ``peer`` has it, with the weights of ``ours``."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        ours.to_hf(folder)
        return getattr(transformers, class_name).from_pretrained(
            folder,
            attention_probs_dropout_prob=peer.dropouts.attention,
            hidden_dropout_prob=peer.dropouts.hidden,
            attn_implementation=peer.attention,
            **options,
        )


def pad(rows: Sequence[Tensor], width: int, value: int) -> Tensor:
    """Return ``rows``, each (tokens,), as (rows, ``width``), filled up with ``value``."""
    padded = torch.full((len(rows), width), value, dtype=torch.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def keep_mask(lengths: Sequence[int], width: int) -> Tensor:
    """Return (rows, ``width``) int64, 1 for real tokens, as Hugging Face wants it."""
    return (torch.arange(width) < torch.tensor(lengths).unsqueeze(1)).long()


def peer_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of Hugging Face's Trainer."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)


def peer_update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip, update, and forget the gradients."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()
