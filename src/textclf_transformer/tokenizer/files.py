"""The files of a tokenizer folder: their names, and what is read from them before the library sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from textclf_transformer.atomic import storage_errors
from textclf_transformer.errors import DataError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

# What the special tokens are called where tokenizer_config.json does not say: BERT's names and RoBERTa's.
KNOWN_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


def model_type_of(text: str, path: Path) -> str:
    """Return ``model.type`` of the ``tokenizer.json`` with this text, ``unknown`` where it has none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("this is no JSON", where=str(path), found=str(error)) from error
    model = content.get("model") if isinstance(content, dict) else None
    model_type = model.get("type") if isinstance(model, dict) else None
    # Files written before 2020 leave the type out; only BPE has merges.
    if model_type is None and isinstance(model, dict):
        model_type = "BPE" if "merges" in model else None
    return str(model_type or "unknown")


def read_tokenizer_text(path: Path) -> str:
    """Return the text of a tokenizer file.

    Raises:
        DataError: there is none, or it is not UTF-8.
        StorageError: the disk or the permissions keep it from being read, or links lead in a circle.
    """
    with storage_errors(path):
        try:
            return path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DataError(
                "there is no tokenizer here", where=str(path), mend=_way_to_a_tokenizer(path)
            ) from error
        except UnicodeDecodeError as error:
            raise DataError("not UTF-8", where=str(path), found=str(error)) from error


def _way_to_a_tokenizer(path: Path) -> str:
    if path.with_name("config.json").is_file():  # a published model: another vocabulary would be no use to it
        # without these two, transformers says nothing but that tiktoken is missing
        first = "pip install sentencepiece protobuf, then " if any(path.parent.glob("*.model")) else ""
        return (
            f"{first}write the model's own with transformers: "
            "AutoTokenizer.from_pretrained(OLD).save_pretrained(NEW); see docs/hugging_face.md"
        )
    return "make one with `textclf train-tokenizer`, or name a folder that has a tokenizer.json"


def named_special_tokens(path: Path) -> dict[str, str]:
    """Return role to token as the config names them; a token is a string or ``{"content": string}``."""
    try:
        config: Any = json.loads(read_tokenizer_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError("this is no JSON", where=str(path), found=str(error)) from error
    if not isinstance(config, dict):
        raise DataError("not a tokenizer config", where=str(path), expected="a JSON object")
    named = {}
    for role in KNOWN_NAMES:
        token = config.get(f"{role}_token")
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            named[role] = token
    return named


def find_special_tokens(tokenizer: Tokenizer, named: dict[str, str], origin: str) -> dict[str, str]:
    """Return role to token: as named, or else the known name that is an added special token of the file."""
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    found = dict(named)
    for role, names in KNOWN_NAMES.items():
        if role in found:
            continue
        candidates = [name for name in names if name in added]
        if not candidates:
            raise DataError(
                f"the tokenizer has no {role} token",
                where=origin,
                expected=f"a special token {' or '.join(names)}, or {role}_token in {TOKENIZER_CONFIG_FILE}",
            )
        found[role] = candidates[0]
    if len(set(found.values())) < len(found):
        raise DataError("two roles share one special token", where=origin, found=str(found))
    return found
