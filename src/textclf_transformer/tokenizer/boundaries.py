"""Whether a text can be cut before a space and tokenised in pieces."""

from __future__ import annotations

from tokenizers import Tokenizer, normalizers, pre_tokenizers

# Character by character, wherever a text begins and ends.
_NORMALIZERS = (
    normalizers.BertNormalizer,
    normalizers.Lowercase,
    normalizers.NFC,
    normalizers.NFD,
    normalizers.NFKC,
    normalizers.NFKD,
    normalizers.StripAccents,
    type(None),
)
_WORDS = (pre_tokenizers.BertPreTokenizer, pre_tokenizers.Whitespace, pre_tokenizers.WhitespaceSplit)


def words_end_at_spaces(tokenizer: Tokenizer) -> bool:
    """Return whether the tokens of a text are those of its pieces, if it is cut between a letter and a single
    space before another letter.

    True for BERT's and RoBERTa's way; False for what joins words to a token or puts something before a text,
    for added tokens that reach over a space, and for what is not known here.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    if any(not token.special and (token.rstrip or " " in token.content) for token in added):
        return False
    splitter = tokenizer.pre_tokenizer
    divides = (
        isinstance(splitter, _WORDS)
        or (isinstance(splitter, pre_tokenizers.ByteLevel) and splitter.use_regex)
        or (isinstance(splitter, pre_tokenizers.Metaspace) and splitter.split)
    )
    return divides and isinstance(tokenizer.normalizer, _NORMALIZERS)
