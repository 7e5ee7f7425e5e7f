"""Hugging Face's BERT in our encoder: equal outputs, with and without heads; what does not fit."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from deberta_cases import make_hf_deberta
from folder_cases import edit_tensors, run_theirs, theirs_of
from model_cases import (
    HF_SHAPE,
    PAD,
    VOCAB,
    encoder_like,
    make_batch,
    make_hf,
    relative_error,
    spread_weights,
)

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.loading import load_encoder
from textclf_transformer.model.pretrained import POSITIONS, TOKEN_TYPES, WORDS
from textclf_transformer.model.pretrained_bert import bert_state_from_hf
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification


def make_hf_bert(kind: str, **changes: object) -> transformers.PreTrainedModel:
    """``kind``: "BertModel", "BertForMaskedLM" … of transformers, in evaluation mode."""
    settings = HF_SHAPE | {"layer_norm_eps": 1e-5, "attn_implementation": "eager"}
    config = transformers.BertConfig(**(settings | changes))
    return spread_weights(getattr(transformers, kind)(config)).eval()


@pytest.mark.parametrize("pad_token_id", [0, 3])
def test_the_encoder_equals_theirs(pad_token_id: int) -> None:
    """A text alone, of which BERT says that it is the first segment; PAD behind it."""
    theirs = make_hf_bert("BertModel", pad_token_id=pad_token_id).double()
    theirs.config.max_position_embeddings += pad_token_id + 1
    ours = encoder_like(theirs).double().eval()
    load_encoder(ours, bert_state_from_hf(theirs.state_dict(), pad_token_id=pad_token_id), source="theirs")
    ids, mask = make_batch("right")
    expected = run_theirs(theirs, ids, mask)
    assert relative_error(ours(ids, mask)["last_hidden_state"][~mask], expected[~mask]) < 1e-10
    longest = torch.randint(4, VOCAB, (1, 16))  # as many as there are positions
    none = torch.zeros_like(longest, dtype=torch.bool)
    assert ours.max_sequence_length == 16
    assert relative_error(ours(longest, none)["last_hidden_state"], run_theirs(theirs, longest, none)) < 1e-10


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_folders_of_encoders_and_out_again_as_roberta(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = make_hf_bert(kind)
    theirs.save_pretrained(tmp_path / "bert")
    ours = RobertaModel.from_hf(tmp_path / "bert").eval()
    assert "0 missing, 0 unexpected" in caplog.text
    assert ("pooler.dense.bias" in caplog.text) == (kind != "BertForMaskedLM")
    ids, mask = make_batch("right")
    base = theirs if kind == "BertModel" else theirs.bert
    expected = run_theirs(base, ids, mask)[~mask]
    assert relative_error(ours(ids, mask)["last_hidden_state"][~mask], expected) < 1e-5

    ours.to_hf(tmp_path / "roberta")
    again = theirs_of(tmp_path / "roberta", "RobertaModel", add_pooling_layer=False)
    assert relative_error(run_theirs(again, ids, mask)[~mask], expected) < 1e-5


@pytest.mark.parametrize(
    ("kind", "tied"), [("BertForMaskedLM", True), ("BertForMaskedLM", False), ("BertForPreTraining", True)]
)
def test_the_masked_lm_head_equals_theirs(
    kind: str, tied: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    theirs = make_hf_bert(kind, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path)
    ours = RobertaForMaskedLM.from_hf(tmp_path).eval()
    assert ("cls.seq_relationship.bias" in caplog.text) == (kind == "BertForPreTraining")
    ids, mask = make_batch("right")
    out = theirs(input_ids=ids, attention_mask=(~mask).long())
    expected = out["logits" if kind == "BertForMaskedLM" else "prediction_logits"]
    assert relative_error(ours(ids, mask)["logits"][~mask], expected[~mask]) < 1e-5


def test_the_classifier_equals_theirs(tmp_path: Path) -> None:
    theirs = make_hf_bert("BertForSequenceClassification", num_labels=3, classifier_dropout=0.2)
    theirs.save_pretrained(tmp_path / "bert")
    ours = RobertaForSequenceClassification.from_hf(tmp_path / "bert").eval()
    assert ours.num_labels == 3 and ours.settings["classifier_dropout"] == 0.2
    ids, mask = make_batch("right")
    expected = run_theirs(theirs, ids, mask)
    assert relative_error(ours(ids, mask)["logits"], expected) < 1e-5
    ours.to_hf(tmp_path / "roberta")
    again = theirs_of(tmp_path / "roberta", "RobertaForSequenceClassification")
    assert relative_error(run_theirs(again, ids, mask), expected) < 1e-5


def test_a_classifier_of_tokens_is_none_of_texts(tmp_path: Path) -> None:
    make_hf_bert("BertForTokenClassification").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"2 missing \(classifier\.dense"):
        RobertaForSequenceClassification.from_hf(tmp_path)


def test_old_names_of_the_norms_are_read(tmp_path: Path) -> None:
    """As bert-base-uncased has them."""
    theirs = make_hf_bert("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }
    safetensors.torch.save_file(old, tmp_path / "model.safetensors")
    ids, mask = make_batch("right")
    logits = RobertaForMaskedLM.from_hf(tmp_path).eval()(ids, mask)["logits"]
    assert relative_error(logits[~mask], run_theirs(theirs, ids, mask)[~mask]) < 1e-5


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (torch.zeros(VOCAB, 24), f"too few words for pad_token_id {10**12}.*found {VOCAB}"),
        (torch.zeros(10**13, 0), r"differ in width.*found \(16, 24\), expected as wide as \(1000"),
    ],
)
def test_a_small_file_cannot_ask_for_a_large_table(words: torch.Tensor, message: str, tmp_path: Path) -> None:
    """The rows that are put before BERT's positions are as many as the PAD id says."""
    make_hf_bert("BertModel").save_pretrained(tmp_path)
    edit_config(tmp_path, pad_token_id=10**12, vocab_size=10**13)
    edit_tensors(tmp_path, {WORDS: words})
    with pytest.raises(CheckpointError, match=message):
        RobertaModel.from_hf(tmp_path)


