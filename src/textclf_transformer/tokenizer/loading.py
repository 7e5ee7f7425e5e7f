"""From ``tokenizer.wrapper_path`` and a folder to a tokenizer."""

from __future__ import annotations

import inspect
from pathlib import Path

from textclf_transformer.errors import DataError, UsageError, UserError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.byte_bpe_tokenizer_wrapper import ByteLevelBPETokenizerWrapper
from textclf_transformer.tokenizer.files import (
    KNOWN_NAMES,
    TOKENIZER_FILE,
    model_type_of,
    read_tokenizer_text,
)
from textclf_transformer.tokenizer.unigram_tokenizer_wrapper import UnigramTokenizerWrapper
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper
from textclf_transformer.utils import check_path, load_class

WRAPPERS: dict[str, type[TokenizerWrapper]] = {
    wrapper.kind: wrapper
    for wrapper in (WordPieceTokenizerWrapper, ByteLevelBPETokenizerWrapper, UnigramTokenizerWrapper)
}

NUMBERS = ("vocab_size", *(f"{role}_token_id" for role in KNOWN_NAMES))
METHODS = ("load", "save", "encode_batch", "decode", "id_to_token", "mask_input_for_mlm")
ATTRIBUTES = (*NUMBERS, "fingerprint", "kind", "plain_alignment")
"""What a class must have beside: ``TokenizerWrapper``, of which it may be a subclass, has all of it."""


def load_tokenizer(wrapper_path: str, vocab_dir: Path, *, trust_code: bool = False) -> TokenizerWrapper:
    """Load the tokenizer in the folder ``vocab_dir``.

    Args:
        wrapper_path: ``wordpiece``, ``byte_bpe``, ``unigram``, or ``FILE.py:CLASS`` for a class with the
            methods of ``TokenizerWrapper`` (``METHODS``, ``ATTRIBUTES``).
        vocab_dir: the folder with ``tokenizer.json``.
        trust_code: whether code from outside this package may be run.

    Raises:
        UsageError: the name is unknown, the code is not trusted, or the class lacks a method; one whose
            ``mask_input_for_mlm`` takes no ``generator`` is refused, as its masks could not be repeated.
        DataError: the folder holds no such tokenizer.
    """
    if wrapper_path in WRAPPERS:
        return WRAPPERS[wrapper_path].load(vocab_dir)
    if ":" not in wrapper_path:
        raise UsageError(
            "unknown tokenizer", found=repr(wrapper_path), expected=f"{', '.join(WRAPPERS)} or FILE.py:CLASS"
        )
    wrapper = load_class(wrapper_path, trust_code=trust_code)
    missing = [name for name in METHODS if not callable(getattr(wrapper, name, None))]
    if missing:
        raise UsageError(
            "the tokenizer class lacks methods", where=wrapper_path, found=f"no {', '.join(missing)}"
        )
    if "generator" not in inspect.signature(wrapper.mask_input_for_mlm).parameters:  # type: ignore[attr-defined]
        raise UsageError(
            "mask_input_for_mlm of the class takes no generator, so its masks could not be repeated",
            where=wrapper_path,
            mend="add a keyword `generator: torch.Generator` and draw every random number from it",
        )
    try:
        loaded: TokenizerWrapper = wrapper.load(vocab_dir)  # type: ignore[attr-defined]
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever foreign code raises
        found = f"{type(error).__name__}: {error}"
        raise UsageError("the tokenizer class does not load", where=wrapper_path, found=found) from error
    missing = [name for name in ATTRIBUTES if not hasattr(loaded, name)]
    if missing:
        raise UsageError(
            "the tokenizer class lacks attributes",
            where=wrapper_path,
            found=f"no {', '.join(missing)}",
            mend="make it a subclass of textclf_transformer.tokenizer.base.TokenizerWrapper, which has them",
        )
    types = {**dict.fromkeys(NUMBERS, int), "fingerprint": str}
    wrong = [name for name, kind in types.items() if type(getattr(loaded, name)) is not kind]
    if wrong:
        raise UsageError(
            "an attribute of the tokenizer class has a wrong type",
            where=wrapper_path,
            found=f"{wrong[0]}: {type(getattr(loaded, wrong[0])).__name__}",
            expected=types[wrong[0]].__name__,
            mend="make a method of that name a property, and a number of numpy's an int",
        )
    _try(loaded, wrapper_path)
    return loaded


def _try(tokenizer: TokenizerWrapper, where: str) -> None:
    """Raise UsageError where a class of someone's own gives other things than content tokens."""
    texts = ["a", "some words, to try it"]
    try:
        encodings = tokenizer.encode_batch(texts, with_offsets=True)
        ids = [list(map(int, encoding.ids)) for encoding in encodings]
        places = [len(encoding.offsets) for encoding in encodings]
        sizes = [len(encoding) for encoding in encodings]
    except Exception as error:  # whatever foreign code raises
        found = f"{type(error).__name__}: {error}"
        raise UsageError("encode_batch of the class fails", where=where, found=found) from error
    if len(ids) != len(texts) or not places == sizes == list(map(len, ids)):
        raise UsageError(
            "encode_batch of the class does not give, for each text, ids, as many offsets and their len()",
            where=where,
            found=f"{len(ids)} for {len(texts)} texts, of {list(map(len, ids))} ids, {places} offsets and "
            f"the lengths {sizes}",
        )
    given = {token for row in ids for token in row}
    if given and not 0 <= min(given) <= max(given) < tokenizer.vocab_size:
        raise UsageError(
            "encode_batch of the class gives ids outside its vocabulary",
            where=where,
            found=f"{min(given)} to {max(given)}",
            expected=f"0 to {tokenizer.vocab_size - 1}",
        )
    roles = [
        role for role in KNOWN_NAMES if role != "unk" and getattr(tokenizer, f"{role}_token_id") in given
    ]
    if roles:
        raise UsageError(
            "encode_batch of the class gives special tokens with the text",
            where=where,
            found=", ".join(roles),
            expected="content tokens only, as chunks get [CLS] and [SEP] of their own",
        )


def get_tokenizer(folder: Path | str) -> TokenizerWrapper:
    """Load a tokenizer for a notebook, whichever of the three kinds it is.

    Args:
        folder: with ``tokenizer.json``: what ``textclf train-tokenizer`` wrote, ``tokenizer/`` of a run, or
            a published model.

    Raises:
        DataError: there is no tokenizer, or it is of none of these kinds.
        ConfigError: ``folder`` is no path.
    """
    check_path(folder, "folder", expected="the path of a folder with tokenizer.json")
    folder = Path(folder)
    return load_tokenizer(tokenizer_kind(folder), folder)


def tokenizer_kind(vocab_dir: Path) -> str:
    """Return the name (one of ``WRAPPERS``) of the tokenizer in ``vocab_dir``, read from its file.

    Raises:
        DataError: there is no tokenizer, or it is of none of these kinds.
    """
    path = vocab_dir / TOKENIZER_FILE
    model_type = model_type_of(read_tokenizer_text(path), path)
    for kind, wrapper in WRAPPERS.items():
        if wrapper.model_type == model_type:
            return kind
    raise DataError(
        "the tokenizer is of a kind that has no wrapper",
        where=str(path),
        found=f"a {model_type} model",
        expected=", ".join(wrapper.model_type for wrapper in WRAPPERS.values()),
    )
