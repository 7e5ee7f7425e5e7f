from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textclf_transformer.training.vector_file import VectorFile

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(path: Path) -> None:
    with VectorFile(path, width=3, key="k") as file:
        file.append(VECTORS[:1])
        file.append(VECTORS[1:])
        file.commit()


def rows_found(path: Path, key: str = "k") -> int:
    with VectorFile(path, width=3, key=key) as file:
        return file.rows


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    write(tmp_path / "v.f32")
    with VectorFile(tmp_path / "v.f32", width=3, key="k") as file:
        assert np.array_equal(file.read(), VECTORS)
        file.append(VECTORS)
        file.commit()
        assert np.array_equal(file.read(), np.concatenate([VECTORS, VECTORS]))


def test_rows_beyond_the_record_are_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "v.f32")
    with (tmp_path / "v.f32").open("ab") as stream:
        stream.write(b"torn")
    with VectorFile(tmp_path / "v.f32", width=3, key="k") as file:
        file.append(VECTORS)
        file.commit()
        assert np.array_equal(file.read()[4:], VECTORS)


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "other key", "no record", "bad record", "endless", "gone"]
)
def test_a_file_that_is_not_whole_is_begun_anew(tmp_path: Path, damage: str) -> None:
    path, record = tmp_path / "v.f32", tmp_path / "v.json"
    write(path)
    assert rows_found(path) == 4
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[5] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "no record":
        record.unlink()
    elif damage == "bad record":
        record.write_text("{", encoding="utf-8")
    elif damage == "endless":
        record.write_text('{"rows": Infinity, "key": "k", "digest": ""}', encoding="utf-8")
    elif damage == "gone":
        path.unlink()
    assert rows_found(path, key="l" if damage == "other key" else "k") == 0
    assert path.stat().st_size == 0
