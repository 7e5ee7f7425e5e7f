from __future__ import annotations

import bz2
import gzip
import lzma
import random
from pathlib import Path
from typing import Any

import pytest

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.errors import DataError

KINDS = [(".gz", gzip), (".bz2", bz2), (".xz", lzma)]


def texts(number: int) -> bytes:
    """Text that does not compress away; its streams are larger than what is read at a time."""
    drawn = random.Random(number)
    return "".join(f"{drawn.randbytes(1000).hex()}\n\n" for _ in range(100)).encode()


def count(path: Path) -> int:
    return sum(1 for _ in Corpus([path]))


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
@pytest.mark.parametrize("padding", [0, 4, 200_000])
def test_every_stream_of_a_file_is_read(tmp_path: Path, suffix: str, compress: Any, padding: int) -> None:
    """As pbzip2 and ``cat`` write them; xz allows zeros between and behind its streams."""
    path = tmp_path / f"a.txt{suffix}"
    zeros = bytes(padding)
    path.write_bytes(compress.compress(texts(1)) + zeros + compress.compress(texts(2)) + zeros)
    assert count(path) == 200


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
def test_bytes_that_begin_no_stream_are_damage_and_no_end(tmp_path: Path, suffix: str, compress: Any) -> None:
    """The standard library stops there for bzip2 and xz, and what follows is lost without a word."""
    path = tmp_path / f"a.txt{suffix}"
    second = bytearray(compress.compress(texts(2)))
    second[1] ^= 1
    for behind in (bytes(second), b"something else", b"\0" * 8 + b"something else"):
        path.write_bytes(compress.compress(texts(1)) + behind)
        with pytest.raises(DataError, match=f"damaged.*a.txt{suffix}"):
            count(path)


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
def test_a_file_that_ends_early_is_cut_off(tmp_path: Path, suffix: str, compress: Any) -> None:
    path = tmp_path / f"a.txt{suffix}"
    second = compress.compress(texts(2))
    for there in (b"", compress.compress(texts(1)) + second[:3], compress.compress(texts(1)) + second[:-9]):
        path.write_bytes(there)
        with pytest.raises(DataError, match=f"cut off.*a.txt{suffix}"):
            count(path)