def test_fewer_positions_than_declared_are_counted_as_they_are_compared(tmp_path: Path) -> None:
    make_hf_bert("BertModel", pad_token_id=3).save_pretrained(tmp_path)
    edit_config(tmp_path, max_position_embeddings=512)
    with pytest.raises(
        CheckpointError, match=r"found \(20, 24\), expected \(516, 24\), each with the first 4"
    ):
        RobertaModel.from_hf(tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (WORDS, torch.tensor(1.0), "make no such model"),
        (WORDS, None, "there is no embeddings.word_embeddings.weight"),
        (POSITIONS, torch.tensor(1.0), "differ in width"),
        (POSITIONS, None, "there is no embeddings.position_embeddings.weight"),
        (TOKEN_TYPES, None, "there is no embeddings.token_type_embeddings.weight"),
        (TOKEN_TYPES, torch.zeros(0, 24), "no row in token_type_embeddings"),
        (TOKEN_TYPES, torch.zeros(2, 1), "do not fit the positions"),  # torch would spread it
        (TOKEN_TYPES, torch.zeros(2), "do not fit the positions"),
        (TOKEN_TYPES, torch.zeros(2, 24, dtype=torch.int8), "do not fit the positions"),
        (POSITIONS, torch.zeros(16, 24, dtype=torch.int8), "numbers of another kind"),
    ],
)
def test_tensors_that_make_no_bert_are_refused(
    name: str, tensor: torch.Tensor | None, words: str, tmp_path: Path
) -> None:
    make_hf_bert("BertModel").save_pretrained(tmp_path)
    edit_tensors(tmp_path, {name: tensor})
    with pytest.raises(CheckpointError, match=words) as caught:
        RobertaModel.from_hf(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("family", ["roberta", "bert", "deberta"])
@pytest.mark.parametrize("place", [0, -1])
def test_of_two_different_tensors_for_one_neither_is_taken(family: str, place: int, tmp_path: Path) -> None:
    """The last one would win in silence."""
    maker = {"roberta": make_hf, "bert": make_hf_bert, "deberta": make_hf_deberta}[family]
    maker(f"{family.capitalize()}ForMaskedLM", pad_token_id=PAD).save_pretrained(tmp_path)
    single = RobertaModel.from_hf(tmp_path).state_dict()
    weights = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    parts = ("embeddings.", "encoder.layer.0.attention.self.")
    inside = [name for name in tensors if name.startswith(tuple(f"{family}.{part}" for part in parts))]
    for name in inside:
        tensors[name.removeprefix(f"{family}.")] = tensors[name].clone()
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    doubled = RobertaModel.from_hf(tmp_path).state_dict()
    assert all(torch.equal(doubled[name], tensor) for name, tensor in single.items())

    name = sorted(inside)[place]
    tensors[name.removeprefix(f"{family}.")] += 1
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        RobertaModel.from_hf(tmp_path)
    (line,) = caught.value.lines
    assert f"found {name} and {name.removeprefix(f'{family}.')}; " in line and str(tmp_path) in line
