from __future__ import annotations

import importlib.machinery
import re
import subprocess
import sys
from pathlib import Path

import pytest

from textclf_transformer.data import documentation_corpus
from textclf_transformer.data.documentation_corpus import (
    LIBRARIES,
    NAMES,
    docstrings,
    documentation_documents,
    without_names,
)
from textclf_transformer.errors import DataError

SOURCE = '''"""Module words."""
raise SystemExit("this must never run")

class First:
    """Class words."""

    async def method(self):
        r"""Method \\d words."""

if True:
    try:
        def inner():
            "Inner words."
    except ImportError:
        def inner():
            """Other words."""
x = """no docstring"""
'''


def test_docstrings_come_in_the_order_of_the_file() -> None:
    assert docstrings(SOURCE.encode()).split("\n\n") == [
        "Module words.",
        "Class words.",
        "Method \\d words.",
        "Inner words.",
        "Other words.",
    ]


@pytest.mark.parametrize("source", [b"print 'two'", b"\x00", b"\xff\xfe", b"{{ template }} def"])
def test_source_that_does_not_parse_gives_nothing(source: bytes) -> None:
    assert docstrings(source) == ""


def test_half_a_character_is_replaced() -> None:
    docstrings(b'"""half \\ud800 pair"""').encode("utf-8")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Use np.linalg.norm from NumPy.", "Use linalg.norm from ."),
        ("import torch.nn as nn; PyTorch", "import nn as nn; "),
        ("`scikit-learn` and sklearn.svm", "`` and svm"),
        ("plt.plot(x), nx.Graph, mpl_toolkits", "plot(x), Graph, mpl_toolkits"),
        ("scipy.sparse matplotlib, SymPy", "sparse , "),
        ("from_numpy and networkxerror stay", "from_numpy and networkxerror stay"),
        ("the snp and input stay", "the snp and input stay"),
    ],
)
def test_names_are_taken_out_as_words(text: str, left: str) -> None:
    assert without_names(text) == left


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two made-up libraries in the place of the real ones."""
    for package in ("torch", "numpy"):
        for name in ("b.py", "a.py", "sub/c.py"):
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'"""{package} {name} {"word " * 200}"""\nraise SystemExit', encoding="utf-8")
        (tmp_path / package / "code.py").write_text("word = 1\n" * 200, encoding="utf-8")
        (tmp_path / package / "short.py").write_text(
            '"""few words"""\n' + "x = 1 + 1\n" * 200, encoding="utf-8"
        )

    def find(package: str) -> importlib.machinery.ModuleSpec | None:
        if not (tmp_path / package).is_dir():
            return None
        spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path / package)]
        return spec

    monkeypatch.setattr(documentation_corpus.importlib.util, "find_spec", find)
    return tmp_path


def test_one_file_is_one_document_and_the_library_its_label(libraries: Path) -> None:
    documents = list(documentation_documents())
    assert [document.id for document in documents] == [
        f"{label}/{name}" for label in ("torch", "numpy") for name in ("a.py", "b.py", "sub/c.py")
    ]
    assert [document.label for document in documents] == ["torch"] * 3 + ["numpy"] * 3
    assert documents[0].text.startswith(" a.py word word")  # the name itself is gone


def test_no_library_at_all_is_an_error(libraries: Path) -> None:
    for package in ("torch", "numpy"):
        (libraries / package).rename(libraries / f"un{package}")
    with pytest.raises(DataError, match="none of the libraries"):
        list(documentation_documents())


def test_the_installed_libraries_are_read_and_not_imported() -> None:
    """On networkx alone, which is quick; in a process of its own, as this one has imported much."""
    code = """
import sys
from textclf_transformer.data import documentation_corpus as corpus
corpus.LIBRARIES = {"networkx": "networkx"}
documents = list(corpus.documentation_documents())
assert len(documents) > 100, len(documents)
assert "networkx" not in sys.modules
assert all(len(document.text.split()) >= 150 for document in documents)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_label_is_among_the_names_taken_out() -> None:
    pattern = re.compile("|".join(map(re.escape, NAMES)))
    for label, package in LIBRARIES.items():
        assert pattern.fullmatch(label)
        assert pattern.fullmatch(package)
