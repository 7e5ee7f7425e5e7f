"""Hugging Face's names of RoBERTa's tensors against ours, both ways.

Ours differ in three things. Query, key and value are one matrix, their rows below one another. There are no
token types: a text alone is of the first in all its tokens, so this row is added to the position table on
the way in and written as zeros on the way out; outputs are preserved, these two tensors are not. A model with
a head keeps its encoder under ``encoder.``, the masked-LM head under ``head.``, a classifier under
``classifier.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from textclf_transformer.errors import CheckpointError

Parts = tuple[tuple[str, str], ...]

ENCODER_PREFIX = "encoder."

WORDS = "embeddings.word_embeddings.weight"
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
_HF_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

# (ours, theirs): beginnings of names; those in capitals are DeBERTa's, too.
EMBEDDING_PARTS = (
    ("embeddings.word_embeddings.", "embeddings.word_embeddings."),
    ("embeddings.norm.", "embeddings.LayerNorm."),
)
LAYER_PARTS = (
    ("attention_output.", "attention.output.dense."),
    ("attention_norm.", "attention.output.LayerNorm."),
    ("intermediate.", "intermediate.dense."),
    ("output.", "output.dense."),
    ("output_norm.", "output.LayerNorm."),
)
# Of models that were trained in TensorFlow, and of DeBERTa's as transformers 5.0 writes them.
_OLD_ENDINGS = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
_FUSED = "attention.query_key_value."
_SPLIT = ("attention.self.query.", "attention.self.key.", "attention.self.value.")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a family of models, as pairs (ours, theirs) of beginnings.

    Attributes:
        encoder: of the encoder's tensors outside its layers.
        layer: inside a layer.
        head: of heads; where several of ours are the same the first is written.
    """

    encoder: Parts
    layer: Parts
    head: Parts


_NAMES = Names(
    encoder=(*EMBEDDING_PARTS, ("embeddings.position_embeddings.", "embeddings.position_embeddings.")),
    layer=((_FUSED, _FUSED), *LAYER_PARTS),
    head=(
        ("head.dense.", "lm_head.dense."),
        ("head.norm.", "lm_head.layer_norm."),
        ("head.decoder.", "lm_head.decoder."),
        ("head.bias", "lm_head.bias"),
        ("classifier.dense.", "classifier.dense."),
        ("classifier.output.", "classifier.out_proj."),
    ),
)


def rename(name: str, parts: Parts) -> str | None:
    """Replace the first of a pair, if ``name`` begins with it, by the second; None if none does."""
    for old, new in parts:
        if name.startswith(old):
            return new + name[len(old) :]
    return None


def swapped(parts: Parts) -> Parts:
    """Turn each pair round."""
    return tuple((theirs, ours) for ours, theirs in parts)


