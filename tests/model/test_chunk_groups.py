"""Chunk groups: the gradient of the whole graph, dropout included, in memory that does not grow."""

from __future__ import annotations

import weakref

import pytest
import torch
from model_cases import make_documents, make_hierarchical
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from textclf_transformer.model import chunk_groups, linear
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification

M = 4  # chunks of a group
WITH_DROPOUT = {
    "hidden_dropout_prob": 0.1,
    "embedding_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "attention_dropout": 0.1,
    "classifier_dropout": 0.1,
}
WITHOUT_DROPOUT = dict.fromkeys([*WITH_DROPOUT, "hidden_dropout"], 0.0)
ATTENTIONS = [
    {"attention_kind": kind, "attention_backend": backend}
    for kind in ("standard", "disentangled")
    for backend in ("explicit", "fused")
]
each_attention = pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda a: " ".join(a.values()))


def gradients_of(model: HierarchicalRobertaForClassification, counts: list[int]) -> dict[str, Tensor]:
    ids, mask = make_documents(counts)
    model.double().train()
    torch.manual_seed(11)
    model(ids, mask, torch.arange(len(counts)) % 4)["loss"].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) < 1e-10 * largest, name


@each_attention
@pytest.mark.parametrize("counts", [[3, 1], [M + 3, 2, 2 * M]], ids=str)
@pytest.mark.parametrize("kept_groups", [0, 1, 9])
def test_gradients_equal_those_without_groups(
    counts: list[int], kept_groups: int, attention: dict[str, str]
) -> None:
    assert_grouping_changes_nothing(counts, kept_groups, **attention)


@pytest.mark.parametrize("token_pooling", ["mean", "max"])
def test_gradients_equal_those_without_groups_where_all_tokens_are_read(token_pooling: str) -> None:
    assert_grouping_changes_nothing([M + 3, 2, 2 * M], kept_groups=1, token_pooling=token_pooling)


def assert_grouping_changes_nothing(counts: list[int], kept_groups: int, **changes: str) -> None:
    plain = make_hierarchical(**WITHOUT_DROPOUT, **changes)
    grouped = make_hierarchical(
        use_gradient_checkpointing=True, kept_chunk_groups=kept_groups, **WITHOUT_DROPOUT, **changes
    )
    assert_equal(gradients_of(grouped, counts), gradients_of(plain, counts))


@each_attention
@pytest.mark.parametrize("kept_groups", [0, 1, 2])
def test_dropout_of_a_group_computed_again_is_that_of_a_kept_one(
    kept_groups: int, attention: dict[str, str]
) -> None:
    """All groups kept is the full graph with the same grouping; not one bit differs from it."""
    counts = [2 * M + 3, 2]
    settings = {"use_gradient_checkpointing": True, **WITH_DROPOUT, **attention}
    full = make_hierarchical(kept_chunk_groups=3, **settings)
    model = make_hierarchical(kept_chunk_groups=kept_groups, **settings)
    expected, found = gradients_of(full, counts), gradients_of(model, counts)
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    without = gradients_of(make_hierarchical(**WITHOUT_DROPOUT, **attention), counts)
    assert not torch.allclose(without["classifier.dense.weight"], expected["classifier.dense.weight"])


def test_random_streams_are_kept_of_the_device_that_draws(monkeypatch) -> None:
    """ids and mask stay on the CPU whatever the device, and streams of tensors' devices alone are kept."""
    devices: list[set[str]] = []

    def spy(function, *arguments, use_reentrant) -> Tensor:
        devices.append({argument.device.type for argument in arguments})
        return torch.zeros(len(arguments[0]), 3)

    monkeypatch.setattr(chunk_groups, "checkpoint", spy)
    ids, mask = make_documents([5])
    settings = {"chunks_per_group": 2, "kept_groups": 0, "device": torch.device("meta")}
    assert chunk_groups.encode_in_groups(lambda *_: ids, ids[0], mask[0], **settings).shape == (5, 3)
    assert devices == [{"cpu", "meta"}] * 3


