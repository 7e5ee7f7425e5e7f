"""The tokenizer copied into a run folder: loaded, and compared with the one that the checkpoint names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textclf_transformer.errors import CheckpointError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer


def load_run_tokenizer(facts: Mapping[str, Any], folder: Path, *, trust_code: bool) -> TokenizerWrapper:
    """Load the tokenizer in ``folder``.

    Args:
        facts: the checkpoint's ``tokenizer``: wrapper_path, fingerprint, vocab_size.
        folder: the tokenizer's folder in the run.
        trust_code: whether a wrapper class outside this package may be run.

    Raises:
        CheckpointError: the folder is gone, or it is not the tokenizer that the checkpoint was trained with.
        DataError: it cannot be read.
        UsageError: its class is code from outside this package and is not trusted.
    """
    if not folder.is_dir():
        raise CheckpointError(
            "the run has lost its tokenizer",
            where=str(folder),
            mend="put it back, from a copy of the run or the folder that it was trained with",
        )
    tokenizer = load_tokenizer(facts["wrapper_path"], folder, trust_code=trust_code)
    if tokenizer.fingerprint != facts["fingerprint"]:
        raise CheckpointError(
            "the tokenizer in the run folder is not the one that the checkpoint was trained with",
            where=str(folder),
            found=f"tokenizer {tokenizer.fingerprint[:16]}…, {tokenizer.vocab_size} tokens",
            expected=f"{facts['fingerprint'][:16]}…, {facts['vocab_size']} tokens",
            mend="put the run's own tokenizer back",
        )
    return tokenizer
