"""The decoder that tells a masked LM with disentangled attention where a masked token stands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import transformers
from deberta_cases import Wrapped, load_like, make_deberta, make_hf_deberta, ours_like
from model_cases import PAD, make_batch, make_labels, relative_error, spread_weights
from torch import Tensor, nn

from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.loading import load_strict


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
        load_like(Wrapped(ours_like(hf)), hf).encoder.state_dict(),
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
