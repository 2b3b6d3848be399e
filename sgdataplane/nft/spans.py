"""Ranges of keys in order, each with what is said of it.

Owns putting them together. Is given ranges. Must not know what is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sgdataplane.nft.ir import Range

Value = TypeVar("Value")


def joined(entries: Iterable[tuple[Range, Value]]) -> list[tuple[Range, Value]]:
    """Those that touch and have the same value as one. (Names don't touch.)"""
    found: list[tuple[Range, Value]] = []
    for span, value in entries:
        before, said = found[-1] if found else (None, None)
        if before and said == value and not isinstance(before.last, str) and before.last + 1 == span.first:
            found[-1] = Range(before.first, span.last), value
        else:
            found.append((span, value))
    return found
