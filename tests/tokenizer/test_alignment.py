"""Places of tokens worked out from their lengths, beside those that the library tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from textclf_transformer.data.encoding import encode_documents
from textclf_transformer.data.text_files import Document
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = ("a", "b", "ab", "e", "##a", "##b", "##ba", "##e", "#", ".", "…", "ß", "é", "##é")


def make_tokenizer(*, lowercase: bool = True, normalized: bool = True) -> Tokenizer:
    vocab = {piece: index for index, piece in enumerate((*SPECIAL, *PIECES))}
    # Words of more than 6 characters are unknown.
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=6))
    if normalized:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


WRAPPERS = [
    WordPieceTokenizerWrapper.from_tokenizer(make_tokenizer(lowercase=lowercase, normalized=normalized))
    for lowercase, normalized in ((True, True), (False, True), (True, False))
]
# Letters known and unknown, accents, capitals, spaces, marks, control characters, what normalisation deletes,
# expands, joins or takes apart, and characters outside the plain ranges.
CHARACTERS = "abeABExzé…ß.#- \t\n\u00a0\u2003\u2028\x01\u00ad\u200bÉİŉ\u0301中한ffi😀"
texts = st.lists(st.text(alphabet=CHARACTERS, min_size=1, max_size=25), min_size=1, max_size=6)


def encoded(texts: list[str], wrapper: WordPieceTokenizerWrapper):
    documents = [Document(text, None, str(row), None, "memory") for row, text in enumerate(texts)]
    return encode_documents(documents, wrapper, token_dtype=np.dtype("<u2"), with_text=True)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WRAPPERS), texts)
def test_places_and_tokens_are_the_librarys(wrapper: WordPieceTokenizerWrapper, texts: list[str]) -> None:
    texts = [f"a{text}" for text in texts]  # a document without tokens is refused
    batch = encoded(texts, wrapper)
    expected = wrapper.encode_batch(texts, with_offsets=True)
    assert batch.tokens.tolist() == [index for encoding in expected for index in encoding.ids]
    assert batch.lengths.tolist() == [len(encoding) for encoding in expected]
    assert batch.spans.tolist() == [list(span) for encoding in expected for span in encoding.offsets]


def test_plain_text_is_placed_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = WRAPPERS[0]
    asked = []
    encode_batch = wrapper.encode_batch

    def spy(texts, *, with_offsets):
        asked.extend(texts if with_offsets else ())
        return encode_batch(texts, with_offsets=with_offsets)

    monkeypatch.setattr(wrapper, "encode_batch", spy)
    batch = encoded(["Abba… é xyz, abababababa. b", "a\u200bb", "中 ab"], wrapper)
    assert asked == ["a\u200bb", "中 ab"]
    assert batch.spans[:3].tolist() == [[0, 2], [2, 4], [4, 5]]


def test_a_tokenizer_that_divides_text_in_its_own_way_is_left_to_the_library() -> None:
    assert WRAPPERS[0].plain_alignment is not None
    split = make_tokenizer()
    split.pre_tokenizer = pre_tokenizers.Metaspace()
    added = make_tokenizer()
    added.add_tokens([AddedToken("b a")])
    for tokenizer in (split, added):
        wrapper = WordPieceTokenizerWrapper.from_tokenizer(tokenizer)
        assert wrapper.plain_alignment is None
        batch = encoded(["ab b a"], wrapper)
        assert batch.spans.tolist() == [
            list(span) for span in wrapper.encode_batch(["ab b a"], with_offsets=True)[0].offsets
        ]
