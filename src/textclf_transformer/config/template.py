"""The config templates, from the schema; ``python -m textclf_transformer.config.template`` renews all pages.

Every key stands there with its meaning, its unit, its default and what it may hold; a key without a default
holds a placeholder that ``load_config`` refuses.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.config.keys import allowed_values, json_schema, section_of
from textclf_transformer.config.reader import PLACEHOLDER
from textclf_transformer.config.reference import reference_path, render_reference
from textclf_transformer.config.schema import CONFIGS
from textclf_transformer.config.section import Section
from textclf_transformer.config.writing import in_line
from textclf_transformer.experiment import CHECKOUT, Kind

WIDTH = 100


def template_path(kind: Kind) -> Path:
    """Return where the template of ``kind`` lies."""
    return CHECKOUT / "config_templates" / f"{kind}.yaml"


def schema_path(kind: Kind) -> Path:
    """Return where the JSON schema of ``kind`` lies, to which the first line of a config points editors."""
    return CHECKOUT / "config_templates" / f"{kind}.schema.json"


def render_template(kind: Kind) -> str:
    """Return the commented YAML template."""
    head = [
        # Relative to experiments/<kind>/<name>/config.yaml, where the copies of the template stand.
        f"# yaml-language-server: $schema=../../../config_templates/{kind}.schema.json",
        f"# A {kind} run: every key with its meaning, unit and default. Relative paths start at the",
        "# working directory. `--set KEY=VALUE` on the command line goes before what stands here.",
    ]
    return "\n".join([*head, *_section_lines(kind, CONFIGS[kind], "", 0)]) + "\n"


def render_schema(kind: Kind) -> str:
    """Return the JSON schema as the text of its file."""
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


def _section_lines(kind: Kind, model: type[Section], parent: str, depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        dotted = f"{parent}.{name}" if parent else name
        section = section_of(field)
        if depth == 0:
            yield ""
        if section is None or type(None) in get_args(field.annotation):
            yield from _comment(_describe(kind, dotted, field), depth)
            value = PLACEHOLDER if field.is_required() else in_line(field.default)
            yield f"{'  ' * depth}{name}: {value}"
        else:
            yield from _comment(inspect.cleandoc(section.__doc__ or ""), depth)
            yield f"{'  ' * depth}{name}:"
            yield from _section_lines(kind, section, dotted, depth + 1)


def _describe(kind: Kind, dotted: str, field: FieldInfo) -> str:
    facts = ["Required" if field.is_required() else f"Default: {in_line(field.default)}"]
    # What null means, and that a key is true or false, the rest of the line says already.
    allowed = allowed_values(dotted, kind).removesuffix(" or null").removesuffix(",")
    if allowed.startswith(("a number", "an integer", "auto")) or ", " in allowed:
        facts.append(allowed)
    return f"{field.description} [{'; '.join(facts)}]"


def _comment(text: str, depth: int) -> list[str]:
    prefix = "  " * depth + "# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)


def main() -> None:
    """Write the templates, the JSON schemas and the page of all keys."""
    for kind in CONFIGS:
        template_path(kind).parent.mkdir(exist_ok=True)
        atomic_write_text(template_path(kind), render_template(kind))
        atomic_write_text(schema_path(kind), render_schema(kind))
    atomic_write_text(reference_path(), render_reference())


if __name__ == "__main__":
    main()
