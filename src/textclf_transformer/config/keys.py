"""The keys of the config as the code declares them: which there are, what they allow, which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from textclf_transformer.config.schema import CONFIGS
from textclf_transformer.config.section import Section
from textclf_transformer.experiment import Kind


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section class that the field holds (or may hold, beside null), None for a plain value."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def walk(model: type[Section], parent: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, field) of all sections and keys below ``model``, in the order of the template."""
    for name, field in model.model_fields.items():
        dotted = f"{parent}.{name}" if parent else name
        yield dotted, field
        section = section_of(field)
        if section is not None:
            yield from walk(section, dotted)


@cache
def fields_of(kind: Kind) -> dict[str, FieldInfo]:
    """Return dotted key → field for the config of ``kind``."""
    return dict(walk(CONFIGS[kind]))


def fill_in_defaults(config: Mapping[str, Any], model: type[Section]) -> dict[str, Any]:
    """Return ``config`` with the keys it lacks at their defaults, as an older version has written it."""
    filled = dict(config)
    for name, field in model.model_fields.items():
        section = section_of(field)
        if name not in filled and not field.is_required():
            filled[name] = field.default if section is None or field.default is None else {}
        if section is not None and isinstance(filled.get(name), Mapping):
            filled[name] = fill_in_defaults(filled[name], section)
    return filled


@cache
def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON schema of the config of ``kind``, for editors that complete and check keys."""
    schema = CONFIGS[kind].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def nearest_key(key: str, kind: Kind) -> str | None:
    """Return the key of ``kind`` that is most likely meant by ``key``, in whatever section it stands; None if
    none is.

    A key of the same last word wins, then the most alike last word in the same section, then the most alike
    anywhere.
    """
    parent, _, name = key.rpartition(".")
    best, best_score = None, 0.0
    for candidate in fields_of(kind):
        candidate_parent, _, candidate_name = candidate.rpartition(".")
        score = difflib.SequenceMatcher(None, name, candidate_name).ratio()
        # Less than the step from "alike" to "equal", so that an equal word elsewhere beats an alike one here.
        if candidate_parent == parent:
            score += 0.09
        if score > best_score:
            best, best_score = candidate, score
    return best if best_score >= 0.7 else None


def allowed_values(key: str, kind: Kind) -> str:
    """Return in words what the key may hold, e.g. ``an integer from 1 to 100 or null``."""
    schema = json_schema(kind)
    here: dict[str, Any] = schema
    for name in key.split("."):
        here = _section_schema(here, schema)["properties"][name]
    return _in_words(here, schema)


def _section_schema(here: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow the reference to a section, which may be one of several options."""
    for option in (here, *here.get("anyOf", ())):
        if "$ref" in option:
            return root["$defs"][option["$ref"].rpartition("/")[2]]
    return here


def _in_words(schema: dict[str, Any], root: dict[str, Any]) -> str:
    if "anyOf" in schema:
        options = [_in_words(option, root) for option in schema["anyOf"]]
        # behind a list, "or null" would read as a word about its items
        return (", or " if any(map(_is_list, schema["anyOf"])) else " or ").join(options)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "$ref" in schema:
        return "keys below it"
    kind = schema.get("type")
    words = {"boolean": "true or false", "string": "text", "null": "null"}
    if kind in words:
        return words[kind]
    if kind == "array":
        items = schema["items"]
        if "$ref" in items:
            return f"a list of one or more {_section_in_words(_section_schema(items, root))}"
        # an integer is read as its text
        kinds = {option.get("type") for option in items.get("anyOf", [items])}
        return "a list of texts" if "string" in kinds else f"a list, each {_in_words(items, root)}"
    return {"integer": "an integer", "number": "a number"}[str(kind)] + _range_in_words(schema)


def _section_in_words(section: dict[str, Any]) -> str:
    """Return the keys of a section in a list, and the words of a choice: ``{k, train: head or all}``."""
    words = {
        name: " or ".join(map(str, value.get("enum", ()))) for name, value in section["properties"].items()
    }
    return f"{{{', '.join(f'{name}: {choice}' if choice else name for name, choice in words.items())}}}"


def _is_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array"


def _range_in_words(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    bounds = [
        f"{word} {schema[keyword]}"
        for keyword, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if keyword in schema
    ]
    return f" {' and '.join(bounds)}" if bounds else ""
