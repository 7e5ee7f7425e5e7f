"""What is odd about a text: its length, its characters, repetition, a wrong encoding, markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

REPETITIVE = "repetitive"
ODDITIES = {
    "very short": "fewer than 5 words",
    "few letters": "less than half of the characters are letters",
    "one character repeated": "more than 40 % of the characters are the same one",
    REPETITIVE: "fewer than 3 in 10 runs of three words are new",
    "wrong encoding": "marks of a text read in a wrong encoding, such as Ã© or �",
    "control characters": "characters that no text has, such as NUL",
    "markup": "tags or entities of HTML, such as <br> or &amp;",
}
"""Name of each oddity and what it means."""

SHORT_WORDS = 5
_LEAST_LETTERS = 0.5
_MOST_OF_ONE_CHARACTER = 0.4
_LEAST_NEW_RUNS = 0.3

# A shorter text is made of few characters and runs anyway.
_CHARACTERS_TO_JUDGE = 40
_RUNS_TO_JUDGE = 50

# UTF-8 read as Latin-1 or Windows-1252: the first byte of two or three becomes Ã, Â or â€.
_MOJIBAKE = re.compile("Ã[\u0080-\u00bf\u0152-\u017e\u2018-\u2122]|Â[\u0080-\u00bf]|â€.|ï»¿")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_MARKUP = re.compile(
    r"</?(?:p|br|div|span|a|b|i|li|ul|td|tr|table|script|style|font|h[1-6])\b[^<>]*>"
    r"|&(?:[a-z]{2,6}|#\d{2,5});"
)
_MARKUP_MARKS = 3

# with the marks upon letters, which are vowels in many scripts
_IS_LETTER = np.array([category(chr(code))[0] in "LM" for code in range(1 << 16)])
_IS_SPACE = np.array([chr(code).isspace() for code in range(1 << 16)])


def oddities(text: str | None, *, words: int) -> Iterator[str]:
    """Yield names of ``ODDITIES``: what is odd about a document, apart from repetition (``repetitive``).

    Args:
        text: None where it is not kept; then only the length is judged.
        words: its words (tokens, where there is no text).
    """
    if words < SHORT_WORDS:
        yield "very short"
    if text is None:
        return
    codes = _codes(text)
    codes = codes[~_IS_SPACE[codes]]
    if len(codes) >= _CHARACTERS_TO_JUDGE:
        if _IS_LETTER[codes].mean() < _LEAST_LETTERS:
            yield "few letters"
        if np.bincount(codes).max() > _MOST_OF_ONE_CHARACTER * len(codes):
            yield "one character repeated"
    if "\ufffd" in text or _MOJIBAKE.search(text):
        yield "wrong encoding"
    if _CONTROL.search(text):
        yield "control characters"
    # one alone may be a text about HTML
    if len(list(islice(_MARKUP.finditer(text), _MARKUP_MARKS))) == _MARKUP_MARKS:
        yield "markup"


def repetitive(runs: NDArray[np.int64], distinct: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool (N,): whether a document says the same again and again.

    Args:
        runs: runs of three units in each document, (N,).
        distinct: how many of them are different, (N,).
    """
    return (runs >= _RUNS_TO_JUDGE) & (distinct < _LEAST_NEW_RUNS * runs)


def _codes(text: str) -> NDArray[np.uint32]:
    """Return the characters as numbers; beyond 16 bits (rare letters, emoji) one that stands for letter or
    other sign.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    beyond = codes >= 1 << 16
    if not beyond.any():
        return codes
    letter, other = ord("a"), 0xE000  # of the private use area: neither letter nor space
    replaced = [letter if chr(code).isalpha() else other for code in codes[beyond]]
    codes = codes.copy()
    codes[beyond] = replaced
    return codes
