"""YAML without its traps."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from textclf_transformer.config.writing import dump_yaml, in_line
from textclf_transformer.config.yaml_reader import YamlError, read_mapping, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3", 3),
        ("+3", 3),
        ("007", 7),
        ("3.", 3.0),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("NA", "NA"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("0x10", "0x10"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ('"true"', "true"),
        ("a=b c", "a=b c"),
        ("C:\\data\\x", "C:\\data\\x"),
        ("[1, a, 2.5]", [1, "a", 2.5]),
        ("[{a: 1, b: no}, {a: 2}]", [{"a": 1, "b": "no"}, {"a": 2}]),
        ("<<", "<<"),
        ("=", "="),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_are_what_a_reader_takes_them_for(text: str, value: Any) -> None:
    read = read_value(text)
    assert read == value and type(read) is type(value)


def test_infinity_and_nan_are_numbers_that_the_schema_refuses() -> None:
    assert read_value("-.inf") == -math.inf
    assert math.isnan(read_value(".NaN"))


@pytest.mark.parametrize(
    "text",
    [
        *("{a: 1}", "[[1]]", "[1", "*a", "&a 1", "!!int 3", "!x y", "a: 1", "@a"),
        *("[{a: [1]}]", "[{a: {b: 1}}]", "[{a: 1, a: 2}]", "[{1 2: 3}]"),
    ],
)
def test_other_than_scalars_and_lists_of_values_or_sections_are_no_values(text: str) -> None:
    with pytest.raises(YamlError):
        read_value(text)


def test_lines_of_keys_are_known() -> None:
    document = read_mapping("# comment\na:\n  b: 1\n\n  c: {d: 2}\ne:\n")
    assert document.data == {"a": {"b": 1, "c": {"d": 2}}, "e": None}
    assert document.lines == {"a": 2, "a.b": 3, "a.c": 5, "a.c.d": 5, "e": 6}


def test_duplicate_and_odd_keys_are_all_found() -> None:
    document = read_mapping("a: 1\nb: {c: 1, c: 2}\na: 2\n1: 2\nx.y: 3\n? [1]\n: 2\n")
    assert [(key, line) for key, line, _ in document.problems] == [
        ("b.c", 2),
        ("a", 3),
        ("", 4),
        ("", 5),
        ("", 6),
    ]
    assert document.data == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchor"),
        ("a: 1\n\nb: *x\n", 3, "alias"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a:\n\tb: 1\n", 2, "tab"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("- 1\n", 1, "sections"),
        ("text\n", 1, "sections"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("a: 1\nb: \x00\n", 2, "not allowed"),
        ("a: 1\nb: \x1b[31m\n", 2, "not allowed"),
    ],
)
def test_what_is_no_plain_yaml_is_named_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(YamlError, match=word) as caught:
        read_mapping(text)
    assert caught.value.line == line


def test_a_yaml_bomb_is_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
    )
    started = time.monotonic()
    with pytest.raises(YamlError, match="anchor"):
        read_mapping(bomb)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5_000, "a: " + "[" * 21 + "]" * 21])
def test_deep_nesting_is_refused_without_a_stack_overflow(text: str) -> None:
    with pytest.raises(YamlError, match="deeper than 20"):
        read_mapping(text)


def test_twenty_levels_are_read() -> None:
    assert read_mapping("a: " + "[" * 19 + "]" * 19).data["a"]


VALUES = [
    *(None, True, 3, -2, 1e-4, 1e-30, 0.1, 1e22, [1, "no", None]),
    *([{"from_epoch": 0, "train": "head"}, {"from_epoch": 1, "train": "no", "rate": None}],),
    *("no", "NA", "1e-4", "3", "true", "null", "", " a ", "a: b", "#x", "ä", "<FILL IN>", "C:\\x", "it's"),
    *("{", "a, b", "[x]", "'", '"', "-", "?", "!a", "x" * 300),
]


def test_what_is_written_is_read_back_the_same() -> None:
    data = {"section": {f"k{index}": value for index, value in enumerate(VALUES)}}
    assert read_mapping(dump_yaml(data)).data == data
    for value in VALUES:
        read = read_value(in_line(value))
        assert read == value and type(read) is type(value)
        assert "\n" not in in_line(value)


def test_text_that_yaml_1_1_misreads_is_quoted() -> None:
    assert dump_yaml({"a": "no", "b": "1e-4"}) == "a: 'no'\nb: '1e-4'\n"


@pytest.mark.parametrize("number", ["00110000", "FFFFFFFF"])
def test_a_number_of_no_character_is_named_with_its_line(number: str) -> None:
    """PyYAML hands it to Python as it is."""
    with pytest.raises(YamlError, match=rf"\\U{number} is the number of no character") as caught:
        read_mapping(f'a: C:\\Users\n# \\U0010FFFF is the last one\nb: "\\U{number}"\n')
    assert caught.value.line == 3