@pytest.mark.parametrize("product", ["oneDNN", "torch"])
def test_gradients_of_groups_are_added_up_in_float32_under_autocast(product, monkeypatch) -> None:
    """The rounding error of 64 groups is that of the whole batch at once, which multiplies in bf16 too.

    Where torch multiplies, autocast keeps its copies of the weights; for oneDNN each call makes its own.
    """
    if product == "torch":
        monkeypatch.setattr(linear, "_PRODUCT", None)
    errors = []
    for chunks_per_group in (128, 2):
        gradients = []
        for enabled in (False, True):
            model = make_hierarchical(
                use_gradient_checkpointing=True, chunks_per_group=chunks_per_group, **WITHOUT_DROPOUT
            )
            ids, mask = make_documents([128])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                vectors = model.encode_chunks(ids[0], mask[0])
            torch.manual_seed(5)
            (vectors.float() * torch.randn(vectors.shape)).sum().backward()
            gradients.append(model.encoder.layers[1].intermediate.weight.grad)
        errors.append(float((gradients[1] - gradients[0]).norm() / gradients[0].norm()))
    assert 0 < errors[1] < 1.2 * errors[0]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that live: from the operation that makes one to its last reference."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[weakref.ref[torch.UntypedStorage], int] = {}
        self.alive = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor.untyped_storage())
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        reference = weakref.ref(storage, self.forget)
        if reference not in self.known:
            self.known[reference] = storage.nbytes()
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)

    def forget(self, reference: weakref.ref[torch.UntypedStorage]) -> None:
        self.alive -= self.known.pop(reference)


def peak_bytes(*, chunks: int, checkpointing: bool, kept_groups: int = 1) -> int:
    """Most bytes of tensors that live at one time of a step, beside weights and ids."""
    model = make_hierarchical(use_gradient_checkpointing=checkpointing, kept_chunk_groups=kept_groups).train()
    ids, mask = make_documents([chunks])
    with LiveBytes() as live:
        model(ids, mask)["logits"].sum().backward()
    return live.peak


def test_memory_is_flat_in_the_length_of_a_document() -> None:
    """What a further chunk adds are its ids and vectors, here of 8 tokens: 1 to 2 % of its layers'."""
    full = [peak_bytes(chunks=chunks, checkpointing=False) for chunks in (8, 16)]
    grouped = [peak_bytes(chunks=chunks, checkpointing=True) for chunks in (8, 16, 128)]
    assert grouped[0] <= full[0]
    of_a_chunk = (full[1] - full[0]) / 8
    assert grouped[1] - grouped[0] < 8 * 0.018 * of_a_chunk
    assert grouped[2] - grouped[0] < 120 * 0.018 * of_a_chunk


def test_each_further_kept_group_costs_its_memory() -> None:
    peaks = [peak_bytes(chunks=32, checkpointing=True, kept_groups=kept) for kept in (2, 4, 6)]
    assert peaks[1] > 1.5 * peaks[0]
    assert abs((peaks[2] - peaks[1]) / (peaks[1] - peaks[0]) - 1) < 0.2


@pytest.mark.parametrize(("kept_groups", "expected"), [(0, 10), (1, 9), (3, 7), (7, 5)])
def test_only_groups_that_are_not_kept_are_computed_twice(kept_groups: int, expected: int) -> None:
    model = make_hierarchical(use_gradient_checkpointing=True, kept_chunk_groups=kept_groups).train()
    calls = 0
    encode = model.encoder.encode

    def counted(*arguments: Tensor, **keywords: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return encode(*arguments, **keywords)

    model.encoder.encode = counted  # type: ignore[method-assign]
    ids, mask = make_documents([4 * M + 1])
    model(ids, mask)["logits"].sum().backward()
    assert calls == expected


def test_no_graph_is_built_for_a_frozen_encoder_or_without_gradients() -> None:
    model = make_hierarchical(use_gradient_checkpointing=True).train()
    ids, mask = make_documents([2 * M])
    with torch.no_grad():
        assert not model.encode_chunks(ids[0], mask[0]).requires_grad
    model.freeze_base_model()
    assert not model.encode_chunks(ids[0], mask[0]).requires_grad
