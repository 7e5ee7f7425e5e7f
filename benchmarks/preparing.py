"""Preparing text: ``textclf prepare`` beside the ``tokenizers`` library's ``encode_batch`` alone.

The text is the documentation inside the installed libraries, as often as it takes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.harness import compare
from textclf_transformer.commands import prepare
from textclf_transformer.data.documentation_corpus import documentation_documents
from textclf_transformer.data.store_format import Header
from textclf_transformer.tokenizer.files import TOKENIZER_FILE
from textclf_transformer.tokenizer.training import train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

CPU = torch.device("cpu")
VOCAB_SIZE = 16_000
CHARACTERS = 4_000_000  # of different text
DOCUMENTS_AT_ONCE = 1_000

HEADER = (
    "text",
    "kept",
    "prepare",
    "encode_batch",
    "speed of encode_batch reached (pairs)",
    "peak MiB of prepare",
)


@dataclass(frozen=True, slots=True)
class TextWork:
    """Text on the disk, and how it is prepared.

    Attributes:
        folder: holds ``corpus.jsonl`` and ``tokenizer/``; stores are written beside them.
        keep_text: whether the store keeps the text and the tokens' places.
    """

    folder: Path
    keep_text: bool

    @property
    def corpus(self) -> Path:
        """The documents."""
        return self.folder / "corpus.jsonl"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.folder / "tokenizer"


class OurPreparing:
    """``textclf prepare`` from the JSONL file to the finished store."""

    def __init__(self, work: TextWork) -> None:
        self._work = work
        self._store = work.folder / ("store" if work.keep_text else "store without text")

    def run(self) -> None:
        """Prepare the corpus."""
        work = self._work
        arguments = [work.corpus, "--out", self._store, "--overwrite", "--tokenizer", work.tokenizer]
        flags = ["--quiet", "--no-labels", *([] if work.keep_text else ["--no-text"])]
        with contextlib.redirect_stdout(io.StringIO()):
            code = prepare.main([*map(str, arguments), *flags])
        if code:
            raise RuntimeError(f"textclf prepare ended with code {code}")

    def check(self) -> list[float]:
        """Return the number of tokens."""
        self.run()
        return [float(Header.read(self._store).tokens)]


class TheirEncoding:
    """``encode_batch`` over texts that are in memory already; what it returns is dropped."""

    def __init__(self, work: TextWork) -> None:
        self._tokenizer = Tokenizer.from_file(str(work.tokenizer / TOKENIZER_FILE))
        with work.corpus.open(encoding="utf-8") as lines:
            self._texts = [json.loads(line)["text"] for line in lines]

    def run(self) -> None:
        """Encode all texts."""
        self._encode()

    def check(self) -> list[float]:
        """Return the number of tokens."""
        return [float(self._encode())]

    def _encode(self) -> int:
        tokens = 0
        for start in range(0, len(self._texts), DOCUMENTS_AT_ONCE):
            texts = self._texts[start : start + DOCUMENTS_AT_ONCE]
            tokens += sum(map(len, self._tokenizer.encode_batch(texts, add_special_tokens=False)))
        return tokens


def write_corpus(folder: Path, *, characters: int) -> None:
    """Write ``corpus.jsonl`` of so many characters into ``folder``, and the tokenizer learned on its text."""
    texts, size = [], 0
    for document in documentation_documents():
        texts.append(document.text)
        size += len(document.text)
        if size >= min(characters, CHARACTERS):
            break
    tokenizer = train_wordpiece(texts, vocab_size=VOCAB_SIZE, min_frequency=2, lowercase=True)
    WordPieceTokenizerWrapper.from_tokenizer(tokenizer).save(folder / "tokenizer")
    written = 0
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for text in itertools.cycle(texts):
            file.write(json.dumps({"text": text}) + "\n")
            written += len(text)
            if written >= characters:
                return


def measure_preparing(sizes: tuple[int, ...], *, repetitions: int) -> dict[str, Any]:
    """Measure corpora of these many characters; the peak of memory must not grow with them."""
    rows, measured = [], []
    for characters in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_corpus(folder, characters=characters)
            for keep_text in (True, False):
                work = TextWork(folder, keep_text)
                result = compare(
                    functools.partial(OurPreparing, work),
                    functools.partial(TheirEncoding, work),
                    repetitions=repetitions,
                    device=CPU,
                )
                measured.append({"characters": characters, "keep_text": keep_text, **result})
                low, high = result["ratios"]
                rows.append(
                    [
                        f"{characters / 1e6:g} million characters",
                        "tokens, text, places" if keep_text else "tokens only",
                        *(
                            f"{characters / result[side]['seconds'] / 1e6:.2f} MB/s"
                            for side in ("ours", "theirs")
                        ),
                        f"**{result['ratio']:.0%}** ({low:.0%}–{high:.0%})",
                        f"{result['ours']['peak_mib']:,.0f}",
                    ]
                )
    return {
        "measured": measured,
        "tables": [{"header": HEADER, "rows": rows}],
        "note": "Asked for: at least 90 %, memory flat. `encode_batch` (with offsets, its default) has its "
        "texts in memory and drops what it returns; `prepare` reads JSONL and writes the store. "
        f"Token counts differ by {max(entry['difference'] for entry in measured):.0e}.",
    }
