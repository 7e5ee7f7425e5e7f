"""Setting a key inside the text of a YAML file, so that its comments, order and layout stay."""

from __future__ import annotations

from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from textclf_transformer.config.overrides import Override, apply_overrides
from textclf_transformer.config.writing import in_line
from textclf_transformer.config.yaml_reader import compose, to_plain


def set_in_text(text: str, key: str, value: Any) -> str:
    """Return the YAML ``text`` with ``key`` (dotted) set to ``value``.

    Only the value itself is rewritten. A section that is null, or in braces, is rewritten in braces.

    Raises:
        KeyError: the text has no section, in block style, that could take the key.
    """
    node = compose(text)
    names = key.split(".")
    while names and isinstance(node, MappingNode):
        child = _child(node, names[0])
        if child is None:
            break
        node, names = child, names[1:]
    if not names and node is not None:
        return _replace(text, node, value)
    flow = isinstance(node, MappingNode) and node.flow_style
    if node is None or not (flow or isinstance(node, ScalarNode)):
        raise KeyError(key)
    section = to_plain(node)
    data = section if isinstance(section, dict) else {}
    apply_overrides(data, [Override(".".join(names), value)])
    return _replace(text, node, data)


def _child(node: MappingNode, name: str) -> Node | None:
    for key_node, value_node in node.value:
        if key_node.value == name:
            return value_node
    return None


def _replace(text: str, node: Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(node)
    # Nothing after "key:" is a null whose mark stands right behind the colon.
    space = " " if start == end else ""
    return text[:start] + space + in_line(value) + text[end:]


def _end(node: Node) -> int:
    """Return where the node's text ends; PyYAML ends a block behind the comments that follow it."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)
