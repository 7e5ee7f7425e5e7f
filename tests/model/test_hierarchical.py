"""The hierarchical classifier: logits depend on a document's real tokens alone; chunk groups; bad input."""

from __future__ import annotations

import pytest
import torch
from model_cases import PAD, VOCAB, make_encoder, relative_error, spread_weights
from torch import Tensor

from textclf_transformer.model.hierarchical import _CHUNKS_PER_GROUP, HierarchicalRobertaForClassification
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS

LENGTH = 8


def make_model(*, seed: int = 0, **changes: object) -> HierarchicalRobertaForClassification:
    encoder_changes = {name: changes.pop(name) for name in list(changes) if name.endswith("_prob")}
    encoder = make_encoder(seed=seed, **encoder_changes)
    arguments: dict[str, object] = {"num_labels": 4, "attention_hidden_size": 10}
    model = HierarchicalRobertaForClassification(encoder, **(arguments | changes))  # type: ignore[arg-type]
    spread_weights(model, seed=seed)
    return model.eval()


def make_documents(counts: list[int], *, chunks: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, C, S) of documents with these numbers of chunks, the last of each shorter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), chunks or max(counts), LENGTH)
    ids = torch.randint(2, VOCAB, shape, generator=generator)
    mask = torch.ones(shape, dtype=torch.bool)
    for document, count in enumerate(counts):
        mask[document, :count] = False
        mask[document, count - 1, 2 + document :] = True
    return ids.masked_fill(mask, PAD), mask


def test_logits_do_not_move_with_batch_mates_or_more_padding_chunks() -> None:
    model = make_model().double()
    ids, mask = make_documents([3, 1, 5])
    together = model(ids, mask, return_attention=True)
    wider_ids, wider_mask = (
        torch.full((3, 9, LENGTH + 4), PAD),
        torch.ones(3, 9, LENGTH + 4, dtype=torch.bool),
    )
    wider_ids[:, :5, :LENGTH], wider_mask[:, :5, :LENGTH] = ids, mask
    wider = model(wider_ids, wider_mask, return_attention=True)
    assert relative_error(wider["logits"], together["logits"]) < 1e-12
    assert not wider["attention_weights"][:, 5:].any()
    for document, count in enumerate([3, 1, 5]):
        alone = model(ids[document : document + 1, :count], mask[document : document + 1, :count])["logits"]
        assert relative_error(together["logits"][document : document + 1], alone) < 1e-12


def test_fp32_logits_do_not_move_beyond_rounding() -> None:
    model = make_model()
    ids, mask = make_documents([3, 1, 5])
    together = model(ids, mask)["logits"]
    alone = model(ids[1:2, :1], mask[1:2, :1])["logits"]
    assert relative_error(together[1:2], alone) < 1e-5


def test_what_lies_under_the_mask_is_never_read() -> None:
    model = make_model()
    ids, mask = make_documents([3, 1, 5])
    expected = model(ids, mask)["logits"]
    for poison in (0, VOCAB + 10**9, -3):
        assert torch.equal(model(ids.masked_fill(mask, poison), mask)["logits"], expected)


def test_classify_chunks_equals_forward() -> None:
    model = make_model()
    counts = [3, 1, 5]
    ids, mask = make_documents(counts)
    real = ~mask.all(dim=2)
    expected = model(ids, mask, return_attention=True)
    found = model.classify_chunks(ids[real], mask[real], torch.tensor(counts))
    assert found["logits"].dtype == torch.float32
    assert torch.equal(found["logits"], expected["logits"])
    assert torch.equal(found["attention_weights"], expected["attention_weights"])


def test_loss_is_the_mean_cross_entropy() -> None:
    model = make_model().double()
    ids, mask = make_documents([2, 1])
    labels = torch.tensor([3, 0])
    out = model(ids, mask, labels)
    by_hand = -out["logits"].log_softmax(dim=1)[torch.arange(2), labels].mean()
    assert relative_error(out["loss"], by_hand) < 1e-12
    assert "attention_weights" not in out


def test_a_padding_chunk_may_stand_anywhere() -> None:
    model = make_model().double()
    ids, mask = make_documents([3])
    spread_ids = torch.full((1, 5, LENGTH), PAD)
    spread_mask = torch.ones(1, 5, LENGTH, dtype=torch.bool)
    spread_ids[:, [0, 2, 4]], spread_mask[:, [0, 2, 4]] = ids, mask
    found = model(spread_ids, spread_mask, return_attention=True)
    assert relative_error(found["logits"], model(ids, mask)["logits"]) < 1e-12
    assert (found["attention_weights"] > 0).tolist() == [[True, False, True, False, True]]


def test_the_chunk_vector_is_the_first_real_token() -> None:
    model = make_model()
    ids, mask = make_documents([1, 1])
    ids, mask = ids[:, 0], mask[:, 0]
    mask[1, 0] = True  # left padding
    hidden = model.encoder(ids, mask)["last_hidden_state"]
    expected = torch.stack([hidden[0, 0], hidden[1, 1]])
    assert relative_error(model.encode_chunks(ids, mask), expected) < 1e-5


