"""Models that a caller has cast as a whole, as by ``model.half()`` or ``model.double()``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from textclf_transformer import (
    HierarchicalRobertaForClassification,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)
from textclf_transformer.model.presets import create_encoder

IDS = torch.arange(5, 45).view(2, 20)
MASK = torch.arange(20).expand(2, 20) >= torch.tensor([[20], [13]])


def classifier(pooling: str) -> Callable[[RobertaModel], nn.Module]:
    return lambda encoder: HierarchicalRobertaForClassification(encoder, num_labels=3, pooling=pooling)


MODELS = {
    "masked": RobertaForMaskedLM,
    "sequence": lambda encoder: RobertaForSequenceClassification(encoder, num_labels=3, pooling="mean"),
    **{
        pooling: classifier(pooling)
        for pooling in ("attention", "multihead", "mean", "max", "cls", "transformer")
    },
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float16, 0.01), (torch.bfloat16, 0.08), (torch.float64, 1e-5)], ids=str
)
def test_a_cast_model_computes_in_its_dtype(kind: str, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    model = MODELS[kind](create_encoder("roberta-tiny", vocab_size=50, pad_token_id=1)).eval()
    in_chunks = isinstance(model, HierarchicalRobertaForClassification)
    inputs: tuple[Tensor, Tensor] = (IDS[:, None], MASK[:, None]) if in_chunks else (IDS, MASK)
    with torch.inference_mode():
        expected = model(*inputs)["logits"]
        logits = model.to(dtype)(*inputs)["logits"]
    assert logits.dtype == dtype
    real = ~MASK if kind == "masked" else slice(None)
    torch.testing.assert_close(logits[real].float(), expected[real], rtol=0, atol=bound)
