"""Attention over packed tokens: masks, groups, empty rows, dropout, low precision."""

from __future__ import annotations

import pytest
import torch
from model_cases import PADDINGS, make_batch, make_encoder, make_labels, relative_error, spread_weights
from torch import Tensor
from torch.nn.attention import varlen

from textclf_transformer.model import attention, explicit_attention
from textclf_transformer.model import layout as layouts
from textclf_transformer.model.attention import attend, choose_attention_backend
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.layout import SequenceLayout, check_attention_mask

BACKENDS = ("explicit", "fused")
HEADS, HEAD_DIM = 3, 4


def random_qkv(num_tokens: int, *, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(num_tokens, HEADS, HEAD_DIM, dtype=dtype, requires_grad=True) for _ in range(3)]


def mask_of_lengths(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)


def one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Attention of each sequence on its own, a token at a time."""
    rows = []
    start = 0
    for length in lengths:
        for i in range(start, start + length):
            scores = torch.einsum("hk,shk->hs", query[i], key[start : start + length]) / HEAD_DIM**0.5
            rows.append(torch.einsum("hs,shk->hk", scores.softmax(-1), value[start : start + length]))
        start += length
    return torch.stack(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[4, 4], [5, 1, 3], [3, 0, 5, 0], [0, 2], [1]], ids=str)
@pytest.mark.parametrize("cells", [2_000_000, 1], ids=["one group", "a group each"])
def test_equals_attention_of_each_sequence_alone(
    backend: str, lengths: list[int], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_DENSE_CELLS", cells)
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=HEADS)
    inputs = random_qkv(sum(lengths))
    found = attend(torch.stack(inputs, dim=1), layout, backend=backend, dropout_p=0.0)
    expected = one_by_one(*inputs, lengths)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    found_gradients = torch.autograd.grad((found * weights).sum(), inputs)
    for gradient, reference in zip(
        found_gradients, torch.autograd.grad((expected * weights).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


def test_groups_keep_order_and_respect_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_DENSE_CELLS", 2_000_000)  # two sequences of 100 tokens, 100 heads
    lengths = [3, 7, 100, 100, 1, 2]
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=100)
    assert [group.num_sequences for group in layout.groups] == [2, 2, 2]
    assert [group.num_tokens for group in layout.groups] == [10, 200, 3]
    assert layout.groups[1].padding is None, "sequences of one length need no mask"
    assert layout.lengths == tuple(lengths)


@pytest.mark.parametrize("lengths", [[5], [4, 4], [5, 3]], ids=str)
def test_products_read_operands_that_lie_densely(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of others each product makes a copy first, and of keys, transposed, a slow one."""
    sparse = []
    product = explicit_attention._scaled_product

    def watch(left: Tensor, right: Tensor, scale: float, *, out: Tensor | None = None) -> Tensor:
        sparse.extend(
            operand.stride()
            for operand in (left, right)
            if not (operand.is_contiguous() or operand.transpose(1, 2).is_contiguous())
        )
        return product(left, right, scale, out=out)

    monkeypatch.setattr(explicit_attention, "_scaled_product", watch)
    packed = torch.stack(random_qkv(sum(lengths)), dim=1)
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=HEADS)
    attend(packed, layout, backend="explicit", dropout_p=0.0).sum().backward()
    assert sparse == []


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_sequence_gives_no_nan_that_a_search_for_nan_would_stop_at(backend: str) -> None:
    layout = SequenceLayout.from_mask(mask_of_lengths([3, 0, 2]), num_heads=HEADS)
    with torch.autograd.detect_anomaly(check_nan=True):
        attend(
            torch.stack(random_qkv(5), dim=1), layout, backend=backend, dropout_p=0.0
        ).square().sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_sequences_and_only_empty_ones(backend: str) -> None:
    for mask in (torch.ones(3, 5, dtype=torch.bool), torch.ones(0, 5, dtype=torch.bool)):
        layout = SequenceLayout.from_mask(mask, num_heads=HEADS)
        assert attend(torch.stack(random_qkv(0), dim=1), layout, backend=backend, dropout_p=0.0).shape == (
            0,
            HEADS,
            HEAD_DIM,
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_keeps_the_expectation(backend: str) -> None:
    lengths = [6, 3]
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=HEADS)
    inputs = [tensor.detach() for tensor in random_qkv(sum(lengths))]
    expected = attend(torch.stack(inputs, dim=1), layout, backend=backend, dropout_p=0.0)
    draws = torch.stack(
        [attend(torch.stack(inputs, dim=1), layout, backend=backend, dropout_p=0.25) for _ in range(4000)]
    )
    assert float(draws.std(dim=0).min()) > 0.01, "nothing was dropped"
    error = (draws.mean(dim=0) - expected).abs() / (draws.std(dim=0) / 4000**0.5)
    assert float(error.max()) < 5  # standard errors


