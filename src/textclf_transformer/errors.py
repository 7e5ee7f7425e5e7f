"""The errors that a user can cause: each is one line that says what, where, found, expected and how to mend.

Every class carries the exit code of the commands, so that scripts can tell a bad config from bad data.
Anything that is not a ``UserError`` is a fault of this project and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Return ``text`` on one line, with escapes for control characters, which could drive a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def short_name(name: str, *, several: bool = False) -> str:
    """Return the name of a label or a document for a table: of a long one the beginning and the end.

    ``several`` labels of one document, side by side, have more room.
    """
    characters = 400 if several else 120
    half = (characters - 3) // 2
    return name if len(name) <= characters else f"{name[:half]} … {name[-half:]}"


def listed(names: Sequence[str], *, at_most: int = 5, count: int | None = None) -> str:
    """Return ``a, b and 3 more``: the first names, long ones shortened, and how many more there are.

    ``count`` is of all of them where ``names`` has only some.
    """
    some = [short_name(name) for name in names[:at_most]]
    more = (len(names) if count is None else count) - len(some)
    return ", ".join(some) + (f" and {more:,} more" if more else "")


def counted(number: int, noun: str) -> str:
    """Return ``1 document``, ``1,234 documents``: the number with its noun, which takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def not_read(tokens: int) -> str:
    """Return ``1 token is not read``, ``1,234 tokens are not read``."""
    return f"{counted(tokens, 'token')} {'is' if tokens == 1 else 'are'} not read"


def stand_in(number: int, place: str) -> str:
    """Return ``stand in PLACE as well``, which is ``stands`` of one document."""
    return f"{'stands' if number == 1 else 'stand'} in {place} as well"


def first_line(fault: BaseException) -> str:
    """Return the first line of what a fault says, its class where it says nothing; torch adds pages."""
    return str(fault).strip().split("\n", maxsplit=1)[0][:300] or type(fault).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the memory of the machine or of the GPU is used up."""
    # By name and text: this module starts without torch, and torch's CPU allocator has no class of its own.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


class UserError(Exception):
    """A fault in what the user gave; ``str(error)`` is one line without control characters.

    Args:
        what: what is wrong, in a few words.
        where: the file with line, row or key.
        found: the value that was found.
        expected: what would have been right.
        mend: what to do about it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: object = None,
        expected: str | None = None,
        mend: str | None = None,
    ) -> None:
        parts = [what]
        if where is not None:
            parts.append(where)
        comparison = []
        if found is not None:
            comparison.append(f"found {found}")
        if expected is not None:
            comparison.append(f"expected {expected}")
        if comparison:
            parts.append(", ".join(comparison))
        if mend is not None:
            parts.append(mend)
        self.lines: tuple[str, ...] = (printable("; ".join(parts)),)
        super().__init__(self.lines[0])


class UsageError(UserError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(UserError):
    """The YAML file, or a ``--set``, is wrong; carries all problems of the file at once."""

    exit_code = 2

    @classmethod
    def from_problems(cls, problems: Sequence[str]) -> ConfigError:
        """Return one error for several problems, each a line of its own in ``lines``."""
        error = cls(problems[0])
        error.lines = tuple(printable(problem) for problem in problems)
        error.args = ("\n".join(error.lines),)
        return error


class DataError(UserError):
    """A document, label, token id or data file is wrong."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint cannot be read, does not fit, or a resume is refused."""

    exit_code = 4


class NonFiniteError(UserError):
    """The loss or a gradient is NaN or infinite; nothing was updated or saved."""

    exit_code = 5


class StorageError(UserError):
    """The disk is full, read-only or gone, or a permission is missing."""

    exit_code = 6


class RunInUseError(UserError):
    """Another process works in the same run folder."""

    exit_code = 7
