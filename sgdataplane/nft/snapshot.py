"""Read the kernel's inventory of one table: the names of its objects, and the stamp that says what was applied.

Owns how these are read. It is given a netlink socket of the namespace. It must not know nft syntax or clouds.

Root of the namespace can make any number of objects with any names. So a name is kept only if it could be ours
(names.known). Objects with other names are foreign and only counted here; a full resync removes them by their handles
(kernel.py). A table with more objects than any of ours has is reported as crowded, and its names aren't kept.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

from sgdataplane.contract import names
from sgdataplane.contract.fields import PAIRED, Hook, KeyType
from sgdataplane.contract.stamp import DIGEST_KEYS, GENERATION_KEY, STAMP_MAP, Stamp
from sgdataplane.host.netlink import (
    MAX_ATTEMPTS,
    attribute,
    list_attributes,
    parse_attributes,
)
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.changes import Derived
from sgdataplane.nft.hooks import hook_of, read_hook
from sgdataplane.nft.ir import Datum, Map, MapKey, Table
from sgdataplane.nft.layout import LONGEST
from sgdataplane.nft.outline import Outline, stamp_of
from sgdataplane.nft.uapi import number_of

HELD_TYPES = {19: KeyType.MARK, 23: KeyType.CLASSID}  # nft's datatype.h
IFNAME, TYPE_BITS = 41, 6  # the type of a concatenation is its parts' types, TYPE_BITS bits each
KEY_TYPES = {IFNAME: KeyType.IFNAME, 7: KeyType.IPV4, 8: KeyType.IPV6, **HELD_TYPES}
KEY_TYPES |= {
    number << TYPE_BITS | IFNAME: pair
    for pair, first in PAIRED.items()
    for number, kind in KEY_TYPES.items()
    if kind is first
}
FILTERED = (uapi.GETRULE, uapi.GETSET, uapi.GETOBJ, uapi.GETFLOWTABLE)  # the kernel can list these for one table alone
MAX_OBJECTS = 200_000  # of one kind that are read, at most: more than a table of ours has, few enough to be kept
MAX_FOREIGN_OBJECTS = 20_000  # that are removed one by one, at most, which takes some 0.3 s of one processor
MAX_PASSED = 50_000  # chains of other tables that are read past, at most; the kernel takes ever longer for each
MAX_STAMP = 1_000  # elements of a stamp, at most; it has nine, and one for each ENI with an epoch of its own
MAX_INTERFACES = 20_000  # elements of a map by interface, at most; a namespace has some thousand interfaces


@dataclass(frozen=True, slots=True)
class MapShape:
    """The type of a map or set."""

    key_type: KeyType | None
    """The type of its keys; None if we would never make it (other keys, intervals, ...)."""
    holds: KeyType | None = None
    """What it maps to: None for verdicts, NOTHING for a set."""
    expires: bool = False
    """Whether its elements expire."""
    room: int = 0
    """How many elements packets may add; 0 if they add none."""

    @classmethod
    def of(cls, entry: Map) -> MapShape:
        """Return the shape of a map."""
        return cls(entry.key_type, entry.holds, entry.lifetime > 0, entry.room)


@dataclass(frozen=True)
class Inventory:
    """The names of a table's objects, and its stamp."""

    generation: int
    """The namespace's generation: each nftables commit there raises it by one."""
    exists: bool = True
    """Whether there is such a table. One that isn't there holds nothing."""
    chains: Mapping[str, Hook | None] = field(default_factory=dict)
    """The hook of each chain; None if it isn't a base chain."""
    maps: Mapping[str, MapShape] = field(default_factory=dict)
    """The shape of each map and set."""
    counters: AbstractSet[str] = frozenset()
    timeouts: AbstractSet[str] = frozenset()
    stamp: Stamp | None = None
    """The stamp; None if there is none, or it is incomplete."""
    has_flags: bool = False
    """Whether the table has flags such as dormant. We never make one with flags."""
    is_crowded: bool = False
    """Whether it has more objects than were read, which none of ours has."""
    odd: int = 0
    """How many objects have a name, or are of a kind, that we never make."""
    ifnames: frozenset[str] = frozenset()
    """The interfaces that are keys of maps whose elements don't expire."""
    expiring: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By name of a map by interface whose elements expire, the milliseconds that each key has left."""
    is_derived: bool = field(default=False, compare=False)
    """Whether it follows from a table that the stamp proves to be there, so that nothing else was read."""

    @property
    def is_inert(self) -> bool:
        """Whether the table has neither a base chain nor a stamp, as an interrupted first load leaves it."""
        return self.exists and self.stamp is None and not (any(self.chains.values()) or self.is_crowded or self.odd)

    @property
    def is_untouched(self) -> bool:
        """Whether the table is certainly as the last apply left it."""
        return self.stamp is not None and self.stamp.generation == self.generation


def with_generation(table: Table, generation: int) -> Table:
    """Return the table with this generation in its stamp."""
    elements = {**dict(table.map[STAMP_MAP].elements), GENERATION_KEY: generation}
    return _with_stamp(table, tuple(sorted(elements.items(), key=_number)))


def _number(element: tuple[MapKey, Datum]) -> int:
    assert isinstance(element[0], int)
    return element[0]


def without_policy(table: Table) -> Table:
    """Return the table with a digest in its stamp that belongs to no policy."""
    elements = table.map[STAMP_MAP].elements
    return _with_stamp(table, tuple((key, 0 if key in DIGEST_KEYS else value) for key, value in elements))


def _with_stamp(table: Table, elements: tuple[tuple[MapKey, Datum], ...]) -> Table:
    stamp = replace(table.map[STAMP_MAP], elements=elements)
    return replace(table, maps=tuple(stamp if entry.name == STAMP_MAP else entry for entry in table.maps))


def read_generation(netlink: Nfnetlink) -> int:
    """Return the namespace's nftables generation."""
    return number_of(netlink.ask(uapi.kind_of(uapi.GETGEN))[uapi.GEN_ID])


