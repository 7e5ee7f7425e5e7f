"""Whole folders, both ways, without a missing or unexpected key; bad folders."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from model_cases import PAD, make_batch, make_encoder, make_hf, relative_error, spread_weights
from test_disentangled import make_hf_deberta
from torch import Tensor

from textclf_transformer.errors import CheckpointError, UsageError, UserError
from textclf_transformer.model.classifier_heads import SequenceHead
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hf_config import parse_hf_config
from textclf_transformer.model.hf_encoder import hf_settings
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.pretrained import POSITIONS, TOKEN_TYPES
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

NAMES = ("no", "NA", "ünique")


def theirs_of(folder: Path, kind: str, **options: object) -> transformers.PreTrainedModel:
    """Load with transformers; no key may be missing, unexpected or of another shape."""
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model.eval()


def run_theirs(model: transformers.PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    out = model(input_ids=ids, attention_mask=(~mask).long())
    return out["logits"] if "logits" in out else out["last_hidden_state"]


def test_encoder_out_and_in(tmp_path: Path) -> None:
    ours = spread_weights(make_encoder(attention_probs_dropout_prob=0.05, embedding_dropout_prob=0.3)).eval()
    ours.to_hf(tmp_path / "a b")
    ids, mask = make_batch("left")
    expected = ours(ids, mask)["last_hidden_state"]
    theirs = theirs_of(tmp_path / "a b", "RobertaModel", add_pooling_layer=False)
    assert relative_error(run_theirs(theirs, ids, mask)[~mask], expected[~mask]) < 1e-5
    assert theirs.config.attention_probs_dropout_prob == 0.05

    back = RobertaModel.from_hf(str(tmp_path / "a b")).eval()
    assert torch.equal(back(ids, mask)["last_hidden_state"], expected)
    assert hf_settings(back) == hf_settings(ours)
    assert back.embeddings.dropout.p == 0.3


@pytest.mark.parametrize("family", ["XLMRoberta", "Camembert"])
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForSequenceClassification"])
def test_robertas_that_have_another_name(kind: str, family: str, tmp_path: Path) -> None:
    theirs = make_hf(family + kind, family=family)
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


def test_auto_model_misses_nothing_but_its_own_pooler(tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    _, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("tied", [True, False])
def test_masked_lm_out_and_in(tied: bool, tmp_path: Path) -> None:
    ours = spread_weights(RobertaForMaskedLM(make_encoder(), tie_weights=tied)).eval()
    ours.to_hf(tmp_path)
    ids, mask = make_batch("inside")
    expected = ours(ids, mask)["logits"]
    theirs = theirs_of(tmp_path, "AutoModelForMaskedLM")
    assert relative_error(run_theirs(theirs, ids, mask)[~mask], expected[~mask]) < 1e-5
    back = RobertaForMaskedLM.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], expected)
    assert (back.head.decoder is None) == tied


def test_sequence_classification_out_and_in(tmp_path: Path) -> None:
    model = RobertaForSequenceClassification(make_encoder(), num_labels=3, classifier_dropout=0.25)
    ours = spread_weights(model).eval()
    ours.to_hf(tmp_path, label_names=NAMES)
    ids, mask = make_batch("right")
    expected = ours(ids, mask)["logits"]
    theirs = theirs_of(tmp_path, "AutoModelForSequenceClassification")
    assert relative_error(run_theirs(theirs, ids, mask), expected) < 1e-5
    assert theirs.config.id2label == dict(enumerate(NAMES))
    back = RobertaForSequenceClassification.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], expected)
    assert back.classifier.dropout.p == 0.25


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_sequence_classification_that_hf_has_no_class_for(pooling: str, tmp_path: Path) -> None:
    ours = spread_weights(
        RobertaForSequenceClassification(make_encoder(), num_labels=3, pooling=pooling)
    ).eval()
    ours.to_hf(tmp_path, label_names=NAMES)
    ids, mask = make_batch("right")
    theirs = theirs_of(tmp_path, "RobertaModel", add_pooling_layer=False)
    hidden = ours.encoder(ids, mask)["last_hidden_state"]
    assert relative_error(run_theirs(theirs, ids, mask)[~mask], hidden[~mask]) < 1e-5
    back = RobertaForSequenceClassification.from_hf(tmp_path).eval()
    assert torch.equal(back(ids, mask)["logits"], ours(ids, mask)["logits"])


@pytest.mark.parametrize(
    ("pooling", "token_pooling"), [*((pooling, "cls") for pooling in POOLINGS), ("attention", "mean")]
)
def test_hierarchical_out_and_in(pooling: str, token_pooling: str, tmp_path: Path) -> None:
    ours = HierarchicalRobertaForClassification(
        make_encoder(),
        num_labels=3,
        pooling=pooling,
        token_pooling=token_pooling,
        attention_heads=3,
        max_chunks=6,
        chunk_position_embeddings=pooling in POSITIONED_POOLINGS,
    )
    spread_weights(ours).eval()
    ours.to_hf(tmp_path, label_names=NAMES)
    ids, mask = make_batch("right")
    counts = torch.tensor([3, 1])
    back = HierarchicalRobertaForClassification.from_hf(tmp_path).eval()
    assert torch.equal(
        back.classify_chunks(ids, mask, counts)["logits"], ours.classify_chunks(ids, mask, counts)["logits"]
    )
    assert back.settings == ours.settings
    theirs = theirs_of(tmp_path, "RobertaModel", add_pooling_layer=False)
    hidden = ours.encoder(ids, mask)["last_hidden_state"]
    assert relative_error(run_theirs(theirs, ids, mask)[~mask], hidden[~mask]) < 1e-5


@pytest.mark.parametrize("kind", ["encoder", "masked LM", "sequence", "hierarchical"])
def test_numbers_of_numpy_go_out_and_in(kind: str, tmp_path: Path) -> None:
    """A notebook counts labels and sizes with numpy."""
    sizes = {"hidden_size": np.int64(24), "num_attention_heads": np.int32(3), "pad_token_id": np.int64(PAD)}
    encoder = make_encoder(**sizes, hidden_dropout_prob=np.float32(0.25))
    ours: RobertaModel | RobertaForMaskedLM | EncoderClassifier = encoder
    if kind == "masked LM":
        ours = RobertaForMaskedLM(encoder)
    elif kind == "sequence":
        ours = RobertaForSequenceClassification(encoder, num_labels=np.int64(3))
    elif kind == "hierarchical":
        ours = HierarchicalRobertaForClassification(
            encoder, num_labels=np.int64(3), max_chunks=np.int64(4), attention_dropout=np.float32(0.25)
        )
    ours.to_hf(tmp_path)
    back = type(ours).from_hf(tmp_path)
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in back.state_dict().items())
    if isinstance(ours, EncoderClassifier):
        assert back.settings == ours.settings and back.num_labels == 3


@pytest.mark.parametrize("unknown_then", [1, 2, 3])
def test_a_head_of_an_older_version_is_the_same_without_the_settings_to_come(
    unknown_then: int, tmp_path: Path
) -> None:
    ours = spread_weights(HierarchicalRobertaForClassification(make_encoder(), num_labels=3)).eval()
    ours.to_hf(tmp_path)
    head_file = tmp_path / "head.json"
    head = json.loads(head_file.read_text(encoding="utf-8"))
    for name in ("token_pooling", "classifier_kind", "ordinal")[:unknown_then]:  # the latest first
        del head["settings"][name]
    head_file.write_text(json.dumps(head), encoding="utf-8")
    ids, mask = make_batch("right")
    counts = torch.tensor([3, 1])
    back = HierarchicalRobertaForClassification.from_hf(tmp_path).eval()
    logits = ours.classify_chunks(ids, mask, counts)["logits"]
    assert torch.equal(back.classify_chunks(ids, mask, counts)["logits"], logits)


def test_hierarchical_with_hugging_faces_head_out_and_in(tmp_path: Path) -> None:
    ours = HierarchicalRobertaForClassification(
        make_encoder(), num_labels=3, pooling="cls", classifier_kind="huggingface"
    )
    spread_weights(ours).eval()
    ours.to_hf(tmp_path)
    ids, mask = make_batch("right")
    counts = torch.tensor([3, 1])
    back = HierarchicalRobertaForClassification.from_hf(tmp_path).eval()
    logits = ours.classify_chunks(ids, mask, counts)["logits"]
    assert torch.equal(back.classify_chunks(ids, mask, counts)["logits"], logits)
    # the head on the first chunk of each document is that of the classifier of one sequence
    alone = RobertaForSequenceClassification(ours.encoder, num_labels=3).eval()
    assert isinstance(ours.classifier, SequenceHead)
    alone.classifier = ours.classifier
    assert relative_error(logits, alone(ids[[0, 3]], mask[[0, 3]])["logits"]) < 1e-5


def test_hugging_faces_head_stands_on_the_first_chunk_alone() -> None:
    for settings in (
        {"pooling": "mean"},
        {"pooling": "cls", "token_pooling": "mean"},
        {"pooling": "cls", "ordinal": True},
    ):
        with pytest.raises(ValueError, match="needs pooling cls"):
            HierarchicalRobertaForClassification(
                make_encoder(), num_labels=3, classifier_kind="huggingface", **settings
            )
    with pytest.raises(ValueError, match="unknown classifier"):
        HierarchicalRobertaForClassification(make_encoder(), num_labels=3, classifier_kind="deep")


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


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="already"):
        RobertaForMaskedLM(make_encoder(seed=1)).to_hf(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_label_names_must_fit(tmp_path: Path) -> None:
    model = RobertaForSequenceClassification(make_encoder(), num_labels=3)
    for names in (["a", "b"], ["a", "b", "b"], ["a", "b", "c", "c"]):
        with pytest.raises(ValueError, match="3 label names"):
            model.to_hf(tmp_path / "out", label_names=names)
    assert not (tmp_path / "out").exists()


BAD_CONFIGS = {
    "another model": {"model_type": "gpt2"},
    "another activation": {"hidden_act": "relu"},
    "relative positions": {"position_embedding_type": "relative_key"},
    "a decoder": {"is_decoder": True},
    "text for a number": {"hidden_size": "24"},
    "true for a number": {"num_hidden_layers": True},
    "absurd vocabulary": {"vocab_size": 10**13},
    "absurd depth": {"num_hidden_layers": 10**9},
    "absurd width": {"intermediate_size": 10**13},
    "absurd positions": {"max_position_embeddings": 10**13},
    "negative": {"num_attention_heads": -3},
    "heads that do not divide": {"num_attention_heads": 5},
    "pad outside": {"pad_token_id": 59},
    "dropout 1": {"hidden_dropout_prob": 1.0},
    "eps NaN": {"layer_norm_eps": float("nan")},
    "tie": {"tie_word_embeddings": "yes"},
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_config_that_does_not_fit_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | BAD_CONFIGS[case]), encoding="utf-8"
    )
    with pytest.raises(CheckpointError) as caught:
        RobertaModel.from_hf(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_faults_the_same_is_named_in_every_process() -> None:
    wrong = {
        "hidden_act": "relu",
        "position_embedding_type": "relative_key",
        "is_decoder": True,
        "add_cross_attention": True,
    }
    while wrong:
        with pytest.raises(CheckpointError, match=f"with this {next(iter(wrong))} cannot"):
            parse_hf_config({"model_type": "roberta", **wrong}, where="config.json")
        wrong.pop(next(iter(wrong)))


def edit_tensors(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Put other tensors into model.safetensors; None takes one out."""
    tensors = {**safetensors.torch.load_file(folder / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    safetensors.torch.save_file(kept, folder / "model.safetensors")


def test_a_model_is_not_built_larger_than_its_tensors(tmp_path: Path) -> None:
    """Neither layers that one tensor claims alone nor products that no tensor has."""
    layer = "encoder.layer.{}.intermediate.dense.weight"
    make_encoder().to_hf(tmp_path / "deep")
    path = tmp_path / "deep" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"num_hidden_layers": 3000}
    path.write_text(json.dumps(config), encoding="utf-8")
    edit_tensors(tmp_path / "deep", {layer.format(2999): torch.zeros(40, 24)})
    with pytest.raises(CheckpointError, match=r"disagree about layers\.2\.attention.*no such tensor"):
        RobertaModel.from_hf(tmp_path / "deep")
    make_encoder().to_hf(tmp_path / "wide")
    parts = ("query", "key", "value")
    absent = {f"encoder.layer.1.attention.self.{part}.weight": None for part in parts}
    edit_tensors(tmp_path / "wide", absent)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"disagree about layers\.1\.attention.*expected \(72, 24\)"):
        RobertaModel.from_hf(tmp_path / "wide")


