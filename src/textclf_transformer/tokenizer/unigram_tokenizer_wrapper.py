"""Unigram tokenizers (Kudo 2018, arXiv 1804.10959), those of SentencePiece: XLM-RoBERTa's, CamemBERT's."""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence, Split

from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.steps import steps_of


class UnigramTokenizerWrapper(TokenizerWrapper):
    """A tokenizer whose ``tokenizer.json`` holds a Unigram model: published ones, in many languages.

    Such a model has its special tokens among its pieces, as the likeliest of all, so that ``<s>`` in a text
    would become one. A step behind the file's own pre-tokenizer cuts them in two.
    """

    kind = "unigram"
    model_type = "Unigram"

    def __init__(
        self, tokenizer: Tokenizer, special_tokens: dict[str, str], *, origin: str = "tokenizer"
    ) -> None:
        added = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        _take_apart(tokenizer, added | set(special_tokens.values()))
        super().__init__(tokenizer, special_tokens, origin=origin)


def _take_apart(tokenizer: Tokenizer, tokens: set[str]) -> None:
    """Let the pre-tokenizer cut behind the first character wherever a text spells one of ``tokens``."""
    places = [
        f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in sorted(tokens) if len(token) > 1
    ]
    if not places:
        return  # an empty pattern would cut everywhere
    pattern = "|".join(places)
    earlier = tokenizer.pre_tokenizer
    if any(step.get("pattern") == {"Regex": pattern} for step in steps_of(earlier)):
        return  # the file was written by us
    cut = Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = cut if earlier is None else Sequence([earlier, cut])