class CrowdError(Exception):
    """The table has more objects than any of ours, or other tables have more than we read past."""


def read_inventory(netlink: Nfnetlink, name: str, family: str = "inet", most: int | None = None) -> Inventory:
    """Return the kernel's inventory of that table, up to `most` objects of a kind and elements of a map.

    It is consistent: if somebody commits meanwhile, it is read again.

    Raises:
        OSError: The kernel refuses, or nftables changed during each attempt.
    """
    for _ in range(MAX_ATTEMPTS):
        generation = read_generation(netlink)
        try:
            inventory = _read_once(netlink, name, uapi.FAMILIES[family], generation, most)
        except FileNotFoundError:  # what was listed has gone since
            if read_generation(netlink) == generation:
                raise
            continue
        except InterruptedError:
            continue
        if read_generation(netlink) == generation:
            return inventory
    raise InterruptedError(errno.EINTR, f"nftables changed during each of {MAX_ATTEMPTS} readings")


def read_trusted(netlink: Nfnetlink, outline: Outline) -> Inventory | None:
    """Return the inventory if the stamp proves that the kernel has this table unchanged; else None.

    Its epoch and secret may be others. The cost doesn't depend on the table's size.

    Raises:
        OSError: The kernel refuses.
    """
    generation = read_generation(netlink)
    family = uapi.FAMILIES[outline.family]
    try:
        stamp = Stamp.of(_marks(netlink, family, outline.name))
        left = {name: dict(_read_left(_elements(netlink, family, outline.name, name))) for name in outline.expiring}
    except (FileNotFoundError, InterruptedError, KeyError, struct.error, CrowdError):  # no such map, or a foreign one
        return None
    if stamp is None or (stamp.digest, stamp.generation) != (outline.digest, generation):
        return None
    return _inventory_of(outline, stamp, generation, left) if read_generation(netlink) == generation else None


