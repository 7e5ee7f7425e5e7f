"""A labelled corpus that every machine has after the install: the documentation inside the scientific
libraries.

The docstrings of one source file are one document, the library is its label. The files are parsed, never
imported. The libraries' names are taken out of the text, so that the label must be told from what is written
about.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError

# Label to the package's name, which is the folder's; all of them come with the project's own dependencies.
LIBRARIES = {
    "torch": "torch",
    "sympy": "sympy",
    "scipy": "scipy",
    "networkx": "networkx",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
}
# The libraries' names and what people call them in code; longer ones first, so that scikit-learn goes as a
# whole.
NAMES = (
    "scikit-learn",
    "scikit_learn",
    "matplotlib",
    "networkx",
    "pytorch",
    "sklearn",
    "pyplot",
    "pylab",
    "sympy",
    "scipy",
    "torch",
    "numpy",
    "mpl",
    "plt",
    "np",
    "nx",
    "sp",
)
MIN_WORDS = 150

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where the syntax tree keeps the statements inside a statement."""

_TRIPLE_QUOTED = re.compile(rb'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)

# A name as a whole word or as a part of a dotted path, whose dot goes with it: "np.linalg.norm" becomes
# "linalg.norm".
_NAME = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(NAMES)})(?![A-Za-z0-9_])(?:\.(?=\w))?", re.IGNORECASE)


def documentation_documents() -> Iterator[Document]:
    """Yield the documents, library by library, files in the order of their names; no groups.

    Files with fewer than ``MIN_WORDS`` words of docstrings are left out, and libraries that are not
    installed.

    Raises:
        DataError: none of the libraries is installed.
    """
    folders = {label: folder for label, package in LIBRARIES.items() if (folder := _package_folder(package))}
    if not folders:
        raise DataError(
            "none of the libraries of the demo corpus is installed", expected=", ".join(LIBRARIES)
        )
    for label, folder in folders.items():
        for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
            source = path.read_bytes()
            # Most files have few docstrings; seeing that without parsing them halves the time.
            if _quoted_words(source) < MIN_WORDS:
                continue
            text = without_names(docstrings(source))
            if len(text.split()) >= MIN_WORDS:
                identity = f"{label}/{path.relative_to(folder).as_posix()}"
                yield Document(text, label, identity, None, str(path))


def docstrings(source: bytes) -> str:
    """Return the docstrings of Python source in their order; "" where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""  # templates, and tests of what a parser must refuse
    found = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                found.append((getattr(node, "lineno", 0), docstring))
        # Definitions stand among statements; looking into expressions too would take as long as parsing.
        for block in BLOCKS:
            waiting.extend(getattr(node, block, ()))
    text = "\n\n".join(docstring for _, docstring in sorted(found))
    # A source may spell half a surrogate pair, which UTF-8 cannot write.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _quoted_words(source: bytes) -> int:
    """Return how many words stand between triple quotes, where docstrings of more than a line are."""
    return sum(len((double or single).split()) for double, single in _TRIPLE_QUOTED.findall(source))


def without_names(text: str) -> str:
    """Return ``text`` without the libraries' names."""
    return _NAME.sub("", text)


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
