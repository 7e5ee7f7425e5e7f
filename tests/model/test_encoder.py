"""The encoder beyond parity: what it reads and selects, checkpointing, bf16, bad input."""

from __future__ import annotations

import pytest
import torch
from model_cases import PAD, PADDINGS, VOCAB, make_batch, make_encoder, relative_error, spread_weights
from torch import nn

from textclf_transformer.model.layers import _residual_sum
from textclf_transformer.model.layout import unpack

BACKENDS = ("explicit", "fused")


@pytest.mark.parametrize("padding", PADDINGS)
def test_what_lies_under_the_mask_is_never_read(padding: str) -> None:
    encoder = spread_weights(make_encoder()).eval()
    ids, mask = make_batch(padding)
    expected = encoder(ids, mask)["last_hidden_state"]
    for poison in (0, VOCAB - 1, VOCAB + 10**9, -5):
        poisoned = ids.masked_fill(mask, poison)
        assert torch.equal(encoder(poisoned, mask)["last_hidden_state"], expected)


def test_padding_anywhere_gives_the_same_as_no_padding() -> None:
    encoder = spread_weights(make_encoder()).double().eval()
    ids, mask = make_batch("inside")
    together = encoder(ids, mask)["last_hidden_state"]
    for row in range(len(ids)):
        alone = ids[row][~mask[row]].unsqueeze(0)
        hidden = encoder(alone, torch.zeros_like(alone, dtype=torch.bool))["last_hidden_state"][0]
        assert relative_error(together[row][~mask[row]], hidden) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("layers", [1, 3])
def test_selecting_positions_in_the_last_layer_is_exact(padding: str, backend: str, layers: int) -> None:
    encoder = make_encoder(num_hidden_layers=layers, attention_backend=backend)
    encoder = spread_weights(encoder).double().eval()
    ids, mask = make_batch(padding)
    wanted = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.3) & ~mask
    everything = encoder(ids, mask)["last_hidden_state"]
    assert relative_error(encoder.encode(ids, mask, wanted=wanted), everything[wanted]) < 1e-12
    nothing = encoder.encode(ids, mask, wanted=torch.zeros_like(mask))
    assert nothing.shape == (0, 24)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_empty_rows_give_zeros_and_no_nan_in_gradients(backend: str, dtype: torch.dtype) -> None:
    encoder = make_encoder(attention_backend=backend)
    ids, mask = make_batch("right")
    mask[2] = True
    for case in (mask, torch.ones_like(mask)):
        encoder.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = encoder(ids, case)["last_hidden_state"]
        hidden.square().sum().backward()
        assert hidden.isfinite().all()
        assert not hidden[2].any()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in encoder.parameters())


def test_gradient_checkpointing_gives_the_same_gradients_with_dropout() -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = make_encoder(
            use_gradient_checkpointing=checkpointing, attention_probs_dropout_prob=0.2
        ).double()
        ids, mask = make_batch("inside")
        torch.manual_seed(7)
        encoder(ids, mask)["last_hidden_state"].square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert gradients[0]
    for plain, checkpointed in zip(*gradients, strict=True):
        assert relative_error(checkpointed, plain) < 1e-10


def test_gradient_checkpointing_keeps_less() -> None:
    sizes = []
    for checkpointing in (False, True):
        encoder = make_encoder(use_gradient_checkpointing=checkpointing, num_hidden_layers=4)
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            encoder(*make_batch("right"))
        sizes.append(total)
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize(
    "name", ["hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout_prob"]
)
def test_each_dropout_acts_in_training_alone(name: str) -> None:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "embedding_dropout_prob": 0.0}
    batch = make_batch("right")
    encoder = make_encoder(**(off | {name: 0.5}))
    assert not torch.equal(encoder(*batch)["last_hidden_state"], encoder(*batch)["last_hidden_state"])
    silent = make_encoder(**off)
    assert torch.equal(silent(*batch)["last_hidden_state"], silent(*batch)["last_hidden_state"])
    assert torch.equal(encoder.eval()(*batch)["last_hidden_state"], silent(*batch)["last_hidden_state"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_bf16_autocast_stays_near_fp32_and_the_residual_stays_fp32(backend: str) -> None:
    """Bound: 3 % of the largest value, for hidden states that LayerNorm has just brought to order 1."""
    encoder = make_encoder(
        hidden_size=96, intermediate_size=192, num_hidden_layers=4, attention_backend=backend
    ).eval()
    ids, mask = make_batch("right", batch=6, length=16)
    with torch.no_grad():
        exact = encoder(ids, mask)["last_hidden_state"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = encoder(ids, mask)["last_hidden_state"]
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact), "autocast did nothing"
    assert relative_error(rounded, exact) < 0.03


def test_the_residual_sum_has_the_bits_of_a_plain_one() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 8, requires_grad=True)
    update = torch.randn(50, 8, requires_grad=True)
    weights = torch.randn(50, 8)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        narrow = update.to(dtype)
        found, expected = _residual_sum(hidden, narrow), hidden + narrow
        assert torch.equal(found, expected)
        assert torch.equal(narrow, update.to(dtype)), "what is added stays as it is"
        for ours, reference in zip(
            torch.autograd.grad((found * weights).sum(), (hidden, update), retain_graph=True),
            torch.autograd.grad((expected * weights).sum(), (hidden, update)),
            strict=True,
        ):
            assert torch.equal(ours, reference)


def test_the_pad_row_is_not_trained() -> None:
    encoder = make_encoder()
    ids, mask = make_batch("none")
    ids[0, 0] = PAD  # legal in the model: the mask alone decides
    encoder(ids, mask)["last_hidden_state"].square().sum().backward()
    assert not encoder.embeddings.word_embeddings.weight.grad[PAD].any()


def test_too_long_a_sequence_is_refused_but_padding_may_be_longer() -> None:
    encoder = make_encoder()  # 16 positions
    ids, mask = make_batch("none", batch=2, length=17)
    with pytest.raises(ValueError, match=r"17 tokens.*16"):
        encoder(ids, mask)
    mask[:, 3] = True
    assert encoder(ids, mask)["last_hidden_state"].shape == (2, 17, 24)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32], ids=str)
def test_a_mask_that_is_not_bool_is_refused(dtype: torch.dtype) -> None:
    ids, mask = make_batch("right")
    with pytest.raises(TypeError, match="True = PAD"):
        make_encoder()(ids, mask.to(dtype))
    with pytest.raises(ValueError, match="shape"):
        make_encoder()(ids, mask[:, 1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "does not divide"),
        ({"num_attention_heads": 0}, "num_attention_heads 0 does not divide"),
        ({"num_hidden_layers": 0}, "at least 1"),
        ({"max_position_embeddings": PAD + 1}, "no position"),
        ({"attention_backend": "x"}, "unknown attention_backend 'x'.*explicit.*fused.*varlen"),
        (
            {"attention_kind": "disentangled", "attention_backend": "varlen"},
            r"unknown attention_backend 'varlen', expected one of \('explicit', 'fused'\)",
        ),
    ],
)
def test_impossible_shapes_and_backends_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_encoder(**changes)


def test_unpack_puts_rows_where_they_belong() -> None:
    places = torch.tensor([[True, False, True], [False, False, True]])
    spread = unpack(torch.tensor([[1.0], [2.0], [3.0]]), places)
    assert spread.squeeze(-1).tolist() == [[1, 0, 2], [0, 0, 3]]
