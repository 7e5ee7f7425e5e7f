"""Hugging Face's models loaded from our folders, and folders with other tensors in them."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import transformers
from torch import Tensor


def theirs_of(folder: Path, kind: str, **options: object) -> transformers.PreTrainedModel:
    """Load with transformers; no key may be missing, unexpected or of another shape."""
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model.eval()


def run_theirs(model: transformers.PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    out = model(input_ids=ids, attention_mask=(~mask).long())
    return out["logits"] if "logits" in out else out["last_hidden_state"]


def edit_tensors(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Put other tensors into model.safetensors; None takes one out."""
    tensors = {**safetensors.torch.load_file(folder / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    safetensors.torch.save_file(kept, folder / "model.safetensors")
