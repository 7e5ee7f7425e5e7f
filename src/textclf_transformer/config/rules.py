"""What is wrong with a value, and how rules over several keys report it through pydantic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

BROKEN_RULE = "broken_rule"
_SHORT = 60  # characters of a value that is shown


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a config.

    Attributes:
        key: the dotted key, "" for the whole file.
        what: what is wrong.
        found: the value, as the user would write it.
        expected: what would have been right.
        mend: what to do.
    """

    key: str
    what: str
    found: str | None = None
    expected: str | None = None
    mend: str | None = None


def first_problem(error: ValidationError) -> Problem:
    """Return the first thing that is wrong with data that come from no config file, as a checkpoint's."""
    details = error.errors(include_url=False)[0]
    if details["type"] == BROKEN_RULE:
        return Problem(**details["ctx"]["problems"][0])
    is_missing = details["type"] == "missing"
    return Problem(
        ".".join(map(str, details["loc"])),
        "wrong value",
        found="nothing" if is_missing else _in_words(details["input"]),
        expected="such an entry" if is_missing else details["msg"].removeprefix("Input should be "),
    )


def _in_words(value: Any) -> str:
    """Return a plain value as it is, of another its type: a repr may be as large as the file."""
    is_plain = value is None or isinstance(value, str | int | float)
    return repr(value)[:_SHORT] if is_plain else f"a {type(value).__name__}"


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise one pydantic error that carries all ``problems``, if there are any."""
    found = [asdict(problem) for problem in problems]
    if found:
        raise PydanticCustomError(BROKEN_RULE, "a rule over several keys is broken", {"problems": found})
