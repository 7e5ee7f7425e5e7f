"""Classification of one sequence against transformers, and its poolings."""

from __future__ import annotations

import pytest
import torch
from model_cases import (
    PAD,
    PADDINGS,
    encoder_like,
    make_batch,
    make_encoder,
    make_hf,
    relative_error,
    spread_weights,
)

from textclf_transformer.model.loading import load_strict
from textclf_transformer.model.pretrained import roberta_state_from_hf
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification


@pytest.mark.parametrize(
    "padding", ["none", "right"]
)  # theirs reads column 0, also where padding stands there
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
def test_logits_loss_and_gradients_equal_hf(padding: str, dtype: torch.dtype, bound: float) -> None:
    hf = make_hf(
        "RobertaForSequenceClassification", num_labels=5, problem_type="single_label_classification"
    ).to(dtype)
    ours = RobertaForSequenceClassification(encoder_like(hf), num_labels=5).to(dtype).eval()
    load_strict(ours, roberta_state_from_hf(hf.state_dict(), pad_token_id=PAD), source="the reference")
    ids, mask = make_batch(padding)
    labels = torch.tensor([0, 4, 2, 2])
    expected = hf(input_ids=ids, attention_mask=(~mask).long(), labels=labels)
    found = ours(ids, mask, labels)
    assert relative_error(found["logits"], expected.logits) < bound
    assert relative_error(found["loss"], expected.loss) < bound
    expected.loss.backward()
    found["loss"].backward()
    for name in ("dense", "output"):
        theirs = getattr(hf.classifier, {"output": "out_proj"}.get(name, name)).weight.grad
        assert relative_error(getattr(ours.classifier, name).weight.grad, theirs) < bound
    words = hf.roberta.embeddings.word_embeddings.weight.grad
    assert relative_error(ours.encoder.embeddings.word_embeddings.weight.grad, words) < bound


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_pooling_reads_the_real_tokens_alone(pooling: str, padding: str) -> None:
    model = (
        spread_weights(RobertaForSequenceClassification(make_encoder(), num_labels=3, pooling=pooling))
        .double()
        .eval()
    )
    ids, mask = make_batch(padding)
    found = model(ids.masked_fill(mask, 10**9), mask)["logits"]
    for row in range(len(ids)):
        alone = ids[row : row + 1, ~mask[row]]
        empty = torch.zeros_like(alone, dtype=torch.bool)
        hidden = model.encoder(alone, empty)["last_hidden_state"]
        vector = {"cls": hidden[:, 0], "mean": hidden.mean(dim=1), "max": hidden.max(dim=1).values}[pooling]
        assert relative_error(found[row : row + 1], model.classifier(vector)) < 1e-12


def test_bf16_autocast_gives_fp32_logits() -> None:
    for pooling in ("cls", "mean", "max"):
        model = spread_weights(
            RobertaForSequenceClassification(make_encoder(), num_labels=3, pooling=pooling)
        ).eval()
        ids, mask = make_batch("right")
        exact = model(ids, mask)["logits"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(ids, mask)["logits"]
        assert rounded.dtype == torch.float32
        assert relative_error(rounded, exact) < 0.05


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="cls, mean, max"):
        RobertaForSequenceClassification(make_encoder(), num_labels=3, pooling="attention")
    model = RobertaForSequenceClassification(make_encoder(), num_labels=3)
    ids, mask = make_batch("right")
    with pytest.raises(TypeError, match="attention_mask == 0"):
        model(ids, mask.float())
    mask[1] = True
    with pytest.raises(ValueError, match="no real token"):
        model(ids, mask)
