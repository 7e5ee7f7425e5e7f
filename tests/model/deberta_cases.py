"""Small random DeBERTas, Hugging Face's and ours with the same weights."""

from __future__ import annotations

from typing import TypeVar

import transformers
from model_cases import HF_SHAPE, PAD, make_encoder, spread_weights
from torch import nn

from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hf_config import parse_hf_config
from textclf_transformer.model.loading import load_strict
from textclf_transformer.model.pretrained_deberta import deberta_state_from_hf

ModelT = TypeVar("ModelT", bound=nn.Module)


def make_hf_deberta(kind: str, **changes: object) -> transformers.PreTrainedModel:
    settings = HF_SHAPE | {
        "max_relative_positions": 12,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "pad_token_id": PAD,
        "layer_norm_eps": 1e-3,  # large, so that another value would be seen
    }
    config = transformers.DebertaConfig(**(settings | changes))
    return spread_weights(getattr(transformers, kind)(config)).eval()


def ours_like(hf: transformers.PreTrainedModel, *, backend: str = "explicit") -> RobertaModel:
    config = parse_hf_config(hf.config.to_dict() | {"model_type": "deberta"}, where="the reference")
    return RobertaModel.from_hf_config(config, attention_backend=backend)


def load_like(model: ModelT, hf: transformers.PreTrainedModel) -> ModelT:
    state = deberta_state_from_hf(hf.state_dict(), num_attention_heads=hf.config.num_attention_heads)
    load_strict(model.to(hf.dtype), state, source="the reference", leave_behind=("head.decoder.",))
    return model.eval()


class Wrapped(nn.Module):
    """Gives an encoder the prefix that whole models have."""

    def __init__(self, encoder: RobertaModel) -> None:
        super().__init__()
        self.encoder = encoder


def make_deberta(**changes: object) -> RobertaModel:
    settings = {"attention_kind": "disentangled", "max_relative_positions": 6} | changes
    return spread_weights(make_encoder(**settings)).eval()
