"""Remember what the last two compiles asked for.

Owns what is forgotten when. It must not know what is remembered.
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
        """Return the value of a key. It is made if neither compile has asked for it."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = self._older.get(key) or make()
        return found

    def next(self) -> Recent[K, V]:
        """Return the memory for the next compile."""
        return Recent(self._values)

    def evict_unused(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self._older = {}
