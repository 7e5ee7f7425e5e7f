"""What every tokenizer of the project does: text to content tokens, ids of special tokens, masking."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import torch
from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.models import BPE
from torch import Tensor

from textclf_transformer.atomic import atomic_write_text, make_folder
from textclf_transformer.errors import DataError, first_line
from textclf_transformer.tokenizer.alignment import PlainAlignment
from textclf_transformer.tokenizer.boundaries import words_end_at_spaces
from textclf_transformer.tokenizer.checks import check_unknown_token, check_vocabulary
from textclf_transformer.tokenizer.files import (
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    find_special_tokens,
    model_type_of,
    named_special_tokens,
    read_tokenizer_text,
)
from textclf_transformer.tokenizer.masking import mask_tokens


class TokenizerWrapper:
    """A ``tokenizers.Tokenizer`` that gives content tokens only, and knows which of its tokens are special.

    The special tokens come from the file: ``tokenizer_config.json`` names them (``pad_token`` …) or, where it
    does not, they are found by the names that BERT and RoBERTa use. Text that spells a special token
    (``[MASK]`` in a document) is text; it never becomes the special token. Truncation, padding and
    dropout of merges kept in the file are switched off, and so is the sampling of pieces.

    Args:
        tokenizer: the tokenizer; changed in place.
        special_tokens: role (pad, unk, cls, sep, mask) to token.
        origin: the file, for messages.

    Attributes:
        kind: the name that chooses the class in ``tokenizer.wrapper_path``.
        model_type: the ``model.type`` that its ``tokenizer.json`` must have.
    """

    kind: ClassVar[str] = ""
    model_type: ClassVar[str] = ""

    def __init__(
        self, tokenizer: Tokenizer, special_tokens: dict[str, str], *, origin: str = "tokenizer"
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # Otherwise the library looks for special tokens in the text itself.
        tokenizer.encode_special_tokens = True
        # The same text must always get the same ids.
        if isinstance(tokenizer.model, BPE):
            tokenizer.model.dropout = None
        elif hasattr(tokenizer.model, "alpha"):  # Unigram's sampling, in newer libraries
            tokenizer.model.alpha = None
        check_unknown_token(tokenizer, special_tokens["unk"], origin)
        self._tokenizer = tokenizer
        self._special_tokens = dict(special_tokens)
        self._role_ids = {
            role: _token_id(tokenizer, role, name, origin) for role, name in special_tokens.items()
        }
        self._refuse_special_tokens_from_text(origin)
        added_special = {
            index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special
        }
        special = added_special | set(self._role_ids.values())
        ids = set(tokenizer.get_vocab(with_added_tokens=True).values())
        check_vocabulary(ids, special, origin)
        self.special_token_ids: tuple[int, ...] = tuple(sorted(special))
        # The highest id, not the number of tokens: a vocabulary may have holes, and an embedding is indexed
        # by id.
        self.vocab_size: int = max(ids) + 1
        self._is_special = torch.zeros(self.vocab_size, dtype=torch.bool, device="cpu")
        self._is_special[list(self.special_token_ids)] = True
        self._regular_ids = torch.tensor(sorted(ids - special), dtype=torch.int64, device="cpu")

    @classmethod
    def load(cls, vocab_dir: Path | str) -> Self:
        """Read ``tokenizer.json``, and ``tokenizer_config.json`` where there is one, from the folder
        ``vocab_dir``.

        Raises:
            DataError: a file is missing or damaged, holds another kind of tokenizer, or lacks a special
                token.
        """
        path = Path(vocab_dir) / TOKENIZER_FILE
        text = read_tokenizer_text(path)
        model_type = model_type_of(text, path)
        if model_type != cls.model_type:
            raise DataError(
                "the tokenizer is of another kind",
                where=str(path),
                found=f"a {model_type} model",
                expected=f"{cls.model_type} for tokenizer.wrapper_path: {cls.kind}",
            )
        with _panics_named(path):
            try:
                tokenizer = Tokenizer.from_str(text)
            except Exception as error:  # the library raises plain Exception for whatever it cannot read
                raise DataError("this is no tokenizer file", where=str(path), found=str(error)) from error
        config_path = Path(vocab_dir) / TOKENIZER_CONFIG_FILE
        named = named_special_tokens(config_path) if config_path.is_file() else {}
        with _panics_named(path):  # it encodes for the first time
            return cls(tokenizer, find_special_tokens(tokenizer, named, str(path)), origin=str(path))

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> Self:
        """Wrap a tokenizer in memory; its special tokens must have the names of BERT or RoBERTa."""
        return cls(tokenizer, find_special_tokens(tokenizer, {}, "tokenizer"))

    @property
    def pad_token_id(self) -> int:
        """Id of the padding token."""
        return self._role_ids["pad"]

    @property
    def unk_token_id(self) -> int:
        """Id of the token that stands for what the vocabulary cannot write."""
        return self._role_ids["unk"]

    @property
    def cls_token_id(self) -> int:
        """Id of the token that every chunk starts with."""
        return self._role_ids["cls"]

    @property
    def sep_token_id(self) -> int:
        """Id of the token that every chunk ends with."""
        return self._role_ids["sep"]

    @property
    def mask_token_id(self) -> int:
        """Id of the token that hides a word in pretraining."""
        return self._role_ids["mask"]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides which ids a text gets, and of the special tokens' roles."""
        content = {"tokenizer": json.loads(self._tokenizer.to_str()), "special_tokens": self._special_tokens}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def encode_batch(self, texts: Sequence[str], *, with_offsets: bool = True) -> list[Encoding]:
        """Tokenise ``texts`` on all cores: content tokens only, of any length, no special tokens added.

        Args:
            texts: the documents.
            with_offsets: whether ``Encoding.offsets`` (characters of the text, start and end) are worked out;
                without them it is about a fifth faster and they are all (0, 0).
        """
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast
        return encode(list(texts), add_special_tokens=False)

    @property
    def plain_alignment(self) -> PlainAlignment | None:
        """Finds the places of tokens in plain text without the library; None where that is not possible."""
        return None

    @cached_property
    def can_cut_at_spaces(self) -> bool:
        """Whether a long text may be tokenised in pieces, see ``boundaries.words_end_at_spaces``."""
        return words_end_at_spaces(self._tokenizer)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of ``ids``, special tokens written out."""
        plain = ids.tolist() if isinstance(ids, Tensor) else [int(index) for index in ids]
        return self._tokenizer.decode(plain, skip_special_tokens=False)

    def id_to_token(self, index: int) -> str | None:
        """Return how the vocabulary writes the token ``index``; None for an id that it does not have."""
        return self._tokenizer.id_to_token(index)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` to ``folder``, which is made if need be.

        The folder also loads in Hugging Face's ``PreTrainedTokenizerFast``.
        """
        make_folder(folder)
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        config |= {f"{role}_token": token for role, token in self._special_tokens.items()}
        atomic_write_text(folder / TOKENIZER_FILE, self._tokenizer.to_str(pretty=True) + "\n")
        atomic_write_text(
            folder / TOKENIZER_CONFIG_FILE, json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        )

    def mask_input_for_mlm(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        mask_p: float,
        mask_token_p: float,
        random_token_p: float,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Choose targets for masked-language-model training; see ``masking.mask_tokens``.

        Args:
            input_ids: int64, (S,) or (B, S).
            attention_mask: bool of the same shape, True = PAD.
            mask_p: share of the tokens that become targets; special tokens and padding never do.
            mask_token_p: share of the targets replaced with the mask token.
            random_token_p: share of the targets replaced with a word drawn from the whole non-special
                vocabulary.
            generator: CPU generator that decides everything.

        Returns:
            (ids, labels), new tensors of the shape and on the device of ``input_ids``.
        """
        return mask_tokens(
            input_ids,
            attention_mask,
            is_special=self._is_special,
            regular_ids=self._regular_ids,
            mask_token_id=self.mask_token_id,
            mask_p=mask_p,
            mask_token_p=mask_token_p,
            random_token_p=random_token_p,
            generator=generator,
        )

    def _refuse_special_tokens_from_text(self, origin: str) -> None:
        """Check that no text can become a special token, now that the library itself leaves them alone.

        A tokenizer that divides text at spaces only may still find ``[MASK]`` among its words.
        """
        for role, token in self._special_tokens.items():
            for text in (token, f"a {token} b"):
                ids = self._tokenizer.encode(text, add_special_tokens=False).ids
                if role != "unk" and self._role_ids[role] in ids:
                    raise DataError(
                        "the tokenizer turns text into a special token",
                        where=origin,
                        found=repr(token),
                        expected="a pre-tokenizer that takes it apart, as BERT's and RoBERTa's do",
                    )


@contextlib.contextmanager
def _panics_named(path: Path) -> Iterator[None]:
    """Turn a panic of the library, which is written in Rust, into a DataError that names the file."""
    try:
        yield
    except BaseException as error:  # a panic is no Exception, and its class has no place to import it from
        if type(error).__name__ != "PanicException":
            raise
        raise DataError("this is no tokenizer file", where=str(path), found=first_line(error)) from error


def _token_id(tokenizer: Tokenizer, role: str, token: str, origin: str) -> int:
    index = tokenizer.token_to_id(token)
    if index is None:
        raise DataError(f"the {role} token is not in the vocabulary", where=origin, found=repr(token))
    known = tokenizer.get_added_tokens_decoder().get(index)
    if known is None or not known.special:
        # As a special token it is text like any other where a document spells it.
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    return int(index)
