from __future__ import annotations

from textclf_transformer.evaluation.evidence import shortened


def test_a_long_passage_is_shown_by_its_ends_on_one_line():
    assert shortened(" one\n two\tthree ") == "one two three"
    text = " ".join(f"word{number}" for number in range(100))
    short = shortened(text, characters=50)
    assert len(short) <= 50 and short.startswith("word0 word1") and short.endswith("word98 word99")
    assert " … " in short
    exact = "x" * 50
    assert shortened(exact, characters=50) == exact
