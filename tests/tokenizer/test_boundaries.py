"""A long text that is tokenised in pieces has the tokens, and their places, of the whole."""

from __future__ import annotations

import base64
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from textclf_transformer.data import encoding
from textclf_transformer.data.text_files import Document
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.boundaries import words_end_at_spaces

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXT = " ".join(["the garden rain and the harbour noon ﬁr ﱞa sail"] * 40)
# SentencePiece's map of characters, with ﬁ to fi, ½ to 1/2 and ﱞ, an Arabic letter, to a space and a mark.
CHARACTERS = zlib.decompress(
    base64.b64decode(
        "eNod03XsF1QQAPC3H7IxGiQmXUqObpBGAWmRBulOpbsUkVS6QVAaJSSku7tbJKWU7vh8edtnd++P97bb3YUPQgixo4Wtz6LC"
        "hughuA5YHKLCwDghxJDP+DREzgB5iEVM4kSeEI+4JCA+H5KQxCQiKUn4iGX+TC4mIyUpSE0q0pKG9KTjYzKQkU/ITCaykoX/"
        "4keFbGIOspOLnOQhN/nISwHyU4iCFKEwkZKKUpxilKQEpSlFWcrwOZ9RnnJ8QQUqUZEqVKYaVfmS6nxFDWpRkzrUph51aUB9"
        "vqYhjWlEU5rQnGa0pAWtaUVb2tCednSkA53pxLd8Q1e60J1u9KQHvelFX/rQn34MjDSYwQziO4YwlO8Zxg8M50dGMoLRjOIn"
        "xjCWnxnPOCYygclMYipTmM40ZjKD2cxiDr/wK3OZx28sYD6LWMgSFvM7S9/PVgh/sILl/MlKVrOKtaxhHX+xgfVsYiNb2Mw2"
        "trKD7exiJ3vYzT72coD9HOIgRzjMMY5yguOc4iRnOM05znKB81ziIpf5myv8wzWucoPr/MtNbnOLu9yJ7AH3uM//POQBj3nE"
        "U57wnGe85AWvecVb3kR278yIkCtH7tCidXgHZlyJ5Q=="
    )
)

WAYS: dict[str, tuple[Any, Any, bool]] = {
    "RoBERTa's": (None, pre_tokenizers.ByteLevel(add_prefix_space=False), True),
    "with a space before the text": (None, pre_tokenizers.ByteLevel(add_prefix_space=True), True),
    "BERT's": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), True),
    "SentencePiece's": (normalizers.NFKC(), pre_tokenizers.Metaspace(), True),
    "XLM-RoBERTa's": (
        normalizers.Sequence([normalizers.Precompiled(CHARACTERS), normalizers.Replace(Regex(" {2,}"), " ")]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        True,
    ),
    "XLM-RoBERTa's, with a space at the beginning only": (
        normalizers.Precompiled(CHARACTERS),
        pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
        ),
        True,
    ),
    "spaces replaced": (normalizers.Replace(" ", "_"), pre_tokenizers.WhitespaceSplit(), False),
    "digits first": (
        None,
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.WhitespaceSplit()]),
        False,
    ),
    "words joined": (None, None, False),
    "bytes joined": (None, pre_tokenizers.ByteLevel(use_regex=False), False),
    "SentencePiece's, joined": (None, pre_tokenizers.Metaspace(split=False), False),
    "Llama's": (normalizers.Prepend("▁"), pre_tokenizers.Metaspace(), False),
    "stripped": (normalizers.Strip(), pre_tokenizers.ByteLevel(), False),
}


@pytest.mark.parametrize("way", WAYS)
def test_pieces_have_the_tokens_of_the_whole(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    normalizer, splitter, can_cut = WAYS[way]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if splitter is not None:
        tokenizer.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    wrapper = TokenizerWrapper.from_tokenizer(tokenizer)
    monkeypatch.setattr(encoding, "PIECE_CHARACTERS", 50)
    document = Document(TEXT, None, "a", None, "a:1")
    found = encoding.encode_documents([document], wrapper, token_dtype=np.dtype("u4"), with_text=True)
    (whole,) = wrapper.encode_batch([TEXT])
    assert wrapper.can_cut_at_spaces == can_cut
    assert found.tokens.tolist() == whole.ids
    assert found.spans is not None and [tuple(span) for span in found.spans] == whole.offsets


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("harbour noon"),
        AddedToken("and", rstrip=True),
        AddedToken("rain\N{NO-BREAK SPACE}and", normalized=True),
    ],
)
def test_an_added_token_that_reaches_over_a_space_keeps_texts_whole(
    monkeypatch: pytest.MonkeyPatch, token: AddedToken
) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    assert words_end_at_spaces(tokenizer)
    tokenizer.add_tokens([token])
    wrapper = TokenizerWrapper.from_tokenizer(tokenizer)
    monkeypatch.setattr(encoding, "PIECE_CHARACTERS", 50)
    document = Document(TEXT, None, "a", None, "a:1")
    found = encoding.encode_documents([document], wrapper, token_dtype=np.dtype("u4"), with_text=False)
    assert found.tokens.tolist() == wrapper.encode_batch([TEXT])[0].ids


def test_a_class_that_does_not_say_keeps_texts_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As older ones of someone's own may not."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(special_tokens=SPECIAL, show_progress=False))
    wrapper = TokenizerWrapper.from_tokenizer(tokenizer)
    own = SimpleNamespace(
        encode_batch=wrapper.encode_batch, plain_alignment=None, unk_token_id=wrapper.unk_token_id
    )
    monkeypatch.setattr(encoding, "PIECE_CHARACTERS", 50)
    document = Document(TEXT, None, "a", None, "a:1")
    found = encoding.encode_documents([document], own, token_dtype=np.dtype("u4"), with_text=False)
    assert found.tokens.tolist() == wrapper.encode_batch([TEXT])[0].ids
