"""Where the tokens of plain text stand in it, worked out from the tokens' lengths.

The ``tokenizers`` library tells it too, at a fifth of its own time and as Python objects, which take longer
still to turn into arrays. In text of the usual Western letters and punctuation, normalisation gives one
character for each character or takes a space, so WordPiece tokens without their prefix spell out what is not
space, one after the other: the first token takes the first so many characters, and so on. The unknown token
stands for a whole word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

# Latin letters with all their accents, and general punctuation: no character here becomes several, and none
# changes with its neighbours.
_PLAIN = (range(0x250), range(0x2000, 0x2070))
_END = max(part.stop for part in _PLAIN)
_SPACE, _LETTER, _PUNCTUATION, _OTHER = range(4)


@dataclass(frozen=True, slots=True)
class TextCharacters:
    """The characters of some texts, one text after the other.

    Attributes:
        kinds: uint8 (characters,): space, letter (or digit …), punctuation, or other.
        starts: int64 (texts + 1,), where each text begins, and the end of the last.
    """

    kinds: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @property
    def plain(self) -> NDArray[np.bool_]:
        """(texts,): whether no character of a text is other."""
        others = np.concatenate(([0], np.cumsum(self.kinds == _OTHER)))
        plain: NDArray[np.bool_] = others[self.starts[1:]] == others[self.starts[:-1]]
        return plain


class PlainAlignment:
    """Places of tokens without the library.

    Args:
        tokenizer: one that ``supports``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        model, normalizer, splitter = tokenizer.model, tokenizer.normalizer, tokenizer.pre_tokenizer
        self._kinds = np.full(_END + 1, _OTHER, dtype=np.uint8)
        for code in (code for part in _PLAIN for code in part):
            text = chr(code) if normalizer is None else normalizer.normalize_str(chr(code))
            if len(text) == 1:  # nothing is left of a control character
                parts = len(splitter.pre_tokenize_str(f"a{text}a"))
                self._kinds[code] = {1: _LETTER, 2: _SPACE, 3: _PUNCTUATION}[parts]
        vocab = tokenizer.get_vocab(with_added_tokens=True)
        self._unknown_id = vocab[model.unk_token]
        self._widths = np.zeros(max(vocab.values()) + 1, dtype=np.int64)
        for token, index in vocab.items():
            self._widths[index] = len(token.removeprefix(model.continuing_subword_prefix))
        self._widths[self._unknown_id] = 0

    @staticmethod
    def supports(tokenizer: Tokenizer) -> bool:
        """Whether it is WordPiece as BERT has it: text is divided at spaces and punctuation, and there are no
        added tokens but special ones, which text never becomes.
        """
        return (
            isinstance(tokenizer.model, WordPiece)
            and isinstance(tokenizer.normalizer, (BertNormalizer, type(None)))
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
        )

    def characters(self, texts: Sequence[str]) -> TextCharacters:
        """Return what the characters of ``texts`` are."""
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in texts], out=starts[1:])
        codes = np.frombuffer("".join(texts).encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
        return TextCharacters(self._kinds[np.minimum(codes, _END)], starts)

    def places(
        self, characters: TextCharacters, ids: NDArray[np.unsignedinteger], token_starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Return the characters of each token, and for which texts they are right.

        They are right where a text's tokens are as long together as what is to be spelled.

        Args:
            characters: of texts that are all plain.
            ids: the tokens of all these texts, one text after the other.
            token_starts: int64 (texts + 1,), where each text's tokens begin, and the end of the last.

        Returns:
            (tokens, 2), first character and the one after the last, counted in the token's text; and bool
            (texts,).
        """
        spelled = np.flatnonzero(characters.kinds != _SPACE)
        first_spelled = np.searchsorted(spelled, characters.starts)
        widths = self._widths[ids]
        self._measure_unknown(ids, widths, token_starts, characters.kinds, spelled, first_spelled)
        ends = np.cumsum(widths)
        sums = np.concatenate(([0], ends))[token_starts]
        right = np.diff(sums) == np.diff(first_spelled)
        # counted in each text anew, so that one that is not right does not shift the next
        counts = np.diff(token_starts)
        ends += np.repeat(first_spelled[:-1] - sums[:-1], counts)
        text_starts = np.repeat(characters.starts[:-1], counts)
        spans = np.zeros((len(ids), 2), dtype=np.uint32)
        if len(spelled):
            last = len(spelled) - 1
            spans[:, 0] = spelled[np.clip(ends - widths, 0, last)] - text_starts
            spans[:, 1] = spelled[np.clip(ends - 1, 0, last)] + 1 - text_starts
        return spans, right

    def _measure_unknown(
        self,
        ids: NDArray[np.unsignedinteger],
        widths: NDArray[np.int64],
        token_starts: NDArray[np.int64],
        kinds: NDArray[np.uint8],
        spelled: NDArray[np.int64],
        first_spelled: NDArray[np.int64],
    ) -> None:
        """Put the lengths of the unknown tokens, which are 0 so far, into ``widths``."""
        unknown = np.flatnonzero(ids == self._unknown_id)
        if not len(unknown) or not len(spelled):
            return
        word_ends = _word_ends(kinds, spelled, first_spelled)
        before = np.concatenate(([0], np.cumsum(widths)))
        texts = np.searchsorted(token_starts, unknown, side="right") - 1
        begins = (first_spelled[:-1] - before[token_starts[:-1]])[texts] + before[unknown]
        shift, current = 0, -1
        # one after the other: where one begins depends on the lengths of those before it in the text
        for token, text, begin in zip(unknown.tolist(), texts.tolist(), begins.tolist(), strict=True):
            shift, current = shift if text == current else 0, text
            place = min(begin + shift, len(spelled) - 1)
            widths[token] = word_ends[np.searchsorted(word_ends, place, side="right")] - place
            shift += int(widths[token])


def _word_ends(
    kinds: NDArray[np.uint8], spelled: NDArray[np.int64], first_spelled: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where words end, counted in spelled characters; a punctuation mark is a word."""
    is_mark = kinds[spelled] == _PUNCTUATION
    last = np.ones(len(spelled), dtype=bool)
    last[:-1] = (np.diff(spelled) > 1) | is_mark[:-1] | is_mark[1:]
    last[first_spelled[first_spelled > 0] - 1] = True  # of a text
    return np.flatnonzero(last) + 1