BAD_TENSORS = {
    "a key of another width": ("encoder.layer.0.attention.self.key.weight", (24, 3)),
    "a key without a shape": ("encoder.layer.0.attention.self.key.bias", ()),
    "token types without a shape": (TOKEN_TYPES, ()),
    "token types of another width": (TOKEN_TYPES, (1, 7)),
    "token types of width 1": (TOKEN_TYPES, (1, 1)),
    "token types as a row": (TOKEN_TYPES, (1,)),
    "positions without a shape": (POSITIONS, ()),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_cannot_be_put_together_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    name, shape = BAD_TENSORS[case]
    edit_tensors(tmp_path, {name: torch.zeros(shape)})
    with pytest.raises(CheckpointError) as caught:
        RobertaModel.from_hf(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_quantised_weights_are_not_taken_for_weights(tmp_path: Path) -> None:
    """Copied into float32, integers from -128 to 127 would be a model like any other."""
    make_encoder().to_hf(tmp_path)
    name = "encoder.layer.0.output.dense.weight"
    edit_tensors(tmp_path, {name: torch.ones(24, 40, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"another kind.*found torch\.int8, expected torch\.float32"):
        RobertaModel.from_hf(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder.layer.0.attention.self.key.weight": None}, "self.key is missing beside the other parts"),
        ({TOKEN_TYPES: torch.zeros(0, 24)}, "no row in token_type_embeddings"),
    ],
)
def test_tensors_of_another_model_are_named_with_their_folder(
    changes: dict[str, Tensor | None], words: str, tmp_path: Path
) -> None:
    make_encoder().to_hf(tmp_path)
    edit_tensors(tmp_path, changes)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=words) as caught:
        RobertaModel.from_hf(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_head_without_a_shape_is_refused(tmp_path: Path) -> None:
    RobertaForSequenceClassification(make_encoder(), num_labels=3).to_hf(tmp_path)
    edit_tensors(tmp_path, {"classifier.out_proj.bias": torch.zeros(())})
    with pytest.raises(CheckpointError, match="another shape"):
        RobertaForSequenceClassification.from_hf(tmp_path)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff", b"[" * 100_000, b'"' + b"x" * 10_000_001], ids=range(5)
)
def test_a_config_that_is_no_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        CheckpointError, match="too large" if len(content) > 10_000_000 else r"JSON.*config\.json"
    ):
        RobertaModel.from_hf(tmp_path)


def test_the_head_is_compared_with_its_settings_before_memory_is_taken(tmp_path: Path) -> None:
    HierarchicalRobertaForClassification(make_encoder(), num_labels=3).to_hf(tmp_path)
    path = tmp_path / "head.json"
    path.write_text(path.read_text(encoding="utf-8").replace("256", str(10**13)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"another shape.*\(256,\).*\(10000000000000,\)"):
        HierarchicalRobertaForClassification.from_hf(tmp_path)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        RobertaModel.from_hf(tmp_path / "nowhere")
    make_encoder().to_hf(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[: len(content) // 2], content[:4], b"", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*"):
            RobertaModel.from_hf(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        RobertaModel.from_hf(tmp_path)
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no tensors by name"):
        RobertaModel.from_hf(tmp_path)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    make_encoder().to_hf(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        RobertaModel.from_hf(tmp_path)
    assert not (tmp_path / "ran").exists()


BAD_HEADS = {
    "another class": {"model": "RobertaForSequenceClassification"},
    "no settings": {"settings": None},
    "absurd width": {"attention_hidden_size": 10**13},
    "negative width": {"attention_hidden_size": -4},
    "another width": {"attention_hidden_size": 7},
    "unknown pooling": {"pooling": "os.system"},
    "a surplus key": {"encoder": 1},
    "a wrong type": {"num_labels": 3.0},
    "true for a number": {"max_chunks": True},
    "no heads": {"pooling": "multihead", "attention_heads": 0},
    "no heads over layers": {"pooling": "transformer", "attention_heads": 0},
    "one label in an order": {"ordinal": True, "num_labels": 1},
    "absurd labels in an order": {"ordinal": True, "num_labels": 10**13},
    "more places than numbers": {"chunk_position_embeddings": True, "max_chunks": 10**30},
}


@pytest.mark.parametrize("case", BAD_HEADS)
def test_a_head_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    model = HierarchicalRobertaForClassification(make_encoder(), num_labels=3, attention_hidden_size=8)
    model.to_hf(tmp_path)
    path = tmp_path / "head.json"
    head = json.loads(path.read_text(encoding="utf-8"))
    changes = BAD_HEADS[case]
    head |= changes if changes.keys() <= head.keys() else {"settings": head["settings"] | changes}
    path.write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        HierarchicalRobertaForClassification.from_hf(tmp_path)
    assert isinstance(caught.value, CheckpointError)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, -0.5])
@pytest.mark.parametrize("pooling", ["transformer", "multihead", "mean"])
def test_a_dropout_that_is_none_is_refused(pooling: str, value: float, tmp_path: Path) -> None:
    model = HierarchicalRobertaForClassification(make_encoder(), num_labels=3, pooling=pooling)
    model.to_hf(tmp_path)
    path = tmp_path / "head.json"
    head = json.loads(path.read_text(encoding="utf-8"))
    head["settings"]["attention_dropout"] = value
    path.write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"head\.json; found"):
        HierarchicalRobertaForClassification.from_hf(tmp_path)
