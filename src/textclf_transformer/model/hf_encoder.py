"""An encoder as Hugging Face names it: RoBERTa or, with disentangled attention, DeBERTa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.model.pretrained import roberta_state_to_hf
from textclf_transformer.model.pretrained_deberta import deberta_state_to_hf

if TYPE_CHECKING:
    from textclf_transformer.model.encoder import RobertaModel


def hf_class(encoder: RobertaModel, suffix: str) -> str:
    """Return the name of their class: "RobertaModel", "DebertaForMaskedLM" … for the ``suffix`` after it."""
    return f"{hf_settings(encoder)['model_type'].capitalize()}{suffix}"


def hf_settings(encoder: RobertaModel) -> Mapping[str, Any]:
    """Return the encoder's part of a Hugging Face config.json."""
    layer = encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    settings = {
        "vocab_size": encoder.vocab_size,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": len(encoder.layers),
        "num_attention_heads": encoder.num_attention_heads,
        "intermediate_size": layer.intermediate.out_features,
        "pad_token_id": encoder.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_act": "gelu",
        "layer_norm_eps": encoder.embeddings.norm.eps,
        "hidden_dropout_prob": layer.dropout.p,
        "attention_probs_dropout_prob": layer.attention.dropout_prob,
        "embedding_dropout_prob": encoder.embeddings.dropout.p,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
    }
    if encoder.attention_kind == "standard":
        rows = encoder.max_sequence_length + encoder.pad_token_id + 1
        return {
            "model_type": "roberta",
            **settings,
            "max_position_embeddings": rows,
            "type_vocab_size": 1,
        }
    return {
        "model_type": "deberta",
        **settings,
        "max_position_embeddings": encoder.max_sequence_length,
        "type_vocab_size": 0,
        "relative_attention": True,
        "max_relative_positions": encoder.max_relative_positions,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
    }


def hf_tensors(encoder: RobertaModel, state: Mapping[str, Tensor], *, bare: bool) -> dict[str, Tensor]:
    """Rename the tensors of one of our models to Hugging Face's.

    Args:
        encoder: the model's encoder, which decides the family.
        state: tensors by our names, the encoder's under ``encoder.``.
        bare: whether it is an encoder alone, which Hugging Face names without a prefix.

    Returns:
        Contiguous tensors that share no memory with each other.

    Raises:
        KeyError: a name has no counterpart.
    """
    if encoder.attention_kind == "standard":
        return roberta_state_to_hf(state, encoder_prefix="" if bare else "roberta.")
    return deberta_state_to_hf(
        state,
        encoder_prefix="" if bare else "deberta.",
        num_attention_heads=encoder.num_attention_heads,
    )
