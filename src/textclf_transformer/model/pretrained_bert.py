"""Hugging Face's names of BERT's tensors, read as those of the RoBERTa that computes the same.

BERT (Devlin et al. 2019, section 3) is RoBERTa's encoder with two differences. It numbers its tokens from 0
on, RoBERTa from the PAD id + 1: the table of positions moves down by so many rows, which no token uses. And
it tells two segments apart, of which a text alone is the first. Its classifier is RoBERTa's, with the first
layer called pooler.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.pretrained import (
    POSITIONS,
    TOKEN_TYPES,
    WORDS,
    rename,
    roberta_state_from_hf,
    without_doubles,
)

# What BERT was pretrained with beside masked words: whether one sentence follows another.
NEXT_SENTENCE = "cls.seq_relationship."

# (BERT's, RoBERTa's): beginnings of names.
_ENCODER = ("bert.", "roberta.")
_MLM_HEAD = (
    ("cls.predictions.transform.dense.", "lm_head.dense."),
    ("cls.predictions.transform.LayerNorm.", "lm_head.layer_norm."),
    ("cls.predictions.decoder.", "lm_head.decoder."),
    ("cls.predictions.bias", "lm_head.bias"),
)
_CLASSIFIER = (
    ("bert.pooler.dense.", "classifier.dense."),
    ("classifier.", "classifier.out_proj."),
)


def bert_state_from_hf(state: Mapping[str, Tensor], *, pad_token_id: int) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face BERT, with or without a head, to ours.

    Args:
        state: tensors by Hugging Face's names, the encoder's with or without ``bert.`` before them.
        pad_token_id: as many rows, and one more, are put before the table of positions.

    Returns:
        Tensors by our names, as ``roberta_state_from_hf`` returns them. A pooler without a classifier stays
        under its name.

    Raises:
        CheckpointError: a part of a fused tensor or the row of the first segment is missing, the tables of
            words, positions and segments differ in width, there are fewer words than the PAD id says, or two
            different tensors are one in the model.
    """
    state = without_doubles(state, prefix=_ENCODER[0])
    parts = (*(_CLASSIFIER if "classifier.weight" in state else ()), _ENCODER, *_MLM_HEAD)
    as_roberta = {rename(name, parts) or name: tensor for name, tensor in state.items()}
    tables = {name.removeprefix(_ENCODER[1]): name for name in as_roberta}
    for table in (WORDS, POSITIONS, TOKEN_TYPES):
        if table not in tables:
            raise CheckpointError(f"there is no {table}")
    words, positions = as_roberta[tables[WORDS]], as_roberta[tables[POSITIONS]]
    # The new rows are then fewer than the words and as wide: a small file cannot ask for a table of any size.
    if pad_token_id >= words.shape[0]:
        raise CheckpointError(
            f"there are too few words for pad_token_id {pad_token_id}", found=words.shape[0]
        )
    if positions.shape[1:] != words.shape[1:]:
        raise CheckpointError(
            "positions and words differ in width",
            found=tuple(positions.shape),
            expected=f"as wide as {tuple(words.shape)}",
        )
    unused = positions.new_zeros(pad_token_id + 1, *positions.shape[1:])
    as_roberta[tables[POSITIONS]] = torch.cat([unused, positions])
    return roberta_state_from_hf(as_roberta, pad_token_id=pad_token_id)
