"""Join ranges, and sort names so that each comes after those that it leads to.

Owns both. It is given ranges and names. It must not know what they stand for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from sgdataplane.nft.ir import Range

Value = TypeVar("Value")


def join_neighbours(entries: Iterable[tuple[Range, Value]]) -> list[tuple[Range, Value]]:
    """Return the entries, with neighbours joined that touch and have the same value.

    Names don't touch.
    """
    found: list[tuple[Range, Value]] = []
    for span, value in entries:
        before, said = found[-1] if found else (None, None)
        if before and said == value and not isinstance(before.last, str) and before.last + 1 == span.first:
            found[-1] = Range(before.first, span.last), value
        else:
            found.append((span, value))
    return found


def targets_first(targets: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names in such an order that each comes after all that it leads to.

    `targets` says where each name leads, which is to other names of the mapping. Names in a cycle, and those that lead
    to one, are left out.
    """
    sources: dict[str, list[str]] = {name: [] for name in targets}
    for name, others in targets.items():
        for other in others:
            sources[other].append(name)
    left = {name: len(others) for name, others in targets.items()}
    found = [name for name, count in left.items() if not count]
    for name in found:
        for source in sources[name]:
            left[source] -= 1
            if not left[source]:
                found.append(source)
    return found
