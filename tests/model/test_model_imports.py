"""The model imports the few rooms below it; neither it nor the data imports the other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import textclf_transformer

PACKAGE = Path(textclf_transformer.__file__).parent
BELOW_MODEL = {"allocator", "errors", "utils", "safe_load", "experiment", "model"}


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a file imports, inside functions too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("textclf_transformer.")}
    return rooms


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").rglob("*.py")), ids=lambda path: path.name)
def test_model_imports_only_what_lies_below_it(path: Path) -> None:
    assert imported_rooms(path) <= BELOW_MODEL


@pytest.mark.parametrize("path", sorted((PACKAGE / "data").rglob("*.py")), ids=lambda path: path.name)
def test_data_does_not_import_the_model(path: Path) -> None:
    assert "model" not in imported_rooms(path)
