"""Mappings that never change, and make the next one cheaply: it shares what stays.

Owns what such a mapping does, and the one that most use. Must not know what is in it.

Most entries are in a dict that many mappings share. What was changed since is in two small ones over it. When these
have grown, the next mapping gets a dict of its own. So a step costs what it changes, and a look-up costs up to three
look-ups in a dict. The first walk through all entries puts them together, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")
MAX_CHANGES = 1024  # changes over a dict, unless it is smaller itself


class _Gone:
    """A mark in place of a value that was deleted, or isn't there."""


GONE = _Gone()


@dataclass(frozen=True, slots=True)
class _Layers(Generic[K, V]):
    """The layers of a mapping."""

    base: dict[K, V]  # shared, never changed
    over: dict[K, V | _Gone] = field(default_factory=dict)  # what became of some of its entries
    late: dict[K, V] = field(default_factory=dict)  # entries that come after it

    def put_together(self) -> dict[K, V]:
        """Return a new dict of all layers."""
        found = self.base.copy()
        for key, value in self.over.items():
            if value is GONE:
                del found[key]
            else:
                found[key] = cast(V, value)
        found.update(self.late)
        return found


class Stepping(Mapping[K, V], ABC):
    """A mapping that never changes, and makes the next one."""

    __slots__ = ()

    @abstractmethod
    def after(self, puts: Mapping[K, V], deletes: Collection[K] = ()) -> Stepping[K, V]:
        """Return the mapping without some entries, and then with others."""

    @abstractmethod
    def whole(self) -> Mapping[K, V]:
        """Return all entries, where going through them costs least. Callers must not change them."""


class Layered(Stepping[K, V]):
    """A mapping in the order of a dict: what is replaced keeps its place, and what is new comes last."""

    __slots__ = ("_layers",)

    def __init__(self, entries: Mapping[K, V] | _Layers[K, V] | None = None) -> None:
        self._layers = entries if isinstance(entries, _Layers) else _Layers(dict(entries or {}))

    def after(self, puts: Mapping[K, V], deletes: Collection[K] = ()) -> Layered[K, V]:
        """Return the mapping without some entries, and then with others. It costs what it changes."""
        layers = self._layers
        changes = len(layers.over) + len(layers.late) + len(puts) + len(deletes)
        if changes > min(MAX_CHANGES, len(layers.base)):
            found = layers.put_together()
            for key in deletes:
                found.pop(key, None)
            found.update(puts)
            return Layered(_Layers(found))
        over, late, base = layers.over.copy(), layers.late.copy(), layers.base
        for key in deletes:
            if late.pop(key, GONE) is GONE and key in base:
                over[key] = GONE
        for key, value in puts.items():
            if key not in late and over.get(key, base.get(key, GONE)) is not GONE:
                over[key] = value
            else:
                late[key] = value
        return Layered(_Layers(base, over, late))

    def whole(self) -> dict[K, V]:
        """Return all entries as one dict, which is put together when this is first called."""
        layers = self._layers
        if layers.over or layers.late:
            self._layers = layers = _Layers(layers.put_together())
        return layers.base

    def __getitem__(self, key: K) -> V:
        layers = self._layers
        if not layers.over and not layers.late:
            return layers.base[key]
        found = layers.late.get(key, GONE)
        if found is GONE:
            found = layers.over.get(key, layers.base.get(key, GONE))
        if found is GONE:
            raise KeyError(key)
        return cast(V, found)

    def __contains__(self, key: object) -> bool:
        layers = self._layers
        if key in layers.late:
            return True
        return key in layers.base and layers.over.get(key) is not GONE

    def __len__(self) -> int:
        layers = self._layers
        return len(layers.base) + len(layers.late) - sum(value is GONE for value in layers.over.values())

    def __iter__(self) -> Iterator[K]:
        return iter(self.whole())

    def keys(self) -> KeysView[K]:
        """Return all keys, in order."""
        return self.whole().keys()

    def items(self) -> ItemsView[K, V]:
        """Return all entries, in order."""
        return self.whole().items()

    def values(self) -> ValuesView[V]:
        """Return all values, in order."""
        return self.whole().values()
