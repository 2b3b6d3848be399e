"""Collects everything that is wrong with an input, so that it is refused once and whole.

Owns Problems and its cap. Is given places and wording. Must not know formats or records.
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.visible import visible

# What a person can use. Reading stops there: nonsense makes millions.
MAX_PROBLEMS = 100
MAX_VALUE = 80
# Of one kind, and in one list. The largest legal state has 65,536 ENIs and 200,000 rules.
MAX_OBJECTS = 1_000_000


class EnoughProblemsError(Exception):
    """Raised out of the reading of an input that is wrong all over; internal to this package."""


class Problems:
    """A list of the first MAX_PROBLEMS; one more ends the reading."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, where: Where, code: str, message: str, *, value: object = "", expected: str = "") -> None:
        """Note one problem; `value` is what the input says, `expected` what would be right."""
        self.count += 1
        if self.count > MAX_PROBLEMS:
            raise EnoughProblemsError
        self.kept.append(Problem(where, code, message, show(value), expected))

    def takes(self, values: Sequence[object], where: Where) -> bool:
        """Whether a list is short enough to be read at all; a problem if it isn't."""
        if len(values) > MAX_OBJECTS:
            expected = f"at most {MAX_OBJECTS} elements"
            self.add(where, "InvalidSource.TooLarge", "a list is too long", value=len(values), expected=expected)
            return False
        return True

    def as_error(self) -> StateFileError:
        """The error to raise: what was kept and, if there was one more, that reading stopped there."""
        if self.count <= MAX_PROBLEMS:
            return StateFileError(tuple(self.kept))
        message = f"there are more problems than these {MAX_PROBLEMS}: reading stopped here"
        return StateFileError((*self.kept, Problem(Where(), "InvalidDocument.TooManyProblems", message)))


def show(value: object) -> str:
    """A value as a person reads it: one line of printable characters, at most MAX_VALUE of them."""
    text = value if isinstance(value, str) else spell(value)
    text = visible(text[: MAX_VALUE + 1])
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."


def spell(value: object) -> str:
    """Scalars as JSON and YAML write them, collections by their kind only: they may be huge."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind} of {len(value)}"
    return str(value)
