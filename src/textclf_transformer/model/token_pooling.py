"""From the tokens of a sequence to its vector: that of [CLS], or the mean or maximum of all.

B batch of sequences, S positions in a sequence, N real tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.layout import unpack
from textclf_transformer.utils import send

TOKEN_POOLINGS = ("cls", "mean", "max")


def check_token_pooling(name: str) -> None:
    """Raise ValueError unless ``name`` is one of ``TOKEN_POOLINGS``."""
    if name not in TOKEN_POOLINGS:
        raise ValueError(f"unknown token pooling {name!r}, expected one of {', '.join(TOKEN_POOLINGS)}")


def encode_sequences(
    encoder: RobertaModel, input_ids: Tensor, attention_mask: Tensor, *, token_pooling: str
) -> Tensor:
    """Encode sequences and pool over the tokens of each.

    Masked language modelling trains every token's hidden state but never asks [CLS] for anything, so what
    [CLS] holds of the sequence must be learned from labels; the mean holds it from the start (Reimers and
    Gurevych 2019, section 4, arXiv 1908.10084). With ``cls`` the last layer runs for one token a sequence.

    Args:
        encoder: the encoder.
        input_ids: (B, S) int64.
        attention_mask: (B, S) bool, True = PAD; each sequence has at least one real token.
        token_pooling: "cls" (the first real token), "mean" or "max" over all real tokens, [CLS] and [SEP]
            among them.

    Returns:
        (B, D); float32 or wider but for ``cls``, which is as the encoder gives it.
    """
    real = ~attention_mask
    if token_pooling == "cls":
        first_real = real & (real.cumsum(dim=1) == 1)
        return encoder.encode(input_ids, attention_mask, wanted=first_real)
    packed = encoder.encode(input_ids, attention_mask)  # (N, D)
    tokens = unpack(packed.to(torch.promote_types(packed.dtype, torch.float32)), real)  # (B, S, D)
    if token_pooling == "mean":
        return tokens.sum(dim=1) / send(real.sum(dim=1, keepdim=True), tokens.device)
    padding = send(attention_mask, tokens.device).unsqueeze(2)
    return tokens.masked_fill(padding, float("-inf")).amax(dim=1)
