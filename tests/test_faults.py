"""Every fault on the page has a test that provokes it: one that exists, is run, and is not in doubt."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
SECTIONS = ["Losing work", "Wrong results in silence", "Files from strangers", "Bad data"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the cells of each row of the page's tables."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| what goes wrong |"):
            fault, answer, tests = line.strip("| ").split(" | ")
            yield fault, answer, tests


@cache
def functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("fault", "answer", "tests"), list(rows()), ids=lambda cell: str(cell)[:40])
def test_a_fault_has_a_test_that_provokes_it(fault: str, answer: str, tests: str) -> None:
    assert fault
    assert answer
    named = TEST.findall(tests)
    assert named
    assert not TEST.sub("", tests).strip(), "something else stands among the tests"
    for file, name in named:
        function = functions(ROOT / file).get(name)
        assert function is not None, f"{file} has no {name}"
        marks = {ast.unparse(mark) for mark in function.decorator_list}
        assert not [mark for mark in marks if re.search(r"skip|xfail|slow|cuda", mark)], (
            f"{name} is not run on each change"
        )


def test_the_page_is_whole() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    found = list(rows())
    assert len(found) >= 50
    assert len({fault for fault, _, _ in found}) == len(found)
