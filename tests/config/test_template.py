"""The templates and JSON schemas say what the schema says, and ``--set`` keeps their comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf_transformer.config.editing import set_in_text
from textclf_transformer.config.keys import fields_of, section_of
from textclf_transformer.config.reader import PLACEHOLDER, flatten
from textclf_transformer.config.reference import reference_path, render_reference
from textclf_transformer.config.schema import CONFIGS
from textclf_transformer.config.template import render_schema, render_template, schema_path, template_path
from textclf_transformer.config.yaml_reader import read_mapping
from textclf_transformer.experiment import Kind
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS

KINDS: list[Kind] = list(CONFIGS)
# A null section has no line for the key below it.
UNLISTED = {"data.val.dataset_path", "data.test.dataset_path"}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_current(kind: Kind) -> None:
    """Renew them with ``python -m textclf_transformer.config.template``."""
    assert template_path(kind).read_text(encoding="utf-8") == render_template(kind)
    assert schema_path(kind).read_text(encoding="utf-8") == render_schema(kind)


def test_the_page_of_all_keys_is_current() -> None:
    page = reference_path().read_text(encoding="utf-8")
    assert page == render_reference()
    for kind in KINDS:
        for key, field in fields_of(kind).items():
            assert section_of(field) is not None or f"| `{key}` |" in page


@pytest.mark.parametrize("kind", KINDS)
def test_template_lists_every_key_with_its_default_and_meaning(kind: Kind) -> None:
    text = template_path(kind).read_text(encoding="utf-8")
    document = read_mapping(text)
    assert document.problems == []
    listed = flatten(document.data)
    leaves = {
        key: field for key, field in fields_of(kind).items() if section_of(field) is None or key in listed
    }
    assert listed.keys() == leaves.keys() - UNLISTED
    lines = text.splitlines()
    for key, value in listed.items():
        field = leaves[key]
        assert value == (PLACEHOLDER if field.is_required() else field.default), key
        assert field.description, key
        comment, above = "", document.lines[key] - 2
        while lines[above].strip().startswith("#"):
            comment = f"{lines[above].strip().removeprefix('# ')} {comment}"
            above -= 1
        assert field.description in comment, key
        assert ("Required" if field.is_required() else "Default: ") in comment, key


@pytest.mark.parametrize("kind", KINDS)
def test_what_auto_means_is_told_as_it_is(kind: Kind) -> None:
    description = fields_of(kind)["training.tokens_per_micro_batch"].description
    tokens = AUTO_MICRO_BATCH_TOKENS
    assert description is not None
    assert f"auto: {tokens['cpu']} on a CPU, {tokens['cuda']} on a GPU" in description


@pytest.mark.parametrize("kind", KINDS)
def test_schema_line_leads_to_the_schema_from_a_run_folder(kind: Kind) -> None:
    first = render_template(kind).splitlines()[0]
    relative = first.removeprefix("# yaml-language-server: $schema=")
    checkout = template_path(kind).parents[1]
    assert (checkout / "experiments" / kind / "name" / relative).resolve() == schema_path(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_json_schema_allows_what_the_reader_allows(kind: Kind) -> None:
    schema = render_schema(kind)
    assert schema.count('"additionalProperties": false') == schema.count('"type": "object"')
    for word in ('"$schema"', '"minimum"', '"description"', '"required"'):
        assert word in schema


TEXT = """\
# head
a:
  # about b
  b: 1  # behind b
  c: 'x'

# about d
d: null  # behind d
e:
f: {g: 1}
"""


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("a.b", 2.5, "b: 1  #", "b: 2.5  #"),
        ("a.c", "no", "c: 'x'", "c: 'no'"),
        ("a.c", None, "c: 'x'", "c: null"),
        ("d", 3, "d: null", "d: 3"),
        ("d.x", "y", "d: null", "d: {x: y}"),
        ("d.x.y", [1, 2], "d: null", "d: {x: {y: [1, 2]}}"),
        ("e", 3, "e:\n", "e: 3\n"),
        ("e.x", 3, "e:\n", "e: {x: 3}\n"),
        ("f.g", 2, "{g: 1}", "{g: 2}"),
        ("f.h", 2, "{g: 1}", "{g: 1, h: 2}"),
        ("a", None, "# about b\n  b: 1  # behind b\n  c: 'x'\n", "# about b\n  null\n"),
    ],
)
def test_setting_a_key_changes_its_value_and_nothing_else(
    key: str, value: object, old: str, new: str
) -> None:
    assert TEXT.count(old) == 1
    changed = set_in_text(TEXT, key, value)
    assert changed == TEXT.replace(old, new)
    here = read_mapping(changed).data
    for name in key.split("."):
        here = here[name]
    assert here == value


def test_a_key_without_a_place_is_an_error() -> None:
    with pytest.raises(KeyError):
        set_in_text(TEXT, "a.x", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_template_can_be_set(kind: Kind) -> None:
    text = template_path(kind).read_text(encoding="utf-8")
    before = flatten(read_mapping(text).data)
    for key in before:
        changed = flatten(read_mapping(set_in_text(text, key, "a: '#b'")).data)
        assert changed == {**before, key: "a: '#b'"}


def test_no_template_lies_outside_the_checkout() -> None:
    assert template_path("pretraining").parent == Path(__file__).resolve().parents[2] / "config_templates"
