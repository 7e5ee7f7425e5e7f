"""Disentangled attention against transformers' DeBERTa with the same weights."""

from __future__ import annotations

import pytest
import torch
from deberta_cases import Wrapped, load_like, make_deberta, make_hf_deberta, ours_like
from model_cases import assert_same_gradients, make_batch, make_encoder, relative_error
from torch import nn

from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pooling import POOLINGS
from textclf_transformer.model.pretrained_deberta import deberta_state_from_hf
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
BACKENDS = ("explicit", "fused")
PADDINGS = ("none", "right", "left")
# (changes of the shape, batch, length): distances within and beyond the table, odd heads, one token.
SHAPES: dict[str, tuple[dict[str, int], int, int]] = {
    "distances within the table": ({}, 4, 11),
    "distances beyond the table": ({"max_relative_positions": 3}, 4, 11),
    "one distance": ({"max_relative_positions": 1}, 3, 6),
    "5 heads, 3 layers": ({"hidden_size": 35, "num_attention_heads": 5, "num_hidden_layers": 3}, 5, 9),
    "1 head, 1 layer": ({"num_attention_heads": 1, "num_hidden_layers": 1}, 3, 7),
    "length 1": ({}, 4, 1),
    "longest length": ({"max_relative_positions": -1}, 3, 16),
}


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_equal_hf(
    shape: str, padding: str, backend: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    if dtype == torch.float64:
        request.getfixturevalue("in_float64")
    changes, batch, length = SHAPES[shape]
    hf = make_hf_deberta("DebertaModel", **changes).to(dtype)
    encoder = load_like(Wrapped(ours_like(hf, backend=backend)), hf).encoder
    ids, mask = make_batch(padding, batch=batch, length=length)
    with torch.no_grad():
        expected = hf(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
        found = encoder(ids, mask)["last_hidden_state"]
    assert relative_error(found[~mask], expected[~mask]) < BOUND[dtype]
    assert not found[mask].any(), "padding must come out as zeros"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
def test_logits_loss_and_gradients_equal_hf(
    padding: str, backend: str, dtype: torch.dtype, bound: float, request: pytest.FixtureRequest
) -> None:
    if dtype == torch.float64:
        request.getfixturevalue("in_float64")
    hf = make_hf_deberta("DebertaForSequenceClassification", num_labels=4, max_relative_positions=5).to(dtype)
    ours = load_like(RobertaForSequenceClassification(ours_like(hf, backend=backend), num_labels=4), hf)
    ids, mask = make_batch(padding)
    # transformers takes the first column as [CLS]; on the left there is padding
    ids, mask = (ids.flip(1), mask.flip(1)) if padding == "left" else (ids, mask)
    labels = torch.tensor([0, 3, 1, 2])
    logits = hf(input_ids=ids, attention_mask=(~mask).long()).logits
    loss = nn.functional.cross_entropy(logits, labels)  # theirs rounds logits to float32
    found = ours(ids, mask, labels)
    assert relative_error(found["logits"], logits) < BOUND[dtype]
    assert relative_error(found["loss"], loss) < BOUND[dtype]

    loss.backward()
    found["loss"].backward()
    theirs = {name: parameter.grad for name, parameter in hf.named_parameters()}
    assert_same_gradients(ours, deberta_state_from_hf(theirs, num_attention_heads=3), bound=bound)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_inside_a_sequence_takes_no_place(backend: str) -> None:
    encoder = make_deberta(attention_backend=backend)
    ids, mask = make_batch("inside", batch=5, length=13)
    hidden = encoder(ids, mask)["last_hidden_state"]
    for row in range(5):
        alone = ids[row][~mask[row]].unsqueeze(0)
        expected = encoder(alone, torch.zeros_like(alone, dtype=torch.bool))["last_hidden_state"][0]
        assert relative_error(hidden[row][~mask[row]], expected) < 1e-5


def test_order_matters_though_no_place_is_in_the_input() -> None:
    encoder = make_deberta()
    ids = torch.arange(2, 10).unsqueeze(0)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    forward = encoder(ids, mask)["last_hidden_state"]
    backward = encoder(ids.flip(1), mask)["last_hidden_state"].flip(1)
    assert relative_error(backward, forward) > 1e-2
    with torch.no_grad():  # without distances it is a bag of words
        for name, parameter in encoder.named_parameters():
            if "relative" in name or "position" in name:
                parameter.zero_()
    forward = encoder(ids, mask)["last_hidden_state"]
    backward = encoder(ids.flip(1), mask)["last_hidden_state"].flip(1)
    assert relative_error(backward, forward) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpointing_and_attention_dropout(backend: str) -> None:
    ids, mask = make_batch("right")
    gradients = []
    for checkpointing in (False, True):
        encoder = make_deberta(
            use_gradient_checkpointing=checkpointing,
            attention_probs_dropout_prob=0.5,
            attention_backend=backend,
        ).train()
        torch.manual_seed(3)
        encoder(ids, mask)["last_hidden_state"].square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)
    # in training the dropped weights move the output, in evaluation nothing does
    states = [encoder(ids, mask)["last_hidden_state"] for _ in range(2)]
    assert not torch.equal(*states)
    encoder.eval()
    assert torch.equal(*(encoder(ids, mask)["last_hidden_state"] for _ in range(2)))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_stands_on_it(pooling: str) -> None:
    model = HierarchicalRobertaForClassification(
        make_deberta(), num_labels=3, pooling=pooling, attention_hidden_size=8, attention_heads=3
    ).eval()
    ids, mask = make_batch("right", batch=6, length=8)
    ids, mask = ids.view(2, 3, 8), mask.view(2, 3, 8).clone()
    mask[1, 2] = True  # a padding chunk
    logits = model(ids, mask)["logits"]
    alone = model(ids[1:, :2], mask[1:, :2])["logits"]
    assert relative_error(logits[1:], alone) < 1e-5
    model.freeze_bottom_k_layers(1)
    model.train()(ids, mask)["logits"].sum().backward()
    assert model.encoder.embeddings.relative_positions.grad is None


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="needs disentangled attention"):
        RobertaForMaskedLM(make_encoder(), enhanced_mask_decoder=True)
    with pytest.raises(ValueError, match="unknown attention"):
        make_encoder(attention_kind="linear")
    with pytest.raises(ValueError, match="no use for max_relative_positions"):
        make_encoder(max_relative_positions=4)
    with pytest.raises(ValueError, match="does not divide"):
        make_deberta(num_attention_heads=5)
    assert make_encoder(attention_kind="disentangled").max_relative_positions == 16
