"""What counts as a word where no tokenizer says so."""

from __future__ import annotations

import re

# Thai, Lao, Tibetan, Burmese, Khmer; Japanese, Bopomofo and Chinese, with their marks and narrow letters
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
UNSPACED = re.compile(f"[{_UNSPACED}]+")
"""A stretch of a script that has no spaces between its words."""

_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """Divide a text at its spaces, and stretches without spaces between words into their characters."""
    if text.isascii() or not UNSPACED.search(text):
        return text.split()
    return _WORD.findall(text)
