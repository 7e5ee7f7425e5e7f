"""Folders with a wrong config, wrong tensors, a wrong head or damaged files are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from folder_cases import edit_tensors
from model_cases import make_encoder
from torch import Tensor

from textclf_transformer.errors import CheckpointError, UserError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hf_config import parse_hf_config
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pretrained import POSITIONS, TOKEN_TYPES
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

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
