"""A folder is there whole or not at all, and other people's stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf_transformer.data.folders import building_folder
from textclf_transformer.errors import UsageError


def anything(folder: Path) -> bool:
    return True


def nothing(folder: Path) -> bool:
    return False


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, stop: type[BaseException]) -> None:
    def build(overwrite: bool) -> None:
        with building_folder(tmp_path / "out", overwrite=overwrite, is_ours=anything) as folder:
            (folder / "half").write_text("x", encoding="utf-8")
            raise stop

    with pytest.raises(stop):
        build(overwrite=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old", encoding="utf-8")
    with pytest.raises(stop):
        build(overwrite=True)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/old"]


def test_overwrite_replaces_the_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with building_folder(tmp_path / "deep" / "out", overwrite=True, is_ours=anything) as folder:
            (folder / name).write_text("x", encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "out", "new"]


@pytest.mark.parametrize(
    ("overwrite", "message"), [(False, "--overwrite to replace"), (True, "holds other files")]
)
def test_other_peoples_folders_stay(tmp_path: Path, overwrite: bool, message: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("x", encoding="utf-8")
    with (
        pytest.raises(UsageError, match=message),
        building_folder(tmp_path / "out", overwrite=overwrite, is_ours=nothing),
    ):
        raise AssertionError("the block must not run")
    assert (tmp_path / "out" / "thesis.doc").exists()
