"""Byte-level BPE tokenizers, the family of GPT-2 and RoBERTa: any text can be written, nothing is unknown."""

from __future__ import annotations

from textclf_transformer.tokenizer.base import TokenizerWrapper


class ByteLevelBPETokenizerWrapper(TokenizerWrapper):
    """A tokenizer whose ``tokenizer.json`` holds a BPE model, RoBERTa's own among them."""

    kind = "byte_bpe"
    model_type = "BPE"
