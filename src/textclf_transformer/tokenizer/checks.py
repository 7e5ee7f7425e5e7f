"""What a tokenizer file must not do: lose text, or give out one word for another, without a word."""

from __future__ import annotations

import json

from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel

from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.steps import steps_of

# The embedding, and tables beside it, are indexed by id: one huge id would take gigabytes. The largest
# published vocabularies have about a million tokens.
HIGHEST_ID = 1 << 24


def check_vocabulary(ids: set[int], special_ids: set[int], origin: str) -> None:
    """Raise DataError where there is no token but special ones, or an id is absurdly high."""
    if not ids - special_ids:
        raise DataError("the vocabulary has special tokens only", where=origin)
    if max(ids) > HIGHEST_ID:
        raise DataError("an id is too high", where=origin, found=max(ids), expected=f"at most {HIGHEST_ID}")


def check_unknown_token(tokenizer: Tokenizer, unknown: str, origin: str) -> None:
    """Check that the model writes what it does not know as the unknown token, and leaves nothing out.

    Args:
        tokenizer: to be checked.
        unknown: the token of the role ``unk``.
        origin: the file, for messages.

    Raises:
        DataError: the model's own token for unknown words is not in its vocabulary (it would fail at the
            first such word), or is another one (its words would be counted as known); or it has none, and
            cannot write every text.
    """
    if isinstance(tokenizer.model, BPE) and _writes_all_bytes(tokenizer):
        return  # nothing is unknown to it, whatever its model has for that
    token = _models_unknown(tokenizer)
    if token is None:
        if isinstance(tokenizer.model, Unigram):
            raise DataError(
                "the tokenizer fails at the first text that its vocabulary cannot write",
                where=origin,
                found="a Unigram model without unk_id",
                mend=f'set "unk_id" in its model to the id of {unknown}',
            )
        if isinstance(tokenizer.model, BPE):
            raise DataError(
                "the tokenizer leaves out, without a word, what its vocabulary cannot write",
                where=origin,
                found="a BPE model without unk_token, and not all 256 bytes in its vocabulary",
                mend=f'set "unk_token": "{unknown}" in its model, or train it on bytes: '
                "textclf train-tokenizer --kind byte_bpe",
            )
    elif tokenizer.model.token_to_id(token) is None:
        raise DataError(
            "the token that the model has for unknown words is not in its vocabulary",
            where=origin,
            found=repr(token),
        )
    elif token != unknown:
        raise DataError(
            "the model writes unknown words as another token than the unknown one",
            where=origin,
            found=f"{token!r} in its model",
            expected=repr(unknown),
        )


def _models_unknown(tokenizer: Tokenizer) -> str | None:
    """Return the token that the model itself has for what it does not know."""
    if isinstance(tokenizer.model, Unigram):
        unk_id = json.loads(tokenizer.model.__getstate__())["unk_id"]
        return None if unk_id is None else str(tokenizer.id_to_token(unk_id))
    return getattr(tokenizer.model, "unk_token", None)


def _writes_all_bytes(tokenizer: Tokenizer) -> bool:
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if tokenizer.model.byte_fallback:
        return all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer)
    kinds = {step["type"] for part in parts for step in steps_of(part)}
    return "ByteLevel" in kinds and all(byte in vocabulary for byte in ByteLevel.alphabet())
