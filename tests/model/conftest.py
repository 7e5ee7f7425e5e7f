"""Fixtures that several tests of models use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.deberta import modeling_deberta


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' model compute in float64 throughout; it rounds norms and scales to float32 itself."""

    class Norm(nn.LayerNorm):
        def __init__(self, size: int, eps: float) -> None:
            super().__init__(size, eps=eps)

    def scale(query: Tensor, factor: int) -> Tensor:
        return torch.sqrt(torch.tensor(query.size(-1) * factor, dtype=query.dtype))

    monkeypatch.setattr(modeling_deberta, "DebertaLayerNorm", Norm)
    monkeypatch.setattr(modeling_deberta, "scaled_size_sqrt", scale)