def read_vouched(netlink: Nfnetlink, table: Table) -> Inventory | None:
    """Return the inventory if the table's digest and base chains are in the kernel; else None.

    That doesn't prove that nobody has changed the rest. The stamp of another table, which vouches for both, does.

    Raises:
        OSError: The kernel refuses.
    """
    generation = read_generation(netlink)
    family = uapi.FAMILIES[table.family]
    try:
        stamp = Stamp.of(_marks(netlink, family, table.name))
        with closing(objects(netlink, uapi.GETCHAIN, family, table.name)) as found:
            chains = list(islice(found, 2 * len(table.chains)))
        hooks = dict(filter(None, (read_hook(chain, family) for chain in chains)))
    except (FileNotFoundError, InterruptedError, KeyError, struct.error, CrowdError):  # no such map, or a foreign one
        return None
    is_there = len(chains) < 2 * len(table.chains) and hooks == {
        chain.name: chain.hook for chain in table.chains if chain.hook is not None
    }
    if stamp is None or stamp.digest != stamp_of(table).digest or not is_there:
        return None
    return _inventory_of(Outline.of(table), stamp, generation, {}) if read_generation(netlink) == generation else None


def _inventory_of(outline: Outline, stamp: Stamp, generation: int, left: Mapping[str, Mapping[str, int]]) -> Inventory:
    """Derive the inventory from a table that is there.

    `left` has the milliseconds that each key has left, for maps whose elements expire.
    """
    return Inventory(
        generation,
        chains=Derived(lambda: {chain.name: chain.hook for chain in outline.table().chains}),
        maps=Derived(lambda: {entry.name: MapShape.of(entry) for entry in outline.table().maps}),
        counters=Derived(lambda: outline.table().counter).keys(),
        timeouts=Derived(lambda: {entry.name: entry for entry in outline.table().timeouts}).keys(),
        stamp=stamp,
        ifnames=outline.ifnames,
        expiring=left,
        is_derived=True,
    )


def _read_once(netlink: Nfnetlink, name: str, family: int, generation: int, most: int | None = None) -> Inventory:
    """Read the inventory once. A crowded table is read no further than its stamp."""
    table = read_own_table(netlink, name, family)
    if not table:
        return Inventory(generation, exists=False)
    has_flags = number_of(table.get(uapi.TABLE_FLAGS, b"")) != 0
    try:
        return _read_objects(netlink, name, family, Inventory(generation, has_flags=has_flags), most)
    except CrowdError:
        stamp = read_stamp(netlink, name, family)
        return Inventory(generation, has_flags=has_flags, is_crowded=True, stamp=stamp)


def _read_objects(netlink: Nfnetlink, name: str, family: int, empty: Inventory, most: int | None) -> Inventory:
    """Read all objects of a table, and the elements of its maps by interface.

    Raises:
        CrowdError: There are too many.
    """

    def all_of(kind: int) -> Iterator[dict[int, bytes]]:
        return list_objects(netlink, kind, family, name, most)

    chains, odd_chains = _select_named(all_of(uapi.GETCHAIN), uapi.CHAIN_NAME)
    sets, odd_sets = _select_named(
        (found for found in all_of(uapi.GETSET) if not _flags(found) & uapi.SET_ANONYMOUS), uapi.SET_NAME
    )
    others, odd_others = _select_named(all_of(uapi.GETOBJ), uapi.OBJ_NAME)
    maps = {known: shape_of(found) for known, found in sets}
    elements = {
        known: list(_elements(netlink, family, name, known, most))
        for known, shape in maps.items()
        if shape.key_type is KeyType.IFNAME and shape.holds is not KeyType.COUNTER
    }
    by_kind = {
        kind: frozenset(known for known, found in others if number_of(found[uapi.OBJ_TYPE]) == kind)
        for kind in (uapi.OBJ_COUNTER, uapi.OBJ_TIMEOUT)
    }
    return replace(
        empty,
        chains={known: hook_of(found, family) for known, found in chains},
        maps=maps,
        counters=by_kind[uapi.OBJ_COUNTER],
        timeouts=by_kind[uapi.OBJ_TIMEOUT],
        stamp=read_stamp(netlink, name, family),
        odd=odd_chains + odd_sets + odd_others + len(others) - sum(map(len, by_kind.values())),
        ifnames=frozenset(
            ifname
            for known, found in elements.items()
            if not maps[known].expires
            for element in found
            if (ifname := _ifname(element)) is not None
        ),
        expiring={known: dict(_read_left(found)) for known, found in elements.items() if maps[known].expires},
    )


