"""A memory of the last two compiles.

Owns what is forgotten when. Must not know what is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that a compile has asked for, and those of the compile before. All others are forgotten."""

    def __init__(self, older: Mapping[K, V] | None = None) -> None:
        self._older: Mapping[K, V] = older or {}
        self._values: dict[K, V] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value; if it isn't there, it is made."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = self._older.get(key) or make()
        return found

    def next(self) -> Recent[K, V]:
        """For the next compile."""
        return Recent(self._values)

    def seal(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self._older = {}
