"""Numbers in messages agree with their nouns and verbs."""

from __future__ import annotations

import pytest

from textclf_transformer.errors import counted, not_read, stand_in


@pytest.mark.parametrize(("number", "noun", "words"), [(1, "row", "1 row"), (0, "row", "0 rows")])
def test_a_noun_takes_an_s_unless_it_is_one(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_one_takes_another_verb() -> None:
    assert [not_read(number) for number in (1, 1234)] == ["1 token is not read", "1,234 tokens are not read"]
    assert [stand_in(number, "val") for number in (1, 2)] == ["stands in val as well", "stand in val as well"]
