"""Folders that transformers wrote: what is read, what is left behind, what is missing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch
from deberta_cases import make_hf_deberta
from folder_cases import run_theirs, theirs_of
from model_cases import PAD, make_batch, make_encoder, make_hf, relative_error

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pretrained import POSITIONS
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification


@pytest.mark.parametrize("family", ["XLMRoberta", "Camembert"])
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForSequenceClassification"])
def test_robertas_that_have_another_name(kind: str, family: str, tmp_path: Path) -> None:
    # transformers 5.0 has no such default for CamemBERT
    theirs = make_hf(family + kind, family=family, tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path / "theirs")
    ours_of = {"Model": RobertaModel, "ForMaskedLM": RobertaForMaskedLM}.get(
        kind, RobertaForSequenceClassification
    )
    ours = ours_of.from_hf(tmp_path / "theirs").eval()
    ids, mask = make_batch("right")
    rows = ... if kind == "ForSequenceClassification" else ~mask
    expected = run_theirs(theirs, ids, mask)[rows]
    out = ours(ids, mask)
    assert relative_error(out[next(iter(out))][rows], expected) < 1e-5
    ours.to_hf(tmp_path / "again")  # as a RoBERTa, which computes the same
    again = theirs_of(
        tmp_path / "again", "Roberta" + kind, **({"add_pooling_layer": False} if kind == "Model" else {})
    )
    assert relative_error(run_theirs(again, ids, mask)[rows], expected) < 1e-5


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", ["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"])
def test_their_folders_load(
    kind: str, pickled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hf = make_hf(kind, pad_token_id=PAD)
    hf.save_pretrained(tmp_path)
    if pickled:  # as published in 2019, with a position buffer and the decoder twice
        state = dict(hf.state_dict())
        state["roberta.embeddings.position_ids"] = torch.arange(18).unsqueeze(0)
        torch.save({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    ids, mask = make_batch("right")
    with caplog.at_level(logging.INFO):
        ours = globals()[kind].from_hf(tmp_path).eval()
        encoder = RobertaModel.from_hf(tmp_path).eval()
    found = ours(ids, mask)
    found = found["logits"] if "logits" in found else found["last_hidden_state"]
    expected = run_theirs(hf, ids, mask)
    if expected.dim() == 3:
        found, expected = found[~mask], expected[~mask]
    assert relative_error(found, expected) < 1e-5
    hidden = encoder(ids, mask)["last_hidden_state"]
    their_hidden = (hf if kind == "RobertaModel" else hf.roberta)(ids, (~mask).long()).last_hidden_state
    assert relative_error(hidden[~mask], their_hidden[~mask]) < 1e-5
    left = {"RobertaModel": "pooler.dense.weight", "RobertaForMaskedLM": "head.bias"}.get(
        kind, "classifier.dense.bias"
    )
    counted = f"{len(encoder.state_dict())} tensors matched, 0 missing, 0 unexpected; left behind: "
    assert counted in caplog.records[-1].getMessage()
    assert left in caplog.records[-1].getMessage()


@pytest.mark.parametrize("family", ["roberta", "deberta"])
def test_the_old_names_of_norms_are_read_as_transformers_reads_them(family: str, tmp_path: Path) -> None:
    deberta = make_hf_deberta("DebertaModel")
    hf = (make_hf("RobertaModel", pad_token_id=PAD) if family == "roberta" else deberta).eval()
    hf.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ids, mask = make_batch("right")
    expected = run_theirs(type(hf).from_pretrained(tmp_path).eval(), ids, mask)
    assert relative_error(expected[~mask], run_theirs(hf, ids, mask)[~mask]) < 1e-5
    found = RobertaModel.from_hf(tmp_path).eval()(ids, mask)["last_hidden_state"]
    assert relative_error(found[~mask], expected[~mask]) < 1e-5


def test_a_head_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    with pytest.raises(CheckpointError, match="5 missing"):
        RobertaForMaskedLM.from_hf(tmp_path)
    with pytest.raises(CheckpointError, match="4 missing"):
        RobertaForSequenceClassification.from_hf(tmp_path)
    with pytest.raises(CheckpointError, match=r"no head\.json"):
        HierarchicalRobertaForClassification.from_hf(tmp_path)


@pytest.mark.parametrize("family", ["roberta", "deberta"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_projection_of_its_own_has_a_bias_of_its_own(tied: bool, family: str, tmp_path: Path) -> None:
    """Without tied weights transformers has two biases, lm_head.bias and lm_head.decoder.bias."""
    maker = make_hf if family == "roberta" else make_hf_deberta
    hf = maker(f"{family.capitalize()}ForMaskedLM", tie_word_embeddings=tied)
    hf.save_pretrained(tmp_path)
    ids, mask = make_batch("right")
    found = RobertaForMaskedLM.from_hf(tmp_path).eval()(ids, mask)["logits"]
    assert relative_error(found[~mask], run_theirs(hf, ids, mask)[~mask]) < 1e-5
    assert "head.decoder.bias" not in RobertaForMaskedLM.from_hf(tmp_path).state_dict()


# (what the folder holds, what is asked of it): the encoder is there, the head is another.
@pytest.mark.parametrize(
    ("kind", "model", "missing", "unexpected"),
    [
        ("RobertaForSequenceClassification", RobertaForMaskedLM, 5, 4),
        ("RobertaForMaskedLM", RobertaForSequenceClassification, 4, 5),
        ("RobertaForTokenClassification", RobertaForSequenceClassification, 4, 2),
        ("RobertaForTokenClassification", RobertaForMaskedLM, 5, 2),
    ],
)
def test_another_head_is_an_error_and_an_encoder_leaves_it_behind(
    kind: str,
    model: type[RobertaForMaskedLM] | type[RobertaForSequenceClassification],
    missing: int,
    unexpected: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_hf(kind).save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=rf" matched, {missing} missing \(.*, {unexpected} unexpected \("
    ):
        model.from_hf(tmp_path)
    with caplog.at_level(logging.INFO):
        RobertaModel.from_hf(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records if "left behind" in record.getMessage()]
    assert line.partition("left behind: ")[2].count(",") == unexpected - 1


@pytest.mark.parametrize("family", ["roberta", "deberta"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_tensor_of_the_encoder_that_ours_has_not_is_an_error(
    bare: bool, family: str, tmp_path: Path
) -> None:
    """What their encoder computes with it, ours would leave out in silence."""
    maker = make_hf if family == "roberta" else make_hf_deberta
    maker(family.capitalize() + ("Model" if bare else "ForMaskedLM")).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors[f"{'' if bare else family + '.'}embeddings.extra.weight"] = torch.zeros(2)
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"0 missing, 1 unexpected \(embeddings\.extra\.weight\)"):
        RobertaModel.from_hf(tmp_path)


def test_absolute_positions_of_a_deberta_are_left_behind_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, kind in enumerate(("DebertaModel", "DebertaForMaskedLM", "DebertaForSequenceClassification")):
        folder = tmp_path / str(number)
        make_hf_deberta(kind).save_pretrained(folder)
        state = safetensors.torch.load_file(folder / "model.safetensors")
        prefix = "" if kind == "DebertaModel" else "deberta."
        state[prefix + POSITIONS] = torch.zeros(16, 24)
        safetensors.torch.save_file(state, folder / "model.safetensors")
        caplog.clear()
        with caplog.at_level(logging.INFO):
            (RobertaModel, RobertaForMaskedLM, RobertaForSequenceClassification)[number].from_hf(folder)
        assert "left behind: embeddings.position_embeddings.weight" in caplog.text
