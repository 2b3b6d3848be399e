"""Chains, or whatever leads on to others, in an order in which each stands after all that it leads to.

Owns that order. Is given names. Must not know what leads where, nor why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def in_order(targets: Mapping[str, Collection[str]]) -> list[str]:
    """Each name after all that it leads to, all of which are names, too. Left out are those in a circle, and those that
    lead to one."""
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
