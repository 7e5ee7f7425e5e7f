"""Names of tensors against Hugging Face's, and strict loading."""

from __future__ import annotations

import pytest
import torch
from model_cases import PAD, encoder_like, make_batch, make_encoder, make_hf, relative_error, spread_weights

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.loading import LoadReport, fit_encoder, load_encoder, load_strict
from textclf_transformer.model.pretrained import (
    POSITIONS,
    TOKEN_TYPES,
    roberta_state_from_hf,
    roberta_state_to_hf,
)


@pytest.mark.parametrize("kind", ["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"])
def test_out_and_in_again_gives_every_tensor_back(kind: str) -> None:
    theirs = make_hf(kind).state_dict()
    prefix = "" if kind == "RobertaModel" else "roberta."
    theirs = {name: t for name, t in theirs.items() if not name.startswith(("pooler.", "lm_head.decoder."))}
    back = roberta_state_to_hf(roberta_state_from_hf(theirs, pad_token_id=PAD), encoder_prefix=prefix)
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if name == prefix + TOKEN_TYPES:
            assert not back[name].any()
        elif name == prefix + POSITIONS:
            assert torch.equal(back[name][: PAD + 1], tensor[: PAD + 1])
            assert torch.equal(back[name][PAD + 1 :], tensor[PAD + 1 :] + theirs[prefix + TOKEN_TYPES][0])
        else:
            assert torch.equal(back[name], tensor), name


def test_the_source_is_not_changed_and_memory_is_not_shared() -> None:
    theirs = make_hf("RobertaModel").state_dict()
    before = {name: tensor.clone() for name, tensor in theirs.items()}
    ours = roberta_state_from_hf(theirs, pad_token_id=PAD)
    assert all(torch.equal(theirs[name], before[name]) for name in theirs)
    ours.pop("pooler.dense.weight"), ours.pop("pooler.dense.bias")
    out = roberta_state_to_hf(ours, encoder_prefix="")
    pointers = [tensor.untyped_storage().data_ptr() for tensor in out.values()]
    assert len(set(pointers)) == len(pointers)


def test_half_precision_positions_are_added_up_in_float32() -> None:
    theirs = {name: tensor.half() for name, tensor in make_hf("RobertaModel").state_dict().items()}
    positions = roberta_state_from_hf(theirs, pad_token_id=PAD)["encoder." + POSITIONS]
    assert positions.dtype == torch.float32
    assert torch.equal(positions[5], theirs[POSITIONS][5].float() + theirs[TOKEN_TYPES][0].float())


def test_a_text_alone_is_the_first_segment() -> None:
    hf = make_hf("RobertaModel", type_vocab_size=2)  # as transformers makes them where nothing is said
    ours = encoder_like(hf)
    load_encoder(ours, roberta_state_from_hf(hf.state_dict(), pad_token_id=PAD), source="theirs")
    ids, mask = make_batch("right")
    expected = hf(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
    assert relative_error(ours.eval()(ids, mask)["last_hidden_state"][~mask], expected[~mask]) < 1e-5


def test_torn_attention_is_refused() -> None:
    theirs = make_hf("RobertaModel").state_dict()
    del theirs["encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(CheckpointError, match=r"attention\.self\.key is missing"):
        roberta_state_from_hf(theirs, pad_token_id=PAD)


def test_a_name_without_counterpart_is_an_error_on_the_way_out() -> None:
    with pytest.raises(KeyError, match="pooling"):
        roberta_state_to_hf({"pooling.score.weight": torch.zeros(1)}, encoder_prefix="")
    with pytest.raises(KeyError, match="extra"):
        roberta_state_to_hf({"encoder.layers.0.extra": torch.zeros(1)}, encoder_prefix="")


def test_strict_loading_counts_and_names_what_does_not_fit() -> None:
    source = spread_weights(make_encoder(seed=1)).state_dict()
    model = make_encoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    total = len(source)
    broken = dict(source)
    broken["layers.7.output.bias"] = broken.pop("layers.1.output.bias")
    with pytest.raises(CheckpointError) as caught:
        load_strict(model, broken, source="some/folder")
    assert f"some/folder; found {total - 1} matched, 1 missing (layers.1.output.bias)" in str(caught.value)
    assert "1 unexpected (layers.7.output.bias)" in str(caught.value)
    for case, message in ((source | {"extra": torch.zeros(1)}, "0 missing, 1 unexpected"), ({}, "0 matched")):
        with pytest.raises(CheckpointError, match=message):
            load_strict(model, case, source="x")
    wrong_shape = source | {"embeddings.norm.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"embeddings\.norm\.bias.*\(5,\).*\(24,\)"):
        load_strict(model, wrong_shape, source="x")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), (
        "partly loaded"
    )


def test_strict_loading_lists_what_is_new_and_left_behind() -> None:
    source = spread_weights(RobertaForMaskedLM(make_encoder(seed=1))).state_dict()
    encoder = make_encoder()
    report = load_encoder(encoder, source, source="run")
    assert report.matched == len(encoder.state_dict())
    assert report.left_behind == (
        "head.bias",
        "head.dense.bias",
        "head.dense.weight",
        "head.norm.bias",
        "head.norm.weight",
    )
    assert torch.equal(encoder.layers[1].output.weight, source["encoder.layers.1.output.weight"])

    model = RobertaForMaskedLM(make_encoder())
    only_encoder = {name: tensor for name, tensor in source.items() if name.startswith("encoder.")}
    with pytest.raises(CheckpointError, match="5 missing"):
        load_strict(model, only_encoder, source="run")
    fresh = load_strict(model, only_encoder, source="run", new=("head.",))
    assert fresh.new == report.left_behind
    assert torch.equal(model.encoder.layers[1].output.weight, source["encoder.layers.1.output.weight"])
    assert "newly initialised: head.bias" in str(fresh)


def test_an_encoder_that_is_not_there_is_never_left_random() -> None:
    renamed = {"model." + name: tensor for name, tensor in make_encoder().state_dict().items()}
    with pytest.raises(CheckpointError, match="0 matched"):
        load_encoder(make_encoder(), renamed, source="x")


@pytest.mark.parametrize("kind", ["RobertaModel", "RobertaForMaskedLM"])
def test_what_an_encoder_has_too_much_is_no_head(kind: str) -> None:
    prefix = "" if kind == "RobertaModel" else "roberta."
    theirs = {**make_hf(kind).state_dict(), prefix + "adapter.weight": torch.zeros(1)}
    state = roberta_state_from_hf(theirs, pad_token_id=PAD)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(adapter\.weight\)"):
        load_encoder(make_encoder(), state, source="x")
    del state["encoder.adapter.weight"]
    assert load_encoder(make_encoder(), state | {"qa_outputs.bias": torch.zeros(2)}, source="x").left_behind


def test_a_fit_is_checked_without_memory_and_loads_nothing() -> None:
    source = spread_weights(RobertaForMaskedLM(make_encoder(seed=1))).state_dict()
    with torch.device("meta"):
        encoder = make_encoder()
    report = fit_encoder(encoder, source, source="run")
    assert report == load_encoder(make_encoder(), source, source="run")
    assert all(parameter.is_meta for parameter in encoder.parameters())
    del source["encoder.embeddings.norm.bias"]
    with pytest.raises(CheckpointError, match="1 missing"):
        fit_encoder(encoder, source, source="run")


def test_report_reads_as_one_line() -> None:
    report = LoadReport("folder", 3, left_behind=("head.bias",))
    assert str(report) == "folder: 3 tensors matched, 0 missing, 0 unexpected; left behind: head.bias"