@pytest.mark.parametrize("backend", [*BACKENDS, "varlen"])
@pytest.mark.parametrize("cells", [2_000_000, 1], ids=["one group", "a group each"])
def test_some_tokens_attend_as_they_do_among_all(
    backend: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_DENSE_CELLS", cells)
    monkeypatch.setattr(varlen, "varlen_attn", by_cumulative_lengths)
    mask = mask_of_lengths([5, 3, 0, 4, 1])
    layout = SequenceLayout.from_mask(mask, num_heads=HEADS)
    wanted = torch.zeros_like(mask)
    wanted[0, [1, 4]] = wanted[3] = True  # of the others nothing is wanted
    wanted &= ~mask
    selection = layout.select(wanted)
    assert selection.indices.tolist() == [1, 4, 8, 9, 10, 11]
    packed = torch.stack(random_qkv(13), dim=1).detach().requires_grad_()
    everything = attend(packed, layout, backend=backend, dropout_p=0.0).index_select(0, selection.indices)
    found = attend(
        packed[:, 1:],
        layout,
        backend=backend,
        dropout_p=0.0,
        query=packed[:, 0].index_select(0, selection.indices),
        query_layout=selection.layout,
    )
    torch.testing.assert_close(found, everything, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    (expected,) = torch.autograd.grad((everything * weights).sum(), packed)
    (gradient,) = torch.autograd.grad((found * weights).sum(), packed)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_gradients_pass_through_the_same_dropout_mask() -> None:
    layout = SequenceLayout.from_mask(mask_of_lengths([4, 2]), num_heads=HEADS)
    packed = torch.stack(random_qkv(6), dim=1).detach().requires_grad_()

    def dropped(inputs: Tensor) -> Tensor:
        torch.manual_seed(1)
        return attend(inputs, layout, backend="explicit", dropout_p=0.4)

    assert not torch.equal(dropped(packed), attend(packed, layout, backend="explicit", dropout_p=0.0))
    assert torch.autograd.gradcheck(dropped, (packed,))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bf16_stays_within_its_rounding(backend: str) -> None:
    """Bound: 2**-6 of the largest value (a product, a softmax and a product, each rounded to 2**-9)."""
    lengths = [9, 4, 30]
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=HEADS)
    inputs = [tensor.detach() for tensor in random_qkv(sum(lengths), dtype=torch.float32)]
    exact = attend(torch.stack(inputs, dim=1), layout, backend=backend, dropout_p=0.0)
    rounded = attend(torch.stack(inputs, dim=1).bfloat16(), layout, backend=backend, dropout_p=0.0)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - exact).abs().max() / exact.abs().max()) < 2**-6


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8], ids=str)
def test_mask_of_another_dtype_is_a_type_error_that_helps(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"attention_mask == 0"):
        check_attention_mask(torch.ones(2, 3, dtype=dtype), torch.Size((2, 3)))


def test_mask_of_another_shape_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 3\)"):
        check_attention_mask(torch.ones(2, 4, dtype=torch.bool), torch.Size((2, 3)))


STANDARD = {"amp_dtype": torch.bfloat16, "attention_kind": "standard", "dropout_prob": 0.0, "head_dim": 64}


