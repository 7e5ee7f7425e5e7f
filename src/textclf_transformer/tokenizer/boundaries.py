"""Whether a text can be cut before a space and tokenised in pieces."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer

from textclf_transformer.tokenizer.steps import steps_of

# Character by character (``Precompiled``: with the marks upon it), wherever a text begins and ends.
_LOCAL_NORMALIZERS = frozenset(
    ("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Precompiled")
)
# SentencePiece's way to make one space of many: a cut is before a single one.
_ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
_WORDS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))


def words_end_at_spaces(tokenizer: Tokenizer) -> bool:
    """Return whether the tokens of a text are those of its pieces, if it is cut between a letter and a single
    space before another letter.

    True for BERT's, RoBERTa's and XLM-RoBERTa's way; False for what joins words to a token or puts something
    before a text, for added tokens that reach over a space, and for what is not known here.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    if any(not token.special and _reaches_over_spaces(token, tokenizer) for token in added):
        return False
    local = all(
        step["type"] in _LOCAL_NORMALIZERS or step == _ONE_SPACE for step in steps_of(tokenizer.normalizer)
    )
    # what follows the first pre-tokenizer sees the words alone
    first = next(steps_of(tokenizer.pre_tokenizer), None)
    return local and first is not None and _divides_at_spaces(first)


def _reaches_over_spaces(token: AddedToken, tokenizer: Tokenizer) -> bool:
    content = token.content
    if token.normalized and tokenizer.normalizer is not None:  # as such it is looked for in the text
        content = tokenizer.normalizer.normalize_str(content)
    return token.rstrip or " " in content


def _divides_at_spaces(splitter: dict[str, Any]) -> bool:
    kind = splitter["type"]
    return (
        kind in _WORDS
        or (kind == "ByteLevel" and splitter["use_regex"])
        or (kind == "Metaspace" and splitter["split"])
    )