def without_old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` with today's names of the scale and the shift of each norm, which once had others."""
    renamed = dict(state)
    for name in state:
        for old, new in _OLD_ENDINGS:
            today = name.removesuffix(old) + new
            if name.endswith(old) and today not in state:
                renamed[today] = renamed.pop(name)
    return renamed


def roberta_state_from_hf(state: Mapping[str, Tensor], *, pad_token_id: int) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face RoBERTa, with or without a head, to ours.

    Args:
        state: tensors by Hugging Face's names, the encoder's with or without ``roberta.`` before them.
        pad_token_id: the rows of the position table up to it are never read and stay as they are.

    Returns:
        Tensors by our names, the encoder's under ``encoder.``. A name that is not known goes under
        ``encoder.`` too where it belongs to the encoder, so that strict loading refuses it; else it is of a
        head and stays as it is.

    Raises:
        CheckpointError: a part of a fused tensor is missing, or the row of the first token type, or that does
            not fit the table of positions; two different tensors are one in the model.
    """
    mapped: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    token_types = None
    state = without_doubles(state, prefix="roberta.")
    in_encoder = encoder_names(state, prefix="roberta.")
    for full_name, tensor in state.items():
        name = full_name.removeprefix("roberta.")
        if name in _HF_BUFFERS:
            continue
        if name == TOKEN_TYPES:
            token_types = tensor
            continue
        layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
        if layer is None:
            known = our_name(name, _NAMES)
            mapped[known or (ENCODER_PREFIX + name if full_name in in_encoder else name)] = tensor
            continue
        begin, inner = f"{ENCODER_PREFIX}layers.{layer[1]}.", layer[2]
        if inner.startswith(_SPLIT):
            part, kind = inner.rsplit(".", maxsplit=1)
            split.setdefault(begin + _FUSED + kind, {})[part + "."] = tensor
        else:
            mapped[begin + (rename(inner, swapped(LAYER_PARTS)) or inner)] = tensor
    for name, thirds in split.items():
        mapped[name] = _join(name, thirds)
    if token_types is not None:
        _fold_token_types(mapped, token_types, pad_token_id=pad_token_id)
    return mapped


def encoder_names(names: Iterable[str], *, prefix: str) -> set[str]:
    """Return those of Hugging Face's ``names`` that belong to the encoder, its pooler apart.

    In a model with a head they begin with ``prefix``; in a bare encoder nothing does, and all are the
    encoder's.
    """
    with_prefix = {name for name in names if name.startswith(prefix)}
    encoder = with_prefix or set(names)
    return {name for name in encoder if not name.removeprefix(prefix).startswith("pooler.")}


def without_doubles(state: Mapping[str, Tensor], *, prefix: str) -> dict[str, Tensor]:
    """Return ``state`` without the names that stand there behind ``prefix`` as well.

    Raises:
        CheckpointError: the two tensors differ, and which one is meant nobody can know.
    """
    doubles = {name: state[prefix + name] for name in state if prefix + name in state}
    for name, other in doubles.items():
        one = state[name]
        if one.dtype != other.dtype or not torch.equal(one, other):
            raise CheckpointError(
                "two tensors differ that are one in the model",
                found=f"{prefix}{name} and {name}",
                mend="save the weights again with the right one alone",
            )
    return {name: tensor for name, tensor in state.items() if name not in doubles}


def our_name(name: str, names: Names) -> str | None:
    """Return our name of a tensor outside the layers, by Hugging Face's ``name``; None if it is not known."""
    encoder_name = rename(name, swapped(names.encoder))
    return rename(name, swapped(names.head)) if encoder_name is None else ENCODER_PREFIX + encoder_name


def their_name(full_name: str, names: Names, *, encoder_prefix: str) -> str:
    """Return Hugging Face's name of one of our tensors, the encoder's behind ``encoder_prefix``.

    Raises:
        KeyError: the name has no counterpart.
    """
    name = full_name.removeprefix(ENCODER_PREFIX)
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    if name == full_name:
        begin, theirs = "", rename(name, names.head)
    elif layer is None:
        begin, theirs = encoder_prefix, rename(name, names.encoder)
    else:
        begin = f"{encoder_prefix}encoder.layer.{layer[1]}."
        theirs = rename(layer[2], names.layer)
    if theirs is None:
        raise KeyError(full_name)
    return begin + theirs


def _join(name: str, thirds: Mapping[str, Tensor]) -> Tensor:
    absent = [part for part in _SPLIT if part not in thirds]
    if absent:
        raise CheckpointError(f"{absent[0].rstrip('.')} is missing beside the other parts of {name}")
    return torch.cat([thirds[part] for part in _SPLIT])


def _fold_token_types(mapped: dict[str, Tensor], token_types: Tensor, *, pad_token_id: int) -> None:
    if token_types.shape[0] == 0:
        raise CheckpointError("there is no row in token_type_embeddings, and every token needs the first")
    name = ENCODER_PREFIX + POSITIONS
    if name not in mapped or not mapped[name].is_floating_point():  # strict loading then says so
        return
    wide = torch.promote_types(mapped[name].dtype, torch.float32)
    positions = mapped[name].to(wide, copy=True)
    if token_types.shape[1:] != positions.shape[1:] or not token_types.is_floating_point():
        raise CheckpointError(
            "token_type_embeddings do not fit the positions",
            found=f"{tuple(token_types.shape)}, {token_types.dtype}",
            expected=f"as wide as {tuple(positions.shape)}, floating point",
        )
    positions[pad_token_id + 1 :] += token_types[0].to(wide)
    mapped[name] = positions


def roberta_state_to_hf(state: Mapping[str, Tensor], *, encoder_prefix: str) -> dict[str, Tensor]:
    """Rename the tensors of one of our models to Hugging Face's.

    Args:
        state: tensors by our names, the encoder's under ``encoder.``.
        encoder_prefix: what Hugging Face puts before the encoder's names: "roberta." in a model with a head,
            "" in the bare one.

    Returns:
        Contiguous tensors that share no memory with each other, by Hugging Face's names.

    Raises:
        KeyError: a name has no counterpart.
    """
    mapped: dict[str, Tensor] = {}
    for full_name, tensor in state.items():
        name = their_name(full_name, _NAMES, encoder_prefix=encoder_prefix)
        if _FUSED in name:
            for part, third in zip(_SPLIT, tensor.chunk(3), strict=True):
                mapped[name.replace(_FUSED, part)] = third
        else:
            mapped[name] = tensor
    positions = mapped[encoder_prefix + POSITIONS]
    mapped[encoder_prefix + TOKEN_TYPES] = positions.new_zeros(1, positions.shape[1])
    return {name: tensor.detach().clone() for name, tensor in mapped.items()}
