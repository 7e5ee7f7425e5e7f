"""WordPiece tokenizers: BERT's normalisation and word splitting, longest match first within a word."""

from __future__ import annotations

from functools import cached_property

from textclf_transformer.tokenizer.alignment import PlainAlignment
from textclf_transformer.tokenizer.base import TokenizerWrapper


class WordPieceTokenizerWrapper(TokenizerWrapper):
    """A tokenizer whose ``tokenizer.json`` holds a WordPiece model."""

    kind = "wordpiece"
    model_type = "WordPiece"

    @cached_property
    def plain_alignment(self) -> PlainAlignment | None:
        """Finds the places of tokens in plain text; None where the tokenizer divides text in a way of its
        own.
        """
        return PlainAlignment(self._tokenizer) if PlainAlignment.supports(self._tokenizer) else None
