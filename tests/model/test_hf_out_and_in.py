"""Our models go out into whole folders and come in again, without a missing or unexpected key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from folder_cases import run_theirs, theirs_of
from model_cases import PAD, make_batch, make_encoder, relative_error, spread_weights

from textclf_transformer.errors import UsageError
from textclf_transformer.model.classifier_heads import SequenceHead
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hf_encoder import hf_settings
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

NAMES = ("no", "NA", "ünique")


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
