"""The masked-LM model: its losses and tying; the projection fused with cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import PADDINGS, VOCAB, make_batch, make_encoder, make_labels, relative_error, spread_weights
from torch.nn import functional as F

from textclf_transformer.model import linear_cross_entropy as fused
from textclf_transformer.model.heads import IGNORE_INDEX, RobertaForMaskedLM
from textclf_transformer.model.linear_cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_masked_loss_is_the_loss_of_forward_times_the_count(padding: str, tied: bool) -> None:
    model = spread_weights(RobertaForMaskedLM(make_encoder(), tie_weights=tied)).double().eval()
    ids, mask = make_batch(padding)
    labels = make_labels(mask)
    count = (labels != IGNORE_INDEX).sum()
    slow = model(ids, mask, labels)["loss"] * count
    fast = model.masked_loss(ids, mask, labels)
    assert relative_error(fast, slow) < 1e-12
    slow_gradients = torch.autograd.grad(slow, list(model.parameters()))
    fast_gradients = torch.autograd.grad(fast, list(model.parameters()))
    largest = max(float(gradient.abs().max()) for gradient in slow_gradients)
    for found, expected in zip(fast_gradients, slow_gradients, strict=True):
        assert float((found - expected).abs().max()) < 1e-12 * largest


def test_labels_under_the_mask_do_not_count() -> None:
    model = RobertaForMaskedLM(make_encoder()).eval()
    ids, mask = make_batch("right")
    labels = make_labels(mask)
    poked = torch.where(mask, 3, labels)
    assert torch.equal(model.masked_loss(ids, mask, labels), model.masked_loss(ids, mask, poked))
    assert torch.equal(model(ids, mask, labels)["loss"], model(ids, mask, poked)["loss"])


def test_no_targets_give_zero_loss_and_zero_gradients() -> None:
    model = RobertaForMaskedLM(make_encoder())
    ids, mask = make_batch("right")
    loss = model.masked_loss(ids, mask, torch.full_like(ids, IGNORE_INDEX))
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_first_loss_is_near_ln_v() -> None:
    vocabulary = 4000
    model = RobertaForMaskedLM(make_encoder(vocab_size=vocabulary, hidden_size=48, intermediate_size=96))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, vocabulary, (16, 16), generator=generator)
    labels = torch.randint(2, vocabulary, (16, 16), generator=generator)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    loss = model.masked_loss(ids, mask, labels) / labels.numel()
    assert abs(loss.item() - math.log(vocabulary)) < 0.1


def test_one_batch_can_be_overfit() -> None:
    model = RobertaForMaskedLM(make_encoder(hidden_dropout_prob=0.0, embedding_dropout_prob=0.0))
    ids, mask = make_batch("right")
    labels = make_labels(mask)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.masked_loss(ids, mask, labels) / (labels != IGNORE_INDEX).sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_tied_head_has_no_projection_of_its_own() -> None:
    tied = RobertaForMaskedLM(make_encoder(), tie_weights=True)
    untied = RobertaForMaskedLM(make_encoder(), tie_weights=False)
    assert untied.state_dict().keys() - tied.state_dict().keys() == {"head.decoder.weight"}
    ids, mask = make_batch("none")
    ids = ids.clamp(max=VOCAB - 2)
    before = tied.eval()(ids, mask)["logits"]
    with torch.no_grad():
        tied.encoder.embeddings.word_embeddings.weight[VOCAB - 1] += 1.0
    after = tied(ids, mask)["logits"]
    assert torch.equal(before[..., :-1], after[..., :-1])
    assert not torch.equal(before[..., -1], after[..., -1])


@pytest.mark.parametrize("rows", [0, 1, 7, 30])
@pytest.mark.parametrize("cells", [524_288, 40], ids=["one block", "blocks of two rows"])
@pytest.mark.parametrize("multiple", [1, 64], ids=["", "classes filled up"])
def test_fused_cross_entropy_equals_the_plain_one(
    rows: int, cells: int, multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_CELLS_PER_BLOCK", cells)
    monkeypatch.setattr(fused, "_CLASS_MULTIPLE", {"cpu": multiple})
    torch.manual_seed(0)
    hidden = torch.randn(rows, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(20, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 20, (rows,))
    found = linear_cross_entropy(hidden, weight, bias, targets)
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found_gradients = torch.autograd.grad(0.37 * found, (hidden, weight, bias))
    expected_gradients = torch.autograd.grad(0.37 * expected, (hidden, weight, bias))
    for gradient, reference in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [64, 1500])
def test_fused_cross_entropy_under_autocast_stays_near_the_exact_one(rows: int) -> None:
    """Bounds: 0.5 % of the loss, 2 % of a gradient's largest value; the scale is exact."""
    torch.manual_seed(0)
    hidden = torch.randn(rows, 32, requires_grad=True)
    weight = torch.randn(300, 32, requires_grad=True)
    bias = torch.randn(300, requires_grad=True)
    targets = torch.randint(0, 300, (rows,))
    exact = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    exact_gradients = torch.autograd.grad(exact / 77, (hidden, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = linear_cross_entropy(hidden, weight, bias, targets)
    rounded_gradients = torch.autograd.grad(rounded / 77, (hidden, weight, bias))
    assert rounded.dtype == torch.float32
    assert relative_error(rounded, exact) < 0.005
    for found, expected in zip(rounded_gradients, exact_gradients, strict=True):
        assert found.dtype == torch.float32
        assert relative_error(found, expected) < 0.02
    # Not one factor for all of them: the scale is not rounded to bf16.
    ratio = (rounded_gradients[0] * exact_gradients[0]).sum() / exact_gradients[0].square().sum()
    assert abs(ratio.item() - 1) < 1e-3


def test_fused_cross_entropy_of_sure_and_of_hopeless_targets_in_bf16() -> None:
    """The gradient of a target with p = 0.9999, which is 1 in bf16; a loss whose p underflows."""
    bias = torch.tensor([0.0, 10.0, 300.0, 0.0])
    hidden, weight = torch.zeros(3, 2, requires_grad=True), torch.zeros(4, 2)
    hidden.data[:2, 0] = 1.0
    weight[2, 0] = -600.0  # rows 0 and 1 see logits 0, 10, -300, 0, the last one 0, 10, 300, 0
    targets = torch.tensor([1, 0, 0])
    bias.requires_grad_()
    for name, expected in (("sure", slice(0, 1)), ("unlikely", slice(1, 2)), ("hopeless", slice(2, 3))):
        exact = F.cross_entropy(F.linear(hidden[expected], weight, bias), targets[expected], reduction="sum")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = linear_cross_entropy(hidden[expected], weight, bias, targets[expected])
        assert relative_error(found, exact) < 0.01, name
        (wanted,) = torch.autograd.grad(exact, bias)
        (gradient,) = torch.autograd.grad(found, bias)
        torch.testing.assert_close(gradient, wanted, rtol=0.01, atol=1e-12, msg=name)
        assert abs(float(gradient.sum())) < 0.01 * float(gradient.abs().max()), name


def test_float64_stays_float64_under_autocast() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(size, dtype=torch.float64) for size in ((5, 4), (7, 4), (7,)))
    targets = torch.randint(0, 7, (5,))
    exact = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_cross_entropy(hidden, weight, bias, targets)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)


def test_a_target_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        linear_cross_entropy(torch.randn(2, 4), torch.randn(5, 4), torch.zeros(5), torch.tensor([1, 5]))
