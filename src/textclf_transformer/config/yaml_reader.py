"""YAML into plain data, with the line of every key: PyYAML's parser, but YAML 1.2's scalars and none of
YAML's traps.

PyYAML follows YAML 1.1, where ``no`` is false, ``1e-4`` is text and ``12:30`` is 750; it takes the last of
two equal keys and expands aliases until the memory is full. Here ``true`` and ``false`` are the booleans,
numbers are what a reader takes for numbers, and duplicate keys, anchors, aliases, tags and deep nesting are
errors.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
SCALARS = (
    (NULL, re.compile(r"(?:~|null|Null|NULL|)"), ["~", "n", "N", ""]),
    (BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)"), list("tTfF")),
    (INT, re.compile(r"[-+]?[0-9]+"), list("-+0123456789")),
    (
        FLOAT,
        re.compile(
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        list("-+.0123456789"),
    ),
)


class YamlError(Exception):
    """The text is not YAML, or not the YAML that is read here.

    Attributes:
        line: where, counted from 1.
    """

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


@dataclass(slots=True)
class Document:
    """A mapping read from YAML.

    Attributes:
        data: plain Python values.
        lines: dotted key → line, counted from 1.
        problems: (dotted key, line, what is wrong), for what does not keep the rest from being read.
    """

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, int, str]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern.pattern})$"), _first)


def read_mapping(text: str) -> Document:
    """Read one YAML mapping; an empty text is an empty mapping.

    Raises:
        YamlError: the text cannot be read as YAML, or uses what is not allowed here.
    """
    node = compose(text)
    document = Document()
    if isinstance(node, MappingNode):
        document.data = _build_mapping(node, "", document)
    elif node is not None and not (isinstance(node, ScalarNode) and node.tag == NULL):
        raise YamlError("this is not a list of sections, each with keys below it", node.start_mark.line + 1)
    return document


def read_value(text: str) -> Any:
    """Read one scalar, or one list of scalars or of flat sections, as on the command line.

    Raises:
        YamlError: as for ``read_mapping``; or the value is a section, nested deeper, has faulty keys, or a
            comment behind it.
    """
    node = compose(text)
    # Behind the last scalar no # can be anything else; on a command line it was hardly meant as a comment.
    if "#" in text[_last_end(node) :]:
        raise YamlError("what follows # would be lost as a comment", 1)
    if node is None:
        return None
    items = node.value if isinstance(node, SequenceNode) else [node]
    if isinstance(node, SequenceNode):  # a section in a list stands for its values
        items = [value for item in items for value in _values(item)]
    if not all(isinstance(item, ScalarNode) for item in items):
        raise YamlError("only a single value or a list, of values or of flat sections, can be given here", 1)
    document = Document()
    value = _build(node, "", document)
    if document.problems:
        _, line, what = document.problems[0]
        raise YamlError(what, line)
    return value


def _last_end(node: Node | None) -> int:
    """Return where the last scalar, or empty list, ends in the text."""
    while isinstance(node, SequenceNode | MappingNode) and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return 0 if node is None else int(node.end_mark.index)


def _values(node: Node) -> list[Node]:
    return [value for _, value in node.value] if isinstance(node, MappingNode) else [node]


def compose(text: str) -> Node | None:
    """Return the tree of YAML nodes, whose marks say where in ``text`` each stands.

    Raises:
        YamlError: as for ``read_mapping``.
    """
    try:
        # A first pass, which needs no recursion, so that the second cannot run out of stack or memory.
        _check_events(text)
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(_explain(error), 1 if mark is None else mark.line + 1) from error
    except (ValueError, OverflowError):  # PyYAML makes a character of whatever number stands behind \U
        escapes = re.finditer(r"\\U([0-9A-Fa-f]{8})", text)
        place = next((found for found in escapes if int(found[1], 16) > sys.maxunicode), None)
        if place is None:
            raise
        line = text.count("\n", 0, place.start()) + 1
        raise YamlError(f"{place[0]} is the number of no character", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"the character {error.character!r} is not allowed in YAML", line) from error


def to_plain(node: Node) -> Any:
    """Return the plain Python value of a node."""
    return _build(node, "", Document())


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "this is not YAML"
    if "'\\t'" in problem:
        return "a tab stands where YAML wants spaces; indent with spaces"
    context = f" ({error.context})" if error.context else ""
    return f"this is not YAML: {problem}{context}"


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise YamlError(f"this is nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(event, yaml.AliasEvent):
            raise YamlError("aliases (*name) are not read here; write the value out", line)
        if getattr(event, "anchor", None) is not None:
            raise YamlError("anchors (&name) are not read here; write the value out", line)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(f"tags ({tag}) are not read here", line)


def _build(node: Node, key: str, document: Document) -> Any:
    if isinstance(node, MappingNode):
        return _build_mapping(node, key, document)
    if isinstance(node, SequenceNode):
        return [_build(item, f"{key}.{index}", document) for index, item in enumerate(node.value)]
    return _build_scalar(node.tag, node.value)


def _build_mapping(node: MappingNode, parent: str, document: Document) -> dict[str, Any]:
    """Return the mapping; the first of duplicate keys counts, as the file is refused anyway."""
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        name = key_node.value if isinstance(key_node, ScalarNode) else None
        if name is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            document.problems.append(
                (parent, line, f"{name or 'this'!r} is not a key; keys are single words")
            )
            continue
        dotted = f"{parent}.{name}" if parent else name
        if name in built:
            first = document.lines[dotted]
            document.problems.append((dotted, line, f"this key stands twice, first in line {first}"))
            continue
        document.lines[dotted] = line
        built[name] = _build(value_node, dotted, document)
    return built


def _build_scalar(tag: str, text: str) -> str | int | float | bool | None:
    if tag == NULL:
        return None
    if tag == BOOL:
        return text.lower() == "true"
    if tag == INT:
        # Python refuses to convert thousands of digits; as text it is refused as the wrong type.
        return int(text) if len(text) < 100 else text
    if tag == FLOAT:
        # Python writes infinity and NaN without YAML's dot.
        return float(re.sub(r"\.(?=[in])", "", text.lower()))
    return text
