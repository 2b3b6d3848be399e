"""Collects everything that is wrong with an input, so that it is refused once and whole.

Owns Problems and its cap. Is given places and wording. Must not know formats or records.
"""

from __future__ import annotations

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.visible import visible

# What a person can use, and where counting stops: nonsense makes millions.
MAX_PROBLEMS = 100
MAX_COUNTED = 10_000
MAX_VALUE = 80
# In one list. The largest legal state has 65,536 ENIs and 200,000 rules.
MAX_OBJECTS = 1_000_000


class EnoughProblemsError(Exception):
    """Raised out of the reading of an input that is wrong all over; internal to this package."""


class Problems:
    """A list of Problem that keeps the first MAX_PROBLEMS and counts the rest, up to MAX_COUNTED."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, where: Where, code: str, message: str, *, value: object = "", expected: str = "") -> None:
        """Note one problem; `value` is what the input says, `expected` what would be right."""
        self.count += 1
        if self.has_room:
            self.kept.append(Problem(where, code, message, show(value), expected))
        if self.count == MAX_COUNTED:
            raise EnoughProblemsError

    @property
    def has_room(self) -> bool:
        """Whether the next problem will be kept; if not, no work on its wording is worth while."""
        return len(self.kept) < MAX_PROBLEMS

    def takes(self, values: list[object], where: Where) -> bool:
        """Whether a list is short enough to be read at all; a problem if it isn't."""
        if len(values) > MAX_OBJECTS:
            expected = f"at most {MAX_OBJECTS} elements"
            self.add(where, "InvalidSource.TooLarge", "a list is too long", value=len(values), expected=expected)
            return False
        return True

    def as_error(self) -> StateFileError:
        """The error to raise: what was kept and, if any were not, how many more there are."""
        more = self.count - len(self.kept)
        if not more:
            return StateFileError(tuple(self.kept))
        at_least = "at least " if self.count == MAX_COUNTED else ""
        message = f"and {at_least}{more} more problems, not shown"
        last = Problem(Where(), "InvalidDocument.TooManyProblems", message)
        return StateFileError((*self.kept, last))


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
