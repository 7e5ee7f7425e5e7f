"""``textclf train-tokenizer``: learn a vocabulary from text."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from textclf_transformer.commands.common import command_parser, run_command
from textclf_transformer.commands.outputs import check_output_folder
from textclf_transformer.commands.text_input import add_text_flags, text_corpus
from textclf_transformer.data.corpus import FORMATS, Corpus
from textclf_transformer.data.encoding import pieces_of
from textclf_transformer.data.folders import building_folder
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from textclf_transformer.tokenizer.loading import WRAPPERS
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "textclf train-tokenizer", "Learn a vocabulary from text and write a tokenizer folder."
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=FORMATS)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--kind",
        choices=("wordpiece", "byte_bpe"),
        default="wordpiece",
        help="BERT's wordpiece or RoBERTa's byte_bpe (default: wordpiece)",
    )
    parser.add_argument(
        "--vocab-size", type=int, default=16000, metavar="N", help="tokens in all (default: 16000)"
    )
    parser.add_argument(
        "--min-frequency",
        type=int,
        default=2,
        metavar="N",
        help="how often a pair of pieces must occur to become a token (default: 2)",
    )
    parser.add_argument("--cased", action="store_true", help="wordpiece: keep case and accents")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    add_text_flags(parser)
    return run_command(parser, argv, _train)


def _train(arguments: argparse.Namespace) -> None:
    check_output_folder("--out", arguments.out)
    corpus = _CountedTexts(text_corpus(arguments, arguments.inputs))
    with building_folder(arguments.out, overwrite=arguments.overwrite, is_ours=is_tokenizer_folder) as folder:
        if not arguments.quiet:
            print(f"learning a {arguments.kind} vocabulary …", file=sys.stderr)
        tokenizer = _learn(arguments, corpus)
        wrapper = WRAPPERS[arguments.kind].from_tokenizer(tokenizer)
        wrapper.save(folder)
    print(f"documents   {corpus.documents}")
    print(f"characters  {corpus.characters}")
    print(f"vocabulary  {wrapper.vocab_size} tokens, {arguments.kind}")
    if arguments.kind == "wordpiece" and tokenizer.normalizer.strip_accents is False:
        print("accents     kept: in this text they tell words apart")
    print(f"written to  {arguments.out}")
    inputs = " ".join(shlex.quote(str(path)) for path in arguments.inputs)
    out = shlex.quote(str(arguments.out))
    print(f"next        textclf prepare {inputs} --tokenizer {out} --out STORE")


def _learn(arguments: argparse.Namespace, texts: _CountedTexts) -> Tokenizer:
    if arguments.kind == "wordpiece":
        tokenizer = train_wordpiece(
            texts,
            vocab_size=arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            lowercase=not arguments.cased,
        )
    else:
        tokenizer = train_byte_level_bpe(
            texts, vocab_size=arguments.vocab_size, min_frequency=arguments.min_frequency
        )
    if not texts.documents:
        raise DataError("there are no documents", where=", ".join(map(str, arguments.inputs)))
    return tokenizer


class _CountedTexts:
    """The texts of a corpus, counted anew in each pass; a long one comes in pieces that have its words, as
    the library takes fifty times the size of a text.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self.documents = self.characters = 0

    def __iter__(self) -> Iterator[str]:
        self.documents = self.characters = 0
        for document in self._corpus:
            self.documents += 1
            self.characters += len(document.text)
            for _, piece in pieces_of(document.text):
                yield piece


def is_tokenizer_folder(folder: Path) -> bool:
    """Whether ``folder`` holds a tokenizer and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return TOKENIZER_FILE in names and names <= {TOKENIZER_FILE, TOKENIZER_CONFIG_FILE}


if __name__ == "__main__":
    raise SystemExit(main())