def test_a_cpu_has_one_backend() -> None:
    assert choose_attention_backend(torch.device("cpu"), **STANDARD).name == "explicit"


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({}, "varlen", "no work on padding"),
        ({"amp_dtype": torch.float16}, "varlen", "no work on padding"),
        ({"amp_dtype": None}, "fused", "half precision"),
        ({"attention_kind": "disentangled"}, "fused", "scores of its own"),
        ({"dropout_prob": 0.1}, "fused", "no dropout"),
        ({"head_dim": 20}, "fused", "divisible by 8"),
        ({"head_dim": 264}, "fused", "divisible by 8"),
    ],
)
def test_a_gpu_packs_where_flash_attention_can(
    changes: dict[str, object], name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_is_ampere", lambda device: True)
    monkeypatch.setattr(attention, "_has_flash_attention", lambda: True)
    choice = choose_attention_backend(torch.device("cuda"), **(STANDARD | changes))  # type: ignore[arg-type]
    assert choice.name == name
    assert reason in choice.reason


def test_an_old_gpu_has_the_dense_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_is_ampere", lambda device: False)
    choice = choose_attention_backend(torch.device("cuda"), **STANDARD)
    assert choice.name == "fused"
    assert "Ampere" in choice.reason


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "fused"), ((8, 0), "varlen"), ((9, 0), "varlen")])
def test_ampere_begins_with_8_0(
    capability: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(attention, "_has_flash_attention", lambda: True)
    assert choose_attention_backend(torch.device("cuda"), **STANDARD).name == name


def test_a_build_of_torch_without_flash_attention_has_the_dense_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_is_ampere", lambda device: True)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    choice = choose_attention_backend(torch.device("cuda"), **STANDARD)
    assert choice.name == "fused"
    assert "build of torch" in choice.reason


def by_cumulative_lengths(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
) -> Tensor:
    """What ``varlen_attn`` is documented to compute, sequence by sequence; runs in any precision."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    queries, keys = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert cu_seq_q[0] == cu_seq_k[0] == 0
    assert cu_seq_q[-1] == len(query) and cu_seq_k[-1] == len(key) == len(value)
    assert (max(queries), max(keys)) == (max_q, max_k)
    rows = []
    for q, k, v in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        scores = torch.einsum("ihk,jhk->hij", q, k) / q.shape[-1] ** 0.5
        rows.append(torch.einsum("hij,jhk->ihk", scores.softmax(dim=-1), v))
    return torch.cat(rows)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("padding", PADDINGS)
def test_packed_sequences_equal_the_dense_backend_in_loss_and_gradients(
    dtype: torch.dtype, bound: float, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole masked-LM model; the kernel that needs a GPU is replaced by what it is documented to do."""
    monkeypatch.setattr(varlen, "varlen_attn", by_cumulative_lengths)
    ids, mask = make_batch(padding)
    labels = make_labels(mask)
    losses, gradients = [], []
    for backend in ("explicit", "varlen"):
        model = spread_weights(RobertaForMaskedLM(make_encoder(attention_backend=backend))).to(dtype).eval()
        loss = model.masked_loss(ids, mask, labels)
        loss.backward()
        losses.append(loss)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert relative_error(losses[1], losses[0]) < bound
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert float((gradients[1][name] - gradient).abs().max()) < bound * largest, name


def test_empty_sequences_and_empty_batches_are_packed() -> None:
    layout = SequenceLayout.from_mask(mask_of_lengths([3, 0, 2]), num_heads=HEADS)
    assert layout.cumulative_lengths.tolist() == [0, 3, 3, 5]
    assert layout.longest == 3
    empty = SequenceLayout.from_mask(torch.ones(2, 4, dtype=torch.bool), num_heads=HEADS)
    assert attend(torch.stack(random_qkv(0), dim=1), empty, backend="varlen", dropout_p=0.0).shape == (
        0,
        HEADS,
        HEAD_DIM,
    )


def test_packed_attention_refuses_dropout() -> None:
    layout = SequenceLayout.from_mask(mask_of_lengths([3]), num_heads=HEADS)
    with pytest.raises(ValueError, match="no dropout"):
        attend(torch.stack(random_qkv(3), dim=1), layout, backend="varlen", dropout_p=0.1)
