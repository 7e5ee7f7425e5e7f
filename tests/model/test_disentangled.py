"""Disentangled attention against transformers' DeBERTa with the same weights; folders; mask decoder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TypeVar

import pytest
import torch
import transformers
from model_cases import (
    HF_SHAPE,
    PAD,
    assert_same_gradients,
    make_batch,
    make_encoder,
    make_labels,
    relative_error,
    spread_weights,
)
from torch import Tensor, nn
from transformers.models.deberta import modeling_deberta

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hf_config import parse_hf_config
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.loading import load_strict
from textclf_transformer.model.pooling import POOLINGS
from textclf_transformer.model.pretrained_deberta import deberta_state_from_hf
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

ModelT = TypeVar("ModelT", bound=nn.Module)

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


def make_hf_deberta(kind: str, **changes: object) -> transformers.PreTrainedModel:
    settings = HF_SHAPE | {
        "max_relative_positions": 12,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "pad_token_id": PAD,
        "layer_norm_eps": 1e-3,  # large, so that another value would be seen
    }
    config = transformers.DebertaConfig(**(settings | changes))
    return spread_weights(getattr(transformers, kind)(config)).eval()


def ours_like(hf: transformers.PreTrainedModel, *, backend: str = "explicit") -> RobertaModel:
    config = parse_hf_config(hf.config.to_dict() | {"model_type": "deberta"}, where="the reference")
    return RobertaModel.from_hf_config(config, attention_backend=backend)


def load_like(model: ModelT, hf: transformers.PreTrainedModel) -> ModelT:
    state = deberta_state_from_hf(hf.state_dict(), num_attention_heads=hf.config.num_attention_heads)
    load_strict(model.to(hf.dtype), state, source="the reference", leave_behind=("head.decoder.",))
    return model.eval()


class _Wrapped(nn.Module):
    """Gives an encoder the prefix that whole models have."""

    def __init__(self, encoder: RobertaModel) -> None:
        super().__init__()
        self.encoder = encoder


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' model compute in float64 throughout; it rounds norms and scales to float32 itself."""

    class Norm(nn.LayerNorm):
        def __init__(self, size: int, eps: float) -> None:
            super().__init__(size, eps=eps)

    def scale(query: Tensor, factor: int) -> Tensor:
        return torch.sqrt(torch.tensor(query.size(-1) * factor, dtype=query.dtype))

    monkeypatch.setattr(modeling_deberta, "DebertaLayerNorm", Norm)
    monkeypatch.setattr(modeling_deberta, "scaled_size_sqrt", scale)


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
    encoder = load_like(_Wrapped(ours_like(hf, backend=backend)), hf).encoder
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


def make_deberta(**changes: object) -> RobertaModel:
    settings = {"attention_kind": "disentangled", "max_relative_positions": 6} | changes
    return spread_weights(make_encoder(**settings)).eval()


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


@pytest.mark.parametrize("tied", [True, False])
def test_masked_lm_goes_out_and_comes_in(tied: bool, tmp_path: Path) -> None:
    ours = spread_weights(RobertaForMaskedLM(make_deberta(), tie_weights=tied)).eval()
    ours.to_hf(tmp_path)
    theirs, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    ids, mask = make_batch("right")
    expected = ours(ids, mask)["logits"]
    logits = theirs.eval()(input_ids=ids, attention_mask=(~mask).long()).logits
    assert relative_error(logits[~mask], expected[~mask]) < 1e-5
    back = RobertaForMaskedLM.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], expected)


def test_the_newer_layout_of_the_masked_lm_head_comes_in(tmp_path: Path) -> None:
    hf = make_hf_deberta("DebertaForMaskedLM", legacy=False)
    hf.save_pretrained(tmp_path)
    ids, mask = make_batch("right")
    found = RobertaForMaskedLM.from_hf(tmp_path).eval()(ids, mask)["logits"]
    expected = hf(input_ids=ids, attention_mask=(~mask).long()).logits
    assert relative_error(found[~mask], expected[~mask]) < 1e-5


@pytest.mark.parametrize("kind", ["DebertaModel", "DebertaForSequenceClassification"])
def test_folders_go_out_and_come_in(kind: str, tmp_path: Path) -> None:
    model: RobertaModel | RobertaForSequenceClassification = make_deberta(layer_norm_eps=1e-3)
    if kind != "DebertaModel":
        model = spread_weights(RobertaForSequenceClassification(model, num_labels=3)).eval()
    model.to_hf(tmp_path)
    theirs, info = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    ids, mask = make_batch("right")
    out = theirs.eval()(input_ids=ids, attention_mask=(~mask).long())
    key = "logits" if "logits" in out else "last_hidden_state"
    expected = model(ids, mask)[key].detach()
    real = slice(None) if key == "logits" else ~mask
    assert relative_error(out[key][real], expected[real]) < 1e-5
    back = type(model).from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)[key], expected)

    theirs.save_pretrained(tmp_path / "theirs")
    back = type(model).from_hf(tmp_path / "theirs").eval()
    assert torch.equal(back(ids, mask)[key], expected)


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_a_head_that_hf_has_no_class_for_lies_beside(pooling: str, tmp_path: Path) -> None:
    ours = spread_weights(
        HierarchicalRobertaForClassification(make_deberta(), num_labels=3, pooling=pooling)
    ).eval()
    ours.to_hf(tmp_path)
    _, info = transformers.DebertaModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    ids, mask = make_batch("right", batch=6, length=8)
    ids, mask = ids.view(2, 3, 8), mask.view(2, 3, 8)
    back = HierarchicalRobertaForClassification.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], ours(ids, mask)["logits"])


