"""WordPiece tokenizers: BERT's normalisation and word splitting, longest match first within a word."""

from __future__ import annotations

from textclf_transformer.tokenizer.base import TokenizerWrapper


class WordPieceTokenizerWrapper(TokenizerWrapper):
    """A tokenizer whose ``tokenizer.json`` holds a WordPiece model."""

    kind = "wordpiece"
    model_type = "WordPiece"