def read_own_table(netlink: Nfnetlink, name: str, family: int) -> dict[int, bytes]:
    """Return the attributes of the table itself; none if there is no such table."""
    try:
        return netlink.ask(uapi.kind_of(uapi.GETTABLE), family, attribute(uapi.TABLE_NAME, name.encode() + b"\0"))
    except FileNotFoundError:
        return {}


def tables_named(netlink: Nfnetlink, prefix: str) -> tuple[str, ...]:
    """Return the names of inet tables that begin with this prefix and could be ours, sorted.

    Only the first MAX_PASSED tables are read.

    Raises:
        OSError: The kernel refuses.
    """
    with closing(netlink.entries(uapi.kind_of(uapi.GETTABLE), uapi.FAMILIES["inet"], b"")) as entries:
        found = [names.recognize(parse_attributes(data)[uapi.TABLE_NAME]) for _, data in islice(entries, MAX_PASSED)]
    return tuple(sorted({name for name in found if name is not None and name.startswith(prefix)}))


def objects(netlink: Nfnetlink, message: int, family: int, table: str) -> Generator[bytes, None, None]:
    """Yield the attributes, not yet parsed, of all objects of a kind in a table.

    Raises:
        CrowdError: Other tables have so many objects that reading past them takes too long.
    """
    own, passed = attribute(uapi.TABLE_NAME, table.encode() + b"\0"), 0
    with closing(netlink.entries(uapi.kind_of(message), family, own if message in FILTERED else b"")) as entries:
        for found_family, data in entries:
            if found_family == family and data.startswith(own):  # every object's first attribute is its table's name
                yield data
                continue
            passed += 1
            if passed > MAX_PASSED:
                raise CrowdError


def list_objects(
    netlink: Nfnetlink, message: int, family: int, table: str, most: int | None = None
) -> Iterator[dict[int, bytes]]:
    """Yield the attributes, parsed, of all objects of a kind in a table.

    Raises:
        CrowdError: There are more than `most`, more than we ever make, or too many in other tables.
    """
    most = MAX_OBJECTS if most is None else min(most, MAX_OBJECTS)
    with closing(objects(netlink, message, family, table)) as found:
        for number, data in enumerate(found):
            if number >= most:
                raise CrowdError
            yield parse_attributes(data)


def _select_named(
    found: Iterable[dict[int, bytes]], attribute_of_name: int
) -> tuple[list[tuple[str, dict[int, bytes]]], int]:
    """Return the objects whose names could be ours, and how many others there are."""
    kept: list[tuple[str, dict[int, bytes]]] = []
    odd = 0
    for entry in found:
        known = names.recognize(entry[attribute_of_name])
        if known is None:
            odd += 1
            if odd > MAX_FOREIGN_OBJECTS:
                raise CrowdError
        else:
            kept.append((known, entry))
    return kept, odd


def _flags(found: Mapping[int, bytes]) -> int:
    return number_of(found.get(uapi.SET_FLAGS, b""))


def is_map(found: Mapping[int, bytes]) -> bool:
    """Return whether it holds something for each key."""
    return bool(_flags(found) & (uapi.SET_MAP | uapi.SET_OBJECT))


