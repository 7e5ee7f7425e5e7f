"""docs/config.md from the schema: every key of both kinds of runs; ``config.template`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from textclf_transformer.config.keys import allowed_values, fields_of, section_of
from textclf_transformer.config.schema import CONFIGS
from textclf_transformer.config.writing import in_line
from textclf_transformer.experiment import CHECKOUT, Kind

_HEAD = """# Every key of config.yaml

Made from the code by `python -m textclf_transformer.config.template`. The same text stands as comments in the
config that a generator stamps out. A key is set in the file or with `--set KEY=VALUE`; the command line goes
before the file, the file before the default. Behind `=` a text or a path is taken as it stands, also with `#`
or `: ` in it; in quotes it is read as YAML, as every other value is; `null` stays null where null is allowed.
Keys of optional sections (`data.val` …) are listed with a dot.
"""


def reference_path() -> Path:
    """Return where the page lies."""
    return CHECKOUT / "docs" / "config.md"


def render_reference() -> str:
    """Return the page as Markdown: keys of both kinds first, then those of one."""
    keys = {kind: _leaves(kind) for kind in CONFIGS}
    lines = {kind: {key: _line(kind, key, field) for key, field in keys[kind].items()} for kind in CONFIGS}
    pretraining, finetuning = lines["pretraining"], lines["finetuning"]
    shared = {key: line for key, line in pretraining.items() if finetuning.get(key) == line}
    parts = [
        ("Both kinds of runs", shared),
        ("Pretraining", {key: line for key, line in pretraining.items() if key not in shared}),
        ("Finetuning", {key: line for key, line in finetuning.items() if key not in shared}),
    ]
    return _HEAD + "".join(f"\n## {title}\n\n{''.join(_table(rows))}" for title, rows in parts)


def _leaves(kind: Kind) -> dict[str, FieldInfo]:
    return {key: field for key, field in fields_of(kind).items() if section_of(field) is None}


def _line(kind: Kind, key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{in_line(field.default)}`"
    cells = [f"`{key}`", default, allowed_values(key, kind), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _table(rows: dict[str, str]) -> Iterator[str]:
    yield "| key | default | values | meaning |\n|---|---|---|---|\n"
    yield from rows.values()
