"""What the two text formats have in common: how their faults are told, and how deep they may nest.

Owns SyntaxFaultError. Must not know either format.
"""

from __future__ import annotations

from sgdataplane.errors import Problem, Where

# The deepest legal document has 9 levels (an ECS answer keyed by its call).
MAX_DEPTH = 24


class SyntaxFaultError(Exception):
    """The one thing that makes a text unreadable; internal to this package, it always ends as a Problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def malformed(message: str, line: int = 0, expected: str = "") -> SyntaxFaultError:
    return SyntaxFaultError(Problem(Where("", line), "InvalidDocument.Malformed", message, expected=expected))


def too_deep(line: int = 0) -> SyntaxFaultError:
    expected = f"at most {MAX_DEPTH} levels"
    return SyntaxFaultError(Problem(Where("", line), "InvalidDocument.TooDeep", "nested too deeply", expected=expected))


def unsupported(value: str, line: int) -> SyntaxFaultError:
    message = "anchors, aliases and tags are not read"
    return SyntaxFaultError(Problem(Where("", line), "InvalidDocument.Unsupported", message, value, "plain YAML"))


def duplicate_key(pointer: str, line: int) -> SyntaxFaultError:
    key = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    message = "the same key twice in one mapping"
    where = Where("", line, pointer)
    return SyntaxFaultError(Problem(where, "InvalidDocument.DuplicateKey", message, key, "each key once"))
