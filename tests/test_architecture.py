"""The house keeps its shape: imports run one way, loading goes through one door, files stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import textclf_transformer

PACKAGE = Path(textclf_transformer.__file__).parent
NAME = PACKAGE.name

# Each room may import from itself and from the rooms named here.
BASE = {"allocator", "errors", "utils", "config", "experiment", "safe_load", "atomic", "__init__"}
ALLOWED = {
    "tokenizer": BASE,
    "data": BASE | {"tokenizer"},
    "model": BASE - {"config"},  # modules take scalars
    "training": BASE | {"tokenizer", "data", "model"},
    "evaluation": BASE | {"tokenizer", "data", "model", "training"},
    "commands": BASE | {"tokenizer", "data", "model", "training", "evaluation"},
}


def modules() -> Iterator[Path]:
    return PACKAGE.rglob("*.py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of this package that a file imports."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == NAME:
                names = [f"{NAME}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == NAME:
                rooms.add(parts[1] if len(parts) > 1 else "__init__")
    return {room for room in rooms if not room.startswith("__")}


@pytest.mark.parametrize("path", sorted(modules()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in {"__init__", "__main__"}:
        return  # the front door may show any room
    allowed = ALLOWED.get(room, BASE) | {room}
    assert imported_rooms(path) <= allowed


def test_loop_knows_neither_yaml_nor_roberta() -> None:
    rooms = imported_rooms(PACKAGE / "training" / "loop.py")
    assert not rooms & {"config", "model", "tokenizer"}


def test_one_door_for_loading() -> None:
    forbidden = {
        ("torch", "load"),
        ("yaml", "load"),
        ("yaml", "unsafe_load"),
        ("yaml", "full_load"),
        ("numpy", "load"),
    }
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert not imported & {"pickle", "dill", "joblib", "marshal", "shelve"}, path
        if path.name == "safe_load.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name):
                    assert (owner.id, node.func.attr) not in forbidden, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", sorted(modules()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert lines_without_docstring(node) <= 60, node.name


def lines_without_docstring(function: ast.FunctionDef) -> int:
    """Lines from ``def`` to the end, of which those of the docstring do not count."""
    first = function.body[0]
    described = ast.get_docstring(function, clean=False) is not None
    documentation = first.end_lineno - first.lineno + 1 if described else 0
    return function.end_lineno - function.lineno + 1 - documentation


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    return 1\n", 2),
        ('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n', 2),
        ("def f(\n    a,\n):\n\n    # why\n    return a\n", 6),
    ],
)
def test_a_docstring_makes_no_function_long(source: str, lines: int) -> None:
    (function,) = ast.parse(source).body
    assert lines_without_docstring(function) == lines


def test_every_text_file_is_opened_as_utf8() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if name in {"read_text", "write_text"}:
                    assert any(keyword.arg == "encoding" for keyword in node.keywords), (
                        f"{path}:{node.lineno}"
                    )