def shape_of(found: Mapping[int, bytes]) -> MapShape:
    """Return the shape of a map or set as the kernel lists it."""
    kind, data = _flags(found) & ~(uapi.SET_TIMEOUT | uapi.SET_FILLED), number_of(found.get(uapi.SET_DATA_TYPE, b""))
    is_of_counters = kind == uapi.SET_OBJECT and number_of(found[uapi.SET_OBJECT_KIND]) == uapi.OBJ_COUNTER
    is_of_data = kind == uapi.SET_MAP and data in (uapi.TYPE_VERDICT, *HELD_TYPES)
    room = sum(number_of(size) for _, size in list_attributes(found.get(uapi.SET_DESCRIPTION, b"")))
    is_filled = bool(_flags(found) & uapi.SET_FILLED)
    is_ours = (is_of_data or is_of_counters or not kind) and bool(room) == is_filled
    key_type = KEY_TYPES.get(number_of(found[uapi.SET_KEY_TYPE])) if is_ours else None
    if key_type is not None and number_of(found[uapi.SET_KEY_LENGTH]) != LONGEST[key_type]:
        key_type = None  # user space chooses the type's number, which may be wrong
    if key_type not in PAIRED if not kind else key_type in PAIRED and not is_of_counters:
        key_type = None
    held = KeyType.COUNTER if is_of_counters else HELD_TYPES.get(data)
    holds = held if is_map(found) else KeyType.NOTHING
    return MapShape(key_type, holds, bool(_flags(found) & uapi.SET_TIMEOUT), room)


def read_stamp(netlink: Nfnetlink, name: str, family: int) -> Stamp | None:
    """Return the stamp in a table; None if there is none."""
    asked = attribute(uapi.TABLE_NAME, name.encode() + b"\0") + attribute(uapi.SET_NAME, STAMP_MAP.encode() + b"\0")
    try:
        shape = shape_of(netlink.ask(uapi.kind_of(uapi.GETSET), family, asked))
        is_stamped = shape == MapShape(KeyType.MARK, holds=KeyType.MARK)
        return Stamp.of(_marks(netlink, family, name)) if is_stamped else None
    except (FileNotFoundError, CrowdError):
        return None


def _marks(netlink: Nfnetlink, family: int, table: str) -> dict[int, int]:
    """Return the elements of the stamp. Marks are in the machine's byte order."""
    elements = _elements(netlink, family, table, STAMP_MAP, MAX_STAMP)
    return {_mark(element[uapi.ELEMENT_KEY]): _mark(element[uapi.ELEMENT_DATA]) for element in elements}


def _elements(
    netlink: Nfnetlink, family: int, table: str, name: str, most: int | None = None
) -> Iterator[dict[int, bytes]]:
    """Yield the elements of a map by interface, or of the stamp; incomplete ones are left out."""
    most = MAX_INTERFACES if most is None else min(most, MAX_INTERFACES)
    asked = attribute(uapi.TABLE_NAME, table.encode() + b"\0") + attribute(uapi.ELEMENTS_SET, name.encode() + b"\0")
    number = 0
    with closing(netlink.entries(uapi.kind_of(uapi.GETSETELEM), family, asked)) as parts:
        for _, data in parts:
            for _, part in list_attributes(parse_attributes(data).get(uapi.ELEMENTS, b"")):
                number += 1
                if number > most:
                    raise CrowdError
                element = parse_attributes(part)
                if uapi.ELEMENT_KEY in element and uapi.ELEMENT_DATA in element:
                    yield element


def _read_left(elements: Iterable[dict[int, bytes]]) -> Iterator[tuple[str, int]]:
    """Yield each key with the milliseconds that it has left.

    We make no element that stays for ever; such a one has 0.
    """
    for element in elements:
        ifname = _ifname(element)
        if ifname is not None:
            yield ifname, number_of(element.get(uapi.ELEMENT_LEFT, b""))


def _ifname(element: Mapping[int, bytes]) -> str | None:
    """Return the interface that is the element's key; None if we would never bind it."""
    return names.interface(parse_attributes(element[uapi.ELEMENT_KEY])[uapi.DATA_VALUE])


def _mark(data: bytes) -> int:
    (value,) = struct.unpack("=I", parse_attributes(data)[uapi.DATA_VALUE])
    return int(value)
