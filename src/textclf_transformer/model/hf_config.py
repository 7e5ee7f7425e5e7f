"""The part of a Hugging Face config.json that decides a RoBERTa, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.pretrained import ENCODER_PREFIX

CONFIG_FILE = "config.json"

# What must stand in config.json, and what is meant (as in RobertaConfig) where the rest is left out.
_REQUIRED_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_SUPPORTED: dict[str, object] = {
    "model_type": "roberta",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


@dataclass(frozen=True, slots=True)
class HfConfig:
    """What of a Hugging Face config.json decides a RoBERTa; names and meanings are theirs.

    ``embedding_dropout_prob`` is ours: theirs is ``hidden_dropout_prob`` there, which is its default.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    pad_token_id: int
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    embedding_dropout_prob: float
    classifier_dropout: float
    tie_word_embeddings: bool

    def check_shapes(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Compare with the tensors there are, before a model of the declared size takes its memory.

        Args:
            state: tensors by our names, the encoder's under ``encoder.``.
            source: the folder, for the error.

        Raises:
            CheckpointError: a tensor is missing or has another shape than the config declares.
        """
        declared = {
            "embeddings.word_embeddings.weight": (self.vocab_size, self.hidden_size),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, self.hidden_size),
            f"layers.{self.num_hidden_layers - 1}.intermediate.weight": (
                self.intermediate_size,
                self.hidden_size,
            ),
        }
        for name, shape in declared.items():
            tensor = state.get(ENCODER_PREFIX + name)
            found = None if tensor is None else tuple(tensor.shape)
            if found != shape:
                raise CheckpointError(
                    f"{CONFIG_FILE} and the weights disagree about {name}",
                    where=source,
                    found="no such tensor" if found is None else found,
                    expected=str(shape),
                )


def parse_hf_config(raw: Mapping[str, Any], *, where: str) -> HfConfig:
    """Check a config.json and return what of it counts.

    Raises:
        CheckpointError: a value is missing or of a wrong type, or says that the model is another than ours.
    """
    for key, supported in _SUPPORTED.items():
        found = raw.get(key, None if key == "model_type" else supported)
        if found != supported:
            raise CheckpointError(
                f"a model with this {key} cannot be loaded",
                where=where,
                found=repr(found),
                expected=repr(supported),
            )
    counts = {key: _whole_number(raw, key, where=where, least=1) for key in _REQUIRED_COUNTS}
    pad_token_id = _whole_number(raw, "pad_token_id", where=where, least=0, default=1)
    if counts["hidden_size"] % counts["num_attention_heads"]:
        raise CheckpointError("num_attention_heads does not divide hidden_size", where=where)
    if pad_token_id >= min(counts["vocab_size"], counts["max_position_embeddings"] - 1):
        raise CheckpointError("pad_token_id leaves no word or no position", where=where, found=pad_token_id)
    hidden_dropout = _probability(raw, "hidden_dropout_prob", 0.1, where=where)
    tied = raw.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise CheckpointError(
            "tie_word_embeddings is wrong", where=where, found=repr(tied), expected="true or false"
        )
    return HfConfig(
        **counts,
        pad_token_id=pad_token_id,
        layer_norm_eps=_number(raw, "layer_norm_eps", 1e-12, where=where, below=1.0),
        hidden_dropout_prob=hidden_dropout,
        attention_probs_dropout_prob=_probability(raw, "attention_probs_dropout_prob", 0.1, where=where),
        embedding_dropout_prob=_probability(raw, "embedding_dropout_prob", hidden_dropout, where=where),
        classifier_dropout=_probability(raw, "classifier_dropout", hidden_dropout, where=where),
        tie_word_embeddings=tied,
    )


def _whole_number(
    raw: Mapping[str, Any], key: str, *, where: str, least: int, default: int | None = None
) -> int:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CheckpointError(
            f"{key} is wrong", where=where, found=repr(value), expected=f"a whole number of at least {least}"
        )
    return value


def _number(raw: Mapping[str, Any], key: str, default: float, *, where: str, below: float) -> float:
    value = raw.get(key)
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < below
        or math.isnan(value)
    ):
        raise CheckpointError(
            f"{key} is wrong", where=where, found=repr(value), expected=f"a number from 0 to below {below:g}"
        )
    return float(value)


def _probability(raw: Mapping[str, Any], key: str, default: float, *, where: str) -> float:
    return _number(raw, key, default, where=where, below=1.0)
