"""Read a named map by key and in pages, so that unchanged pages needn't be read again.

Owns which page a key is on, and checks that it is there. It is given maps. It must not know what keys stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.nft import pages
from sgdataplane.nft.ir import Datum, Key, Map, MapKey, MapPage, Range, Verdict, VerdictMap
from sgdataplane.proof.spec.axes import MalformedError

PAGES = 251  # large maps have as many; a map whose elements are on other pages is read as a whole


def page_of(key: MapKey) -> int:
    """Return the page that a key is on."""
    return key % PAGES if isinstance(key, int) else 0


@dataclass(frozen=True, eq=False)
class LookupPage:
    """One page of a map. Two of them are compared by identity."""

    source: MapPage | None
    """The map's page that it was read from."""
    values: Mapping[MapKey, Datum]
    """What the map holds for each key."""

    @cached_property
    def targets(self) -> frozenset[str]:
        """The chains that verdicts on this page name."""
        found = {id(value): value for value in self.values.values()}
        return frozenset(value.chain for value in found.values() if isinstance(value, Verdict) and value.chain)


@dataclass(frozen=True, eq=False)
class Lookup:
    """A map, by page number. Pages without a change are the same objects as in the earlier map."""

    pages: Mapping[int, LookupPage]

    @classmethod
    def of(cls, entry: Map, previous: Lookup | None = None) -> Lookup:
        """Read a map. Pages that haven't changed are taken from `previous`."""
        known = previous.pages if previous is not None else {}
        if isinstance(entry.elements, pages.Paged):
            made = {number: _page(page, known.get(number)) for number, page in entry.elements.pages.items()}
            if all(_is_in_place(number, page, known.get(number)) for number, page in made.items()):
                return cls(made)
        values: dict[int, dict[MapKey, Datum]] = {}
        for key, value in entry.elements:
            values.setdefault(page_of(key), {})[key] = value
        return cls({number: _reuse_page(found, known.get(number)) for number, found in values.items()})

    def get(self, key: MapKey) -> Datum | None:
        """Return what the map holds for a key."""
        page = self.pages.get(page_of(key))
        return None if page is None else page.values.get(key)

    def verdict(self, key: MapKey) -> Verdict | None:
        """Return the verdict that the map holds for a key; None if it holds none, or a number."""
        value = self.get(key)
        return value if isinstance(value, Verdict) else None

    @cached_property
    def targets(self) -> frozenset[str]:
        """The chains that the map's verdicts name."""
        return frozenset[str]().union(*(page.targets for page in self.pages.values()))

    def at(self, ifname: str) -> tuple[Range, ...]:
        """Return the values that a set of pairs has for an interface, sorted."""
        return tuple(map(Range.of, sorted(self._by_interface.get(ifname, ()))))

    @cached_property
    def _by_interface(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key in self.values():
            if isinstance(key, tuple):
                found.setdefault(key[1], []).append(key[0])
        return found

    def singles(self) -> dict[Key, Datum]:
        """Return all keys that are no pairs, with their values."""
        return {key: value for key, value in self.values().items() if not isinstance(key, tuple)}

    def values(self) -> dict[MapKey, Datum]:
        """Return all keys with their values."""
        return {key: value for page in self.pages.values() for key, value in page.values.items()}


def _page(page: MapPage, previous: LookupPage | None) -> LookupPage:
    return previous if previous is not None and previous.source is page else LookupPage(page, dict(page.elements))


def _is_in_place(number: int, page: LookupPage, previous: LookupPage | None) -> bool:
    return page is previous or all(page_of(key) == number for key in page.values)


def _reuse_page(values: dict[MapKey, Datum], previous: LookupPage | None) -> LookupPage:
    return previous if previous is not None and previous.values == values else LookupPage(None, values)


def among(vmap: VerdictMap, value: Key) -> Verdict | None:
    """Return the verdict of the range that holds the value, in a look-up with elements of its own."""
    return next((verdict for item, verdict in vmap.entries if item.first <= value <= item.last), None)  # type: ignore[operator]


def verdict_of(value: Datum, name: str) -> Verdict:
    """Return what a map of that name holds, if it is a verdict.

    Raises:
        MalformedError: It is none.
    """
    if not isinstance(value, Verdict):
        raise MalformedError(f"map {name} holds no verdicts")
    return value