@pytest.mark.parametrize(
    "changes",
    [
        {"relative_attention": False},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": "p2c"},
        {"pos_att_type": [1, None]},
        {"position_biased_input": True},
        {"type_vocab_size": 2},
        {"max_relative_positions": 10**12},
        {"max_relative_positions": "8"},
        {"model_type": None},
        {"model_type": ["deberta"]},
    ],
    ids=str,
)
def test_another_deberta_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    make_deberta().to_hf(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=next(iter(changes)) if len(str(changes)) < 40 else "disagree|cannot"
    ):
        RobertaModel.from_hf(tmp_path)


def test_the_published_spelling_of_the_config_is_read() -> None:
    published = {
        "model_type": "deberta",
        "vocab_size": 50265,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "pos_att_type": "c2p|p2c",
        "layer_norm_eps": 1e-7,
        "max_relative_positions": -1,
        "position_biased_input": False,
        "padding_idx": 0,
        "type_vocab_size": 0,
    }
    config = parse_hf_config(published, where="deberta-base")
    assert (config.max_relative_positions, config.pad_token_id, config.layer_norm_eps) == (512, 0, 1e-7)
    assert config.max_position_embeddings - config.pad_token_id - 1 == 512


def test_the_mask_decoder_moves_logits_and_not_encoder_states() -> None:
    model = spread_weights(RobertaForMaskedLM(make_deberta(), enhanced_mask_decoder=True)).eval()
    ids, mask = make_batch("inside")
    states, logits = model.encoder(ids, mask)["last_hidden_state"], model(ids, mask)["logits"]
    plain = RobertaForMaskedLM(model.encoder)
    plain.head = model.head
    assert relative_error(plain(ids, mask)["logits"], logits) > 1e-2
    assert model.mask_decoder is not None
    with torch.no_grad():  # absolute places move the logits alone
        model.mask_decoder.position_embeddings.weight[PAD + 2] += 1.0
    assert torch.equal(model.encoder(ids, mask)["last_hidden_state"], states)
    assert relative_error(model(ids, mask)["logits"], logits) > 1e-2


def test_the_mask_decoder_is_the_last_layer_twice() -> None:
    """Against the same written out for one sequence, without packing, from transformers' own layer."""
    hf = make_hf_deberta("DebertaModel")
    model = RobertaForMaskedLM(ours_like(hf), enhanced_mask_decoder=True)
    load_strict(
        model.encoder,
        load_like(_Wrapped(ours_like(hf)), hf).encoder.state_dict(),
        source="the reference",
    )
    model.eval()
    assert model.mask_decoder is not None
    spread_weights(model.mask_decoder)
    ids, mask = make_batch("none", batch=1, length=7)
    hidden = hf(input_ids=ids, output_hidden_states=True).hidden_states[-2]
    places = model.mask_decoder.position_embeddings.weight[PAD + 1 : PAD + 8]
    layer = hf.encoder.layer[-1]
    queries = hidden + places
    for _ in range(2):
        queries = _layer_with_queries(layer, hidden, queries, hf.encoder.rel_embeddings.weight)
    found = model.encoder.encode(ids, mask, mask_decoder=model.mask_decoder)
    assert relative_error(found, queries[0]) < 1e-5


def _layer_with_queries(layer: nn.Module, hidden: Tensor, queries: Tensor, table: Tensor) -> Tensor:
    """Run a layer of transformers whose queries are not its keys, with loops over queries, keys and heads."""
    attention = layer.attention.self
    heads, head_dim = attention.num_attention_heads, attention.attention_head_size
    length, span = hidden.shape[1], table.shape[0] // 2
    context = torch.zeros_like(queries)
    for head in range(heads):
        rows = attention.in_proj.weight[3 * head * head_dim : 3 * (head + 1) * head_dim]
        weight_q, weight_k, weight_v = rows.chunk(3)
        part = slice(head * head_dim, (head + 1) * head_dim)
        q = queries[0] @ weight_q.T + attention.q_bias[part]
        k = hidden[0] @ weight_k.T
        v = hidden[0] @ weight_v.T + attention.v_bias[part]
        position_k = table @ attention.pos_proj.weight[part].T
        position_q = table @ attention.pos_q_proj.weight[part].T + attention.pos_q_proj.bias[part]
        for i in range(length):
            scores = []
            for j in range(length):
                row = min(max(i - j + span, 0), 2 * span - 1)
                score = q[i] @ k[j] + q[i] @ position_k[row] + k[j] @ position_q[row]
                scores.append(score / (3 * head_dim) ** 0.5)
            context[0, i, part] = torch.stack(scores).softmax(dim=0) @ v
    output = layer.attention.output(context, queries)
    return layer.output(layer.intermediate(output), output)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_masked_loss_is_that_of_all_positions(checkpointing: bool) -> None:
    encoder = make_deberta(use_gradient_checkpointing=checkpointing)
    model = spread_weights(RobertaForMaskedLM(encoder, enhanced_mask_decoder=True)).eval()
    ids, mask = make_batch("inside")
    labels = make_labels(mask)
    mean = model(ids, mask, labels)["loss"]
    loss_sum = model.masked_loss(ids, mask, labels)
    assert relative_error(loss_sum / (labels != -100).sum(), mean) < 1e-5
    loss_sum.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unused


def test_the_mask_decoder_stays_behind_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = RobertaForMaskedLM(make_deberta(), enhanced_mask_decoder=True).eval()
    with caplog.at_level(logging.WARNING):
        model.to_hf(tmp_path)
    assert "mask decoder is left out" in caplog.text
    theirs, info = transformers.DebertaForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    ids, mask = make_batch("right")
    states = theirs.eval().deberta(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
    assert relative_error(states[~mask], model.encoder(ids, mask)["last_hidden_state"][~mask]) < 1e-5


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
