"""Folders of models with disentangled attention, out and in; a DeBERTa that ours cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from deberta_cases import make_deberta, make_hf_deberta
from model_cases import make_batch, relative_error, spread_weights

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hf_config import parse_hf_config
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification


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
