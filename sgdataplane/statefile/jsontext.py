"""JSON text -> plain values, and the lines of places in it.

Owns strictness: no duplicate keys, no NaN, bounded depth. Is given text. Must not know what the values mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

from sgdataplane.statefile.fields import escape
from sgdataplane.statefile.problems import (
    MAX_DEPTH,
    DuplicateKeyError,
    SyntaxFaultError,
    make_depth_fault,
    make_duplicate_fault,
    make_malformed_fault,
)
from sgdataplane.statefile.yamlcures import excerpt_of

# Possessive quantifiers: to backtrack in a long string would take many times its length of memory.
TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],]|\n|[^\s{}\[\],:"]+', re.DOTALL)
MAX_DIGITS = 4300


class _NotANumberError(Exception):
    """NaN or Infinity, which Python's scanner would accept."""


def parse_json(text: str) -> object:
    """Return the document's value.

    Raises:
        SyntaxFaultError: the text isn't strict JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_as_mapping, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        excerpt = excerpt_of(text.split("\n"), error.lineno - 1, error.colno - 1)
        raise make_malformed_fault(f"this is not JSON: {error.msg.lower()}", error.lineno, "", excerpt) from error
    except DuplicateKeyError as error:
        raise next(find_duplicates(walk_json(text)), make_depth_fault()) from error
    except _NotANumberError as error:
        raise make_malformed_fault(
            f"this is not JSON: {error} is not a number", _line_of(text, str(error).__eq__)
        ) from error
    except RecursionError as error:
        raise make_depth_fault(_line_of(text, _Depth().passes)) from error
    except ValueError as error:  # Python converts at most MAX_DIGITS digits, as that takes quadratic time
        line = _line_of(text, lambda token: len(token) > MAX_DIGITS and token[0] in "-0123456789")
        raise make_malformed_fault("a number has too many digits", line, f"at most {MAX_DIGITS} digits") from error


class _Depth:
    """Counts the collections that are open."""

    def __init__(self) -> None:
        self.depth = 0

    def passes(self, token: str) -> bool:
        """Return whether the text is nested too deeply after this token."""
        self.depth += (token in "[{") - (token in "]}")
        return self.depth > MAX_DEPTH


def _line_of(text: str, is_it: Callable[[str], bool]) -> int:
    """Return the 1-based line of the first token for which `is_it` holds; 0 if there is none."""
    line = 1
    for match in TOKEN.finditer(text):
        token = match[0]
        if is_it(token):
            return line
        line += token == "\n"
    return 0


def _as_mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise DuplicateKeyError
    return mapping


def _refuse_constant(name: str) -> object:
    raise _NotANumberError(name)


def find_duplicates(walked: Iterable[tuple[str, int]]) -> Iterator[SyntaxFaultError]:
    """Yield a fault for each pointer that a walk meets again."""
    seen: set[str] = set()
    for pointer, line in walked:
        if pointer in seen:
            yield make_duplicate_fault(pointer, line)
        seen.add(pointer)


def walk_json(text: str) -> Iterator[tuple[str, int]]:
    """Yield the pointer and 1-based line of every value of a JSON text, in its order.

    In a mapping, the line is that of the key. The walk ends early where the text is nested more deeply than a state
    ever is.
    """
    line = 1
    path: list[tuple[str, int]] = []  # (pointer of the open collection, next index; -1 in a mapping)
    is_key = False
    current = ""
    yield "", 1
    for match in TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "}]":
            path.pop()
            is_key = False
        elif token == ",":
            is_key = path[-1][1] < 0
        elif is_key:
            current = f"{path[-1][0]}/{escape(json.loads(token, strict=False))}"
            is_key = False
            yield current, line
        else:
            if path and path[-1][1] >= 0:
                parent, index = path[-1]
                path[-1] = (parent, index + 1)
                current = f"{parent}/{index}"
                yield current, line
            if token in "{[":
                if len(path) == MAX_DEPTH:
                    return
                is_key = token == "{"
                path.append((current, -1 if is_key else 0))