@pytest.mark.parametrize("counts", [[3, 1], [_CHUNKS_PER_GROUP + 3, 2, 2 * _CHUNKS_PER_GROUP]], ids=str)
def test_gradients_with_checkpointed_groups_equal_those_without(counts: list[int]) -> None:
    ids, mask = make_documents(counts)
    gradients = []
    for checkpointing in (False, True):
        model = make_model(
            use_gradient_checkpointing=checkpointing,
            hidden_dropout=0.0,
            classifier_dropout=0.0,
            hidden_dropout_prob=0.0,
            embedding_dropout_prob=0.0,
        )
        model.double().train()
        model(ids, mask, torch.arange(len(counts)))["loss"].backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, expected in gradients[0].items():
        assert float((gradients[1][name] - expected).abs().max()) < 1e-10 * largest, name


def test_gradients_with_checkpointed_groups_equal_with_dropout_and_the_same_grouping() -> None:
    counts = [_CHUNKS_PER_GROUP + 3, 2]
    ids, mask = make_documents(counts)
    real = ~mask.all(dim=2)
    gradients = []
    for checkpointing in (False, True):
        model = (
            make_model(use_gradient_checkpointing=checkpointing, attention_probs_dropout_prob=0.1)
            .double()
            .train()
        )
        torch.manual_seed(11)
        if checkpointing:
            vectors = model.encode_chunks(ids[real], mask[real])
        else:
            groups = zip(ids[real].split(_CHUNKS_PER_GROUP), mask[real].split(_CHUNKS_PER_GROUP), strict=True)
            vectors = torch.cat([model.encode_chunks(*group) for group in groups])
        model._classify(vectors, real)["logits"].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, expected in gradients[0].items():
        assert float((gradients[1][name] - expected).abs().max()) < 1e-10 * largest, name


def test_checkpointed_groups_keep_only_ids_and_cls_vectors() -> None:
    sizes = {}
    for checkpointing in (False, True):
        for count in (_CHUNKS_PER_GROUP, 4 * _CHUNKS_PER_GROUP):
            model = make_model(use_gradient_checkpointing=checkpointing).train()
            ids, mask = make_documents([count])
            total = 0

            def add(tensor: Tensor) -> Tensor:
                nonlocal total
                total += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(add, lambda tensor: tensor):
                model.encode_chunks(ids[0], mask[0])
            sizes[checkpointing, count] = total / count
    assert sizes[True, 4 * _CHUNKS_PER_GROUP] < 0.05 * sizes[False, 4 * _CHUNKS_PER_GROUP]


def test_bf16_autocast_gives_fp32_logits_near_the_exact_ones() -> None:
    """Bound: 5 % of the largest logit, with wide weights."""
    model = make_model()
    ids, mask = make_documents([3, 1, 5])
    with torch.no_grad():
        exact = model(ids, mask)["logits"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(ids, mask)["logits"]
    assert rounded.dtype == torch.float32
    assert relative_error(rounded, exact) < 0.05


@pytest.mark.parametrize(
    ("pooling", "positions"),
    [(name, False) for name in POOLINGS] + [(name, True) for name in POSITIONED_POOLINGS],
)
def test_each_pooling_ignores_padding_chunks_and_batch_mates(pooling: str, positions: bool) -> None:
    model = make_model(
        pooling=pooling, attention_heads=3, max_chunks=6, chunk_position_embeddings=positions
    ).double()
    counts = [3, 1, 5]
    together = model(*make_documents(counts), return_attention=True)
    ids, mask = make_documents(counts)
    for document, count in enumerate(counts):
        alone = model(
            ids[document : document + 1, :count], mask[document : document + 1, :count], return_attention=True
        )
        assert relative_error(together["logits"][document : document + 1], alone["logits"]) < 1e-12
        weights = together["attention_weights"][document]
        assert relative_error(weights[:count], alone["attention_weights"][0]) < 1e-12
        assert not weights[count:].any()
    has_heads = pooling in {"multihead", "transformer"}
    assert ("attention_weights_per_head" in together) == has_heads
    if has_heads:
        assert together["attention_weights_per_head"].shape == (3, 3, 5)


@pytest.mark.parametrize("pooling", POSITIONED_POOLINGS)
def test_chunk_positions_tell_the_order(pooling: str) -> None:
    ids, mask = make_documents([4])
    mask[0, 3] = False  # all chunks of one length
    order = torch.tensor([2, 0, 3, 1])
    for positions in (False, True):
        model = make_model(
            pooling=pooling, attention_heads=3, max_chunks=6, chunk_position_embeddings=positions
        )
        same = relative_error(model(ids[:, order], mask)["logits"], model(ids, mask)["logits"]) < 1e-5
        assert same == (not positions)


def test_more_chunks_than_max_chunks_are_refused_and_padding_does_not_count() -> None:
    model = make_model(max_chunks=3)
    ids, mask = make_documents([3], chunks=9)
    assert model(ids, mask)["logits"].shape == (1, 4)
    ids, mask = make_documents([4])
    with pytest.raises(ValueError, match="4 chunks, max_chunks is 3"):
        model(ids, mask)


def test_chunk_positions_that_would_tell_nothing_are_refused() -> None:
    for changes in (
        {"max_chunks": None},
        {"max_chunks": 3, "pooling": "mean"},
        {"max_chunks": 3, "pooling": "cls"},
    ):
        with pytest.raises(ValueError, match="need max_chunks and a pooling of"):
            make_model(chunk_position_embeddings=True, **changes)


def test_bad_input_is_refused() -> None:
    model = make_model()
    ids, mask = make_documents([2, 1])
    with pytest.raises(TypeError, match="attention_mask == 0"):
        model(ids, (~mask).long())
    with pytest.raises(ValueError, match="shape"):
        model(ids, mask[:, :1])
    mask[1] = True
    with pytest.raises(ValueError, match="no real chunk"):
        model(ids, mask)
