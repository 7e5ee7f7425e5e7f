"""The part of a Hugging Face config.json that decides a RoBERTa, a BERT or a DeBERTa, checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.pretrained import ENCODER_PREFIX, POSITIONS, WORDS

CONFIG_FILE = "config.json"

# What must stand in config.json, and what is meant (as in their config classes) where the rest is left out.
_REQUIRED_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_ABSOLUTE: dict[str, object] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "layer_norm_eps": 1e-12,
}
_DEFAULTS: dict[str, dict[str, object]] = {
    "roberta": {**_ABSOLUTE, "pad_token_id": 1},
    "bert": {**_ABSOLUTE, "pad_token_id": 0},
    "deberta": {
        "hidden_act": "gelu",
        "pooler_hidden_act": "gelu",
        "relative_attention": False,
        "position_biased_input": True,
        "pos_att_type": "",
        "type_vocab_size": 0,
        "talking_head": False,
        "pad_token_id": 0,
        "layer_norm_eps": 1e-7,
        "max_relative_positions": -1,
    },
}
# Names of their own for the same model with another vocabulary.
_ROBERTAS = ("roberta", "xlm-roberta", "camembert")
_CLASSIFIER_DROPOUT = {
    "roberta": "classifier_dropout",
    "bert": "classifier_dropout",
    "deberta": "cls_dropout",
}
# The values that our encoder has.
_SUPPORTED: dict[str, object] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pooler_hidden_act": "gelu",
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": {"c2p", "p2c"},
    "type_vocab_size": 0,
    "talking_head": False,
}


@dataclass(frozen=True, slots=True)
class HfConfig:
    """What of a Hugging Face config.json decides a RoBERTa, BERT or DeBERTa; names and meanings are theirs.

    ``embedding_dropout_prob`` is ours: theirs is ``hidden_dropout_prob`` there, which is its default. The
    ``max_position_embeddings`` of a BERT or a DeBERTa are turned into the rows that a RoBERTa needs for as
    long a sequence. ``classifier_dropout``, a DeBERTa's ``cls_dropout``, is before both layers of the head
    here, also where it is a BERT's, which has it before the second. ``max_relative_positions`` is None unless
    it is a DeBERTa.
    """

    model_type: str
    max_relative_positions: int | None
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

    @property
    def attention_kind(self) -> str:
        """What kind of attention we call it: "disentangled" for a DeBERTa, else "standard"."""
        return "disentangled" if self.model_type == "deberta" else "standard"

    def check_shapes(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Compare with the tensors there are, before a model of the declared size takes its memory.

        Args:
            state: tensors by our names, the encoder's under ``encoder.``.
            source: the folder, for the error.

        Raises:
            CheckpointError: a tensor is missing or has another shape than the config declares.
        """
        for name, shape in self._declared():
            tensor = state.get(ENCODER_PREFIX + name)
            found = None if tensor is None else tuple(tensor.shape)
            if found != shape:
                expected = str(shape)
                if self.model_type == "bert" and name == POSITIONS:  # neither of its files has these rows
                    expected += (
                        f", each with the first {self.pad_token_id + 1} that RoBERTa has before BERT's"
                    )
                raise CheckpointError(
                    f"{CONFIG_FILE} and the weights disagree about {name}",
                    where=source,
                    found="no such tensor" if found is None else found,
                    expected=expected,
                )

    def _declared(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield names and shapes from which the size of the whole model follows; of each layer, since a
        config may declare more of them than anybody could list.
        """
        width = self.hidden_size
        yield WORDS, (self.vocab_size, width)
        if self.max_relative_positions is None:
            yield POSITIONS, (self.max_position_embeddings, width)
        else:
            yield "embeddings.relative_position_embeddings.weight", (2 * self.max_relative_positions, width)
        for layer in range(self.num_hidden_layers):
            yield f"layers.{layer}.attention.query_key_value.weight", (3 * width, width)
            yield f"layers.{layer}.intermediate.weight", (self.intermediate_size, width)


def parse_hf_config(raw: Mapping[str, Any], *, where: str) -> HfConfig:
    """Check a config.json and return what of it counts.

    Raises:
        CheckpointError: a value is missing or of a wrong type, or says that the model is another than ours.
    """
    family = raw.get("model_type")
    if family in _ROBERTAS:
        family = "roberta"
    if not isinstance(family, str) or family not in _DEFAULTS:
        known = sorted({*_DEFAULTS, *_ROBERTAS})
        raise _unsupported("model_type", family, " or ".join(map(repr, known)), where=where)
    raw = _DEFAULTS[family] | {key: value for key, value in raw.items() if value is not None}
    for key in (key for key in _SUPPORTED if key in _DEFAULTS[family]):  # a set's order changes by process
        found: object = raw[key]
        if key == "pos_att_type" and isinstance(found, str | list):  # older files have "c2p|p2c"
            found = set(found.split("|") if isinstance(found, str) else map(str, found))
        if found != _SUPPORTED[key]:
            raise _unsupported(key, raw[key], repr(_SUPPORTED[key]), where=where)
    counts = {key: _whole_number(raw, key, where=where, least=1) for key in _REQUIRED_COUNTS}
    pad_token_id = _whole_number(raw, "pad_token_id", where=where, least=0)
    max_relative_positions = None
    if family == "deberta":
        span = _whole_number(raw, "max_relative_positions", where=where, least=-1)
        max_relative_positions = span if span > 0 else counts["max_position_embeddings"]
    if family != "roberta":
        counts["max_position_embeddings"] += pad_token_id + 1
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
        model_type=family,
        max_relative_positions=max_relative_positions,
        pad_token_id=pad_token_id,
        layer_norm_eps=_number(raw, "layer_norm_eps", 0.0, where=where, below=1.0),
        hidden_dropout_prob=hidden_dropout,
        attention_probs_dropout_prob=_probability(raw, "attention_probs_dropout_prob", 0.1, where=where),
        embedding_dropout_prob=_probability(raw, "embedding_dropout_prob", hidden_dropout, where=where),
        classifier_dropout=_probability(raw, _CLASSIFIER_DROPOUT[family], hidden_dropout, where=where),
        tie_word_embeddings=tied,
    )


def _unsupported(key: str, found: object, expected: str, *, where: str) -> CheckpointError:
    return CheckpointError(
        f"a model with this {key} cannot be loaded", where=where, found=repr(found), expected=expected
    )


def _whole_number(raw: Mapping[str, Any], key: str, *, where: str, least: int) -> int:
    value = raw.get(key)
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
