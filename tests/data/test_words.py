from __future__ import annotations

import pytest

from textclf_transformer.data.words import words_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "two  words\n",
        "non\u00a0breaking\u2003spaces\x1c\x85here",
        "naïve — “quoted” 🙂",
        "कृपया हिन्दी",
        "한국어 띄어쓰기",
        "اللغة العربية",
    ],
)
def test_where_words_have_spaces_between_them_they_are_divided_there(text: str) -> None:
    assert words_of(text) == text.split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("深度学习 model训练", ["深", "度", "学", "习", "model", "训", "练"]),
        ("ｶﾅとかな、々", ["ｶ", "ﾅ", "と", "か", "な", "、", "々"]),
        ("ไทย ຄຳ", ["ไ", "ท", "ย", "ຄ", "ຳ"]),
        ("𠀀a\U00030000", ["𠀀", "a", "\U00030000"]),
        ("မြန်", ["မ", "ြ", "န", "်"]),
    ],
)
def test_where_they_have_none_each_character_is_one(text: str, words: list[str]) -> None:
    assert words_of(text) == words
