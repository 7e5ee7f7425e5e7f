"""What is wrong with a value, and how rules over several keys report it through pydantic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pydantic_core import PydanticCustomError

BROKEN_RULE = "broken_rule"


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


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise one pydantic error that carries all ``problems``, if there are any."""
    found = [asdict(problem) for problem in problems]
    if found:
        raise PydanticCustomError(BROKEN_RULE, "a rule over several keys is broken", {"problems": found})
