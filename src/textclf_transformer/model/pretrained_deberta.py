"""Hugging Face's names of DeBERTa's tensors against ours, both ways.

Ours differ in two things. Their one matrix of queries, keys and values holds the rows of each head together;
ours holds all queries, then all keys, then all values. Of their two layouts of the masked-LM head (``legacy``
or not) either is read and the first, which transformers takes by default, is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.pretrained import (
    EMBEDDING_PARTS,
    ENCODER_PREFIX,
    LAYER_PARTS,
    POSITIONS,
    Names,
    encoder_names,
    our_name,
    rename,
    swapped,
    their_name,
    without_doubles,
)

_FUSED = ("attention.query_key_value.weight", "attention.self.in_proj.weight")
_NAMES = Names(
    encoder=(*EMBEDDING_PARTS, ("embeddings.relative_position_embeddings.", "encoder.rel_embeddings.")),
    layer=(
        _FUSED,
        *LAYER_PARTS,
        ("attention.query_bias", "attention.self.q_bias"),
        ("attention.value_bias", "attention.self.v_bias"),
        ("attention.position_key.", "attention.self.pos_proj."),
        ("attention.position_query.", "attention.self.pos_q_proj."),
    ),
    head=(
        ("head.dense.", "cls.predictions.transform.dense."),
        ("head.norm.", "cls.predictions.transform.LayerNorm."),
        ("head.decoder.", "cls.predictions.decoder."),
        ("head.bias", "cls.predictions.bias"),
        ("classifier.dense.", "pooler.dense."),
        ("classifier.output.", "classifier."),
        # the newer layout
        ("head.dense.", "lm_predictions.lm_head.dense."),
        ("head.norm.", "lm_predictions.lm_head.LayerNorm."),
        ("head.bias", "lm_predictions.lm_head.bias"),
    ),
)


def deberta_state_from_hf(state: Mapping[str, Tensor], *, num_attention_heads: int) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face DeBERTa, with or without a head, to ours.

    Args:
        state: tensors by Hugging Face's names, the encoder's with or without ``deberta.`` before them.
        num_attention_heads: H, by which the matrix of queries, keys and values is laid out.

    Returns:
        Tensors by our names, the encoder's under ``encoder.``; unknown ones as in ``roberta_state_from_hf``.

    Raises:
        CheckpointError: the matrix of queries, keys and values has a shape that has no such heads, or two
            different tensors are one in the model.
    """
    mapped: dict[str, Tensor] = {}
    state = without_doubles(state, prefix="deberta.")
    in_encoder = encoder_names(state, prefix="deberta.")
    for full_name, tensor in state.items():
        name = full_name.removeprefix("deberta.")
        if name == "embeddings.position_ids":
            continue
        if name == POSITIONS:  # for its mask decoder; under no encoder, so that it is left behind and listed
            mapped[name] = tensor
            continue
        layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
        if layer is None:
            known = our_name(name, _NAMES)
            mapped[known or (ENCODER_PREFIX + name if full_name in in_encoder else name)] = tensor
            continue
        begin, inner = f"{ENCODER_PREFIX}layers.{layer[1]}.", layer[2]
        if inner == _FUSED[1]:
            if tensor.ndim != 2 or tensor.shape[0] % (3 * num_attention_heads):
                raise CheckpointError(
                    f"{full_name} has another shape", found=tuple(tensor.shape), expected="(3 × heads × K, D)"
                )
            mapped[begin + _FUSED[0]] = _regroup(tensor, num_attention_heads, 3)
        else:
            mapped[begin + (rename(inner, swapped(_NAMES.layer)) or inner)] = tensor
    return mapped


def deberta_state_to_hf(
    state: Mapping[str, Tensor], *, encoder_prefix: str, num_attention_heads: int
) -> dict[str, Tensor]:
    """Rename the tensors of one of our models with disentangled attention to Hugging Face's.

    Args:
        state: tensors by our names, the encoder's under ``encoder.``.
        encoder_prefix: what Hugging Face puts before the encoder's names: "deberta." in a model with a head,
            "" in the bare one.
        num_attention_heads: H.

    Returns:
        Contiguous tensors that share no memory with each other, by Hugging Face's names.

    Raises:
        KeyError: a name has no counterpart.
    """
    mapped: dict[str, Tensor] = {}
    for full_name, tensor in state.items():
        name = their_name(full_name, _NAMES, encoder_prefix=encoder_prefix)
        mapped[name] = _regroup(tensor, 3, num_attention_heads) if name.endswith(_FUSED[1]) else tensor
    return {name: tensor.detach().clone() for name, tensor in mapped.items()}


def _regroup(matrix: Tensor, outer: int, inner: int) -> Tensor:
    """Exchange the two levels of rows of an (outer · inner · K, D) matrix; (inner · outer · K, D) out."""
    return matrix.unflatten(0, (outer, inner, -1)).transpose(0, 1).flatten(0, 2)
