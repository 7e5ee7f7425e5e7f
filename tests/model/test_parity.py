"""Our encoder and masked-LM model against transformers' with the same weights."""

from __future__ import annotations

import pytest
import torch
import transformers
from model_cases import (
    PAD,
    PADDINGS,
    assert_same_gradients,
    make_batch,
    make_hf,
    make_labels,
    masked_lm_like,
    relative_error,
)
from torch import Tensor

from textclf_transformer.model.pretrained import roberta_state_from_hf

# fp32 and fp64 bounds of docs: relative to the tensor's largest value.
BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = tuple(BOUND)
BACKENDS = ("explicit", "fused")

# (changes of the shape, batch, length): odd head counts, one layer, one token, the longest sequence, one
# head.
SHAPES = {
    "3 heads": ({}, 4, 11),
    "5 heads, 3 layers": ({"hidden_size": 35, "num_attention_heads": 5, "num_hidden_layers": 3}, 5, 9),
    "1 head, 1 layer": ({"num_attention_heads": 1, "num_hidden_layers": 1}, 3, 7),
    "7 heads of one": ({"hidden_size": 7, "num_attention_heads": 7}, 3, 6),
    "length 1": ({}, 4, 1),
    "longest length": ({}, 3, 16),
}


def run_hf(
    hf: transformers.PreTrainedModel, ids: Tensor, mask: Tensor, labels: Tensor | None = None
) -> dict[str, Tensor]:
    out = hf(input_ids=ids, attention_mask=(~mask).long(), labels=labels, output_hidden_states=True)
    return {"hidden": out.hidden_states[-1], "logits": out.logits, "loss": out.loss}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_logits_and_loss_equal_hf(
    shape: str, padding: str, backend: str, dtype: torch.dtype
) -> None:
    changes, batch, length = SHAPES[shape]
    hf = make_hf("RobertaForMaskedLM", **changes).to(dtype)
    model = masked_lm_like(hf, backend=backend)
    ids, mask = make_batch(padding, batch=batch, length=length)
    labels = make_labels(mask)
    with torch.no_grad():
        expected = run_hf(hf, ids, mask, labels)
        hidden = model.encoder(ids, mask)["last_hidden_state"]
        found = model(ids, mask, labels)
        loss_sum = model.masked_loss(ids, mask, labels)
    assert relative_error(hidden[~mask], expected["hidden"][~mask]) < BOUND[dtype]
    assert relative_error(found["logits"][~mask], expected["logits"][~mask]) < BOUND[dtype]
    assert relative_error(found["loss"], expected["loss"]) < BOUND[dtype]
    assert relative_error(loss_sum / (labels != -100).sum(), expected["loss"]) < BOUND[dtype]
    assert found["loss"].dtype == loss_sum.dtype == dtype
    assert not hidden[mask].any(), "padding must come out as zeros"
    assert not found["logits"][mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
def test_gradients_equal_hf(padding: str, backend: str, dtype: torch.dtype, bound: float) -> None:
    hf = make_hf("RobertaForMaskedLM").to(dtype)
    model = masked_lm_like(hf, backend=backend)
    ids, mask = make_batch(padding)
    labels = make_labels(mask)
    run_hf(hf, ids, mask, labels)["loss"].backward()
    (model.masked_loss(ids, mask, labels) / (labels != -100).sum()).backward()

    gradients = {name: parameter.grad for name, parameter in hf.named_parameters()}
    # The sum rule: a position row of ours collects what theirs collects; the row of token types has no place
    # in ours.
    token_types = gradients.pop("roberta.embeddings.token_type_embeddings.weight")
    expected = roberta_state_from_hf(gradients, pad_token_id=PAD)
    assert_same_gradients(model, expected, bound=bound)
    positions = model.encoder.embeddings.position_embeddings.weight.grad
    assert relative_error(positions.sum(dim=0), token_types[0]) < 10 * bound


@pytest.mark.parametrize("pad_token_id", [0, 5])
def test_positions_follow_the_pad_token_id(pad_token_id: int) -> None:
    hf = make_hf("RobertaForMaskedLM", pad_token_id=pad_token_id, max_position_embeddings=12 + pad_token_id)
    model = masked_lm_like(hf)
    ids, mask = make_batch("inside", length=11)
    ids = ids.clamp(min=6).masked_fill(mask, pad_token_id)
    with torch.no_grad():
        assert (
            relative_error(model(ids, mask)["logits"][~mask], run_hf(hf, ids, mask)["logits"][~mask]) < 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ],
    ids=["roberta-base", "roberta-large"],
)
def test_full_shapes_equal_hf(shape: dict[str, int]) -> None:
    settings = transformers.RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **shape
    )
    torch.manual_seed(0)
    hf = transformers.RobertaForMaskedLM(settings).eval()
    model = masked_lm_like(hf)
    ids, mask = make_batch("right", batch=2, length=512)
    with torch.no_grad():
        expected = run_hf(hf, ids, mask)
        assert (
            relative_error(model.encoder(ids, mask)["last_hidden_state"][~mask], expected["hidden"][~mask])
            < 1e-5
        )
        assert relative_error(model(ids, mask)["logits"][~mask], expected["logits"][~mask]) < 1e-5
