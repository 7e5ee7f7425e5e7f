"""Fixtures that several tests of data use."""

from __future__ import annotations

import pytest
from store_cases import train

from textclf_transformer.tokenizer.base import TokenizerWrapper


@pytest.fixture(scope="module")
def tokenizer() -> TokenizerWrapper:
    return train("wordpiece")
