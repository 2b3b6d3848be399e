"""Collects everything that is wrong with an input, so that it is refused once and whole.

Owns Problems with its caps, and SyntaxFaultError, the one fault that makes a text unreadable. Is given places and
wording. Must not know formats or records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.visible import visible

# A person can't use more problems. Reading stops there, because a file full of nonsense has millions of them.
MAX_PROBLEMS = 100
MAX_VALUE = 80
# Objects of one kind, and elements of one list. The largest legal state has 65,536 ENIs and 200,000 rules.
MAX_OBJECTS = 1_000_000
# Levels of nesting. The deepest legal document has 9 (the cloud's answers, keyed by call).
MAX_DEPTH = 24


class EnoughProblemsError(Exception):
    """Ends the reading of an input that is wrong all over; never leaves this package."""


class SyntaxFaultError(Exception):
    """A text can't be read as JSON or YAML; never leaves this package, where it always ends as a Problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class DuplicateKeyError(Exception):
    """A parser met a key again, and doesn't know where it is."""


class Problems:
    """The first MAX_PROBLEMS problems of an input; one more ends the reading."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, where: Where, code: str, message: str, *, value: object = "", expected: str = "") -> None:
        """Note one problem; `value` is what the input says, `expected` what would be right.

        Raises:
            EnoughProblemsError: there are MAX_PROBLEMS already.
        """
        self.count += 1
        if self.count > MAX_PROBLEMS:
            raise EnoughProblemsError
        self.kept.append(Problem(where, code, message, show(value), expected))

    def keep(self, problem: Problem) -> None:
        """Note a problem that is made already."""
        self.add(problem.where, problem.code, problem.message, value=problem.value, expected=problem.expected)
        self.kept[-1] = replace(self.kept[-1], excerpt=problem.excerpt)

    def takes(self, values: Sequence[object], where: Callable[[], Where]) -> bool:
        """Return whether a list is short enough to be read at all; note a problem at that place if it isn't."""
        if len(values) > MAX_OBJECTS:
            expected = f"at most {MAX_OBJECTS} elements"
            self.add(where(), "InvalidSource.TooLarge", "the list is too long", value=len(values), expected=expected)
            return False
        return True

    def as_error(self) -> StateFileError:
        """Return the error to raise: the problems kept and, if there was one more, that reading stopped there."""
        if self.count <= MAX_PROBLEMS:
            return StateFileError(tuple(self.kept))
        message = f"there are more problems than these {MAX_PROBLEMS}: reading stopped here"
        return StateFileError((*self.kept, Problem(Where(), "InvalidDocument.TooManyProblems", message)))


def show(value: object) -> str:
    """Return a value as a person reads it: one line of printable characters, at most MAX_VALUE of them."""
    text = value if isinstance(value, str) else spell(value)
    text = visible(text[: MAX_VALUE + 1])
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."


def spell(value: object) -> str:
    """Return a scalar as JSON and YAML write it; of a collection, which may be huge, only its kind and size."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind} of {len(value)}"
    return str(value)


def make_malformed_fault(
    message: str, line: int = 0, expected: str = "", excerpt: tuple[str, int] = ("", 0)
) -> SyntaxFaultError:
    """Return the fault of a text that isn't JSON or YAML; `excerpt` is a line, and the column of the caret below it."""
    problem = Problem(Where("", line), "InvalidDocument.Malformed", message, expected=expected, excerpt=excerpt)
    return SyntaxFaultError(problem)


def make_depth_fault(line: int = 0) -> SyntaxFaultError:
    """Return the fault of a text with more than MAX_DEPTH levels."""
    message, expected = "the document is nested too deeply", f"at most {MAX_DEPTH} levels"
    return SyntaxFaultError(Problem(Where("", line), "InvalidDocument.TooDeep", message, expected=expected))


def make_tag_fault(value: str, line: int) -> SyntaxFaultError:
    """Return the fault of a YAML tag."""
    message = "YAML tags are not supported"
    return SyntaxFaultError(Problem(Where("", line), "InvalidDocument.Unsupported", message, value, "plain YAML"))


def make_size_fault(message: str, line: int, expected: str) -> SyntaxFaultError:
    """Return the fault of a text that stands for too much."""
    return SyntaxFaultError(Problem(Where("", line), "InvalidSource.TooLarge", message, expected=expected))


def make_duplicate_fault(pointer: str, line: int) -> SyntaxFaultError:
    """Return the fault of a mapping that has a key twice."""
    key = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    message, where = "the mapping has this key twice", Where("", line, pointer)
    return SyntaxFaultError(Problem(where, "InvalidDocument.DuplicateKey", message, key, "each key once"))
