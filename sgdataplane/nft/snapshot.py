"""What a kernel holds of one table: the names of its objects, and the stamp that says what was applied.

Owns the numbers of nf_tables' netlink messages (linux/netfilter/nf_tables.h). Is given a netlink socket of the
namespace. Must not know nft syntax or clouds. Read without libnftables: its listings read whole rules and elements
(seconds for a large table), show no timeout objects (1.1.3), and differ between versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.host.nfnetlink import (
    MAX_ATTEMPTS,
    Nfnetlink,
    attribute,
    list_attributes,
    message_kind,
    parse_attributes,
    text_of,
)
from sgdataplane.nft.ir import Hook, Key, KeyType, Map, Table, Verdict

STAMP_MAP = "applied"  # mark -> mark: 0 epoch, 1..4 digest (skeleton.applied), 5 generation, 6 secret
DIGEST_KEYS = (1, 2, 3, 4)
EPOCH_KEY, GENERATION_KEY, SECRET_KEY = 0, 5, 6
LAST_GENERATION = 0xFFFFFFFF

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
GETTABLE, GETCHAIN, GETSET, GETSETELEM, GETGEN, GETOBJ = 1, 4, 10, 13, 16, 19  # NFT_MSG_*
FAMILIES = {"inet": 1, "netdev": 5}  # NFPROTO_INET, NFPROTO_NETDEV
NAME_OF_TABLE, TABLE_FLAGS = 1, 2  # every object's first attribute is its table's name
GEN_ID = 1
CHAIN_NAME, CHAIN_HOOK, HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICES, DEVICE_NAME = 3, 4, 1, 2, 4, 1
SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_DATA_TYPE = 2, 3, 4, 6
FLAG_ANONYMOUS, FLAG_MAP, FLAG_TIMEOUT = 0x1, 0x8, 0x10
OBJ_NAME, OBJ_TYPE, OBJ_COUNTER, OBJ_TIMEOUT = 2, 3, 1, 7
ELEMENTS_SET, ELEMENTS, ELEMENT_KEY, ELEMENT_DATA, ELEMENT_LEFT, DATA_VALUE = 2, 3, 1, 2, 5, 1
HOOKS = {  # by family: NF_INET_*, NF_NETDEV_*
    1: ("prerouting", "input", "forward", "output", "postrouting", "ingress"),
    5: ("ingress", "egress"),
}
KEY_TYPES = {41: KeyType.IFNAME, 7: KeyType.IPV4, 8: KeyType.IPV6, 19: KeyType.MARK}  # nft's datatype.h
DATA_VERDICT, DATA_MARK = 0xFFFFFF00, 19


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the last apply wrote about itself: its epoch, the digest of its table, and the generation that its commit
    made. As long as the namespace's generation is that one, nobody has changed any nftables object since.
    `secret` is the packet mark of approved packets, 0 if they get none."""

    epoch: int
    digest: str
    generation: int | None = None
    secret: int = 0

    @classmethod
    def of(cls, elements: Mapping[Key, Verdict | int]) -> Stamp | None:
        """None if the elements are no whole stamp."""
        words = {key: value for key, value in elements.items() if isinstance(value, int)}
        if not all(key in words for key in (EPOCH_KEY, *DIGEST_KEYS)):
            return None
        digest = "".join(f"{words[key]:08x}" for key in DIGEST_KEYS)
        return cls(words[EPOCH_KEY], digest, words.get(GENERATION_KEY), words.get(SECRET_KEY, 0))


@dataclass(frozen=True, slots=True)
class MapShape:
    """A map's types, and whether its elements go by themselves; `key_type` None for one that we would never make
    (other keys, intervals, ...)."""

    key_type: KeyType | None
    holds_marks: bool = False
    expires: bool = False

    @classmethod
    def of(cls, entry: Map) -> MapShape:
        return cls(entry.key_type, entry.holds_marks, entry.lifetime > 0)


@dataclass(frozen=True)
class Inventory:
    """The names a table holds, the hook of base chains, the shape of maps, and the stamp.

    `generation` is the namespace's: it grows by one with each nftables commit, of anyone. A table that is not there
    (`exists` False) holds nothing. Of what we never make: `sets` are plain ones, `has_flags` says that the table has
    some (dormant); objects of other kinds do nothing without our rules, and are left out.
    Of maps keyed by interface: `ifnames` are the keys of those whose elements stay, `expiring` says for the others by
    name how many milliseconds each key has left.
    """

    generation: int
    exists: bool = True
    chains: Mapping[str, Hook | None] = field(default_factory=dict)
    maps: Mapping[str, MapShape] = field(default_factory=dict)
    counters: frozenset[str] = frozenset()
    timeouts: frozenset[str] = frozenset()
    stamp: Stamp | None = None
    sets: frozenset[str] = frozenset()
    has_flags: bool = False
    ifnames: frozenset[str] = frozenset()
    expiring: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def is_untouched(self) -> bool:
        """Whether the table certainly is as its last apply left it."""
        return self.stamp is not None and self.stamp.generation == self.generation


def next_generation(generation: int, commits: int = 1) -> int:
    """The generation after that many commits; 0 is never one (nft_base_seq_inc)."""
    return (generation + commits - 1) % LAST_GENERATION + 1


def with_generation(table: Table, generation: int) -> Table:
    """The table with the generation in its stamp."""
    kept = tuple(element for element in table.map[STAMP_MAP].elements if element[0] != GENERATION_KEY)
    return _with_stamp(table, (*kept, (GENERATION_KEY, generation)))


def without_policy(table: Table) -> Table:
    """The table with a digest in its stamp that no policy has."""
    elements = table.map[STAMP_MAP].elements
    return _with_stamp(table, tuple((key, 0 if key in DIGEST_KEYS else value) for key, value in elements))


def _with_stamp(table: Table, elements: tuple[tuple[Key, Verdict | int], ...]) -> Table:
    stamp = replace(table.map[STAMP_MAP], elements=elements)
    return replace(table, maps=tuple(stamp if entry.name == STAMP_MAP else entry for entry in table.maps))


def stamp_of(table: Table) -> Stamp:
    """The stamp that a compiled table carries; KeyError or ValueError if it has none."""
    stamp = Stamp.of(table.elements_of(STAMP_MAP))
    if stamp is None:
        raise ValueError(f"table {table.name} has no whole stamp")
    return stamp


def read_generation(netlink: Nfnetlink) -> int:
    """The namespace's nftables generation."""
    return _number(netlink.ask(_kind(GETGEN))[GEN_ID])


def read_inventory(netlink: Nfnetlink, name: str, family: str = "inet") -> Inventory:
    """What the kernel holds of that table. OSError if the kernel refuses.

    Read again if somebody committed meanwhile, so that it is of one moment.
    """
    for _ in range(MAX_ATTEMPTS):
        generation = read_generation(netlink)
        try:
            inventory = _read_once(netlink, name, FAMILIES[family], generation)
        except FileNotFoundError:  # what was listed has gone since
            if read_generation(netlink) == generation:
                raise
            continue
        if read_generation(netlink) == generation:
            return inventory
    raise InterruptedError(f"nftables changed during each of {MAX_ATTEMPTS} readings")


def read_trusted(netlink: Nfnetlink, table: Table) -> Inventory | None:
    """The inventory of a table that is `table` but for its epoch and secret, as its own stamp says and nobody has
    changed since; None if that isn't certain. Costs the same whatever it holds. OSError if the kernel refuses."""
    generation = read_generation(netlink)
    family = FAMILIES[table.family]
    try:
        stamp = Stamp.of(_marks(netlink, family, table.name))
        left = {
            entry.name: dict(_left(_elements(netlink, family, table.name, entry.name)))
            for entry in table.maps
            if entry.lifetime and entry.key_type is KeyType.IFNAME
        }
    except (FileNotFoundError, KeyError, struct.error):  # no such map, or somebody's with other types
        return None
    if stamp is None or (stamp.digest, stamp.generation) != (stamp_of(table).digest, generation):
        return None
    return _inventory_of(table, stamp, generation, left) if read_generation(netlink) == generation else None


def _inventory_of(table: Table, stamp: Stamp, generation: int, left: Mapping[str, Mapping[str, int]]) -> Inventory:
    """`left`: of maps whose elements go by themselves."""
    by_ifname = (entry for entry in table.maps if entry.key_type is KeyType.IFNAME and not entry.lifetime)
    return Inventory(
        generation,
        chains={chain.name: chain.hook for chain in table.chains},
        maps={entry.name: MapShape.of(entry) for entry in table.maps},
        counters=frozenset(table.counter),
        timeouts=frozenset(entry.name for entry in table.timeouts),
        stamp=stamp,
        ifnames=frozenset(str(key) for entry in by_ifname for key, _ in entry.elements),
        expiring=left,
    )


def _read_once(netlink: Nfnetlink, name: str, family: int, generation: int) -> Inventory:
    tables = list(_objects(netlink, GETTABLE, family, name))
    if not tables:
        return Inventory(generation, exists=False)
    sets = [found for found in _objects(netlink, GETSET, family, name) if not _flags(found) & FLAG_ANONYMOUS]
    maps = {text_of(found[SET_NAME]): _shape(found) for found in sets if _flags(found) & FLAG_MAP}
    by_ifname = {
        entry: list(_elements(netlink, family, name, entry))
        for entry, shape in maps.items()
        if shape.key_type is KeyType.IFNAME
    }
    others = [(_number(found[OBJ_TYPE]), text_of(found[OBJ_NAME])) for found in _objects(netlink, GETOBJ, family, name)]
    is_stamped = maps.get(STAMP_MAP) == MapShape(KeyType.MARK, holds_marks=True)
    return Inventory(
        generation,
        chains=dict(_chains(netlink, family, name)),
        maps=maps,
        counters=frozenset(found for kind, found in others if kind == OBJ_COUNTER),
        timeouts=frozenset(found for kind, found in others if kind == OBJ_TIMEOUT),
        stamp=Stamp.of(_marks(netlink, family, name)) if is_stamped else None,
        sets=frozenset(text_of(found[SET_NAME]) for found in sets if not _flags(found) & FLAG_MAP),
        has_flags=_number(tables[0].get(TABLE_FLAGS, b"")) != 0,
        ifnames=frozenset(_ifname(e) for m, found in by_ifname.items() if not maps[m].expires for e in found),
        expiring={m: dict(_left(found)) for m, found in by_ifname.items() if maps[m].expires},
    )


def _objects(netlink: Nfnetlink, message: int, family: int, table: str) -> Iterator[dict[int, bytes]]:
    for found_family, found in netlink.dump(_kind(message), family):
        if found_family == family and text_of(found[NAME_OF_TABLE]) == table:
            yield found


def _chains(netlink: Nfnetlink, family: int, table: str) -> Iterator[tuple[str, Hook | None]]:
    for found in _objects(netlink, GETCHAIN, family, table):
        yield text_of(found[CHAIN_NAME]), _hook(found, HOOKS[family])


def _flags(found: Mapping[int, bytes]) -> int:
    return _number(found.get(SET_FLAGS, b""))


def _hook(chain: Mapping[int, bytes], hooks: Sequence[str]) -> Hook | None:
    if CHAIN_HOOK not in chain:
        return None
    hook = parse_attributes(chain[CHAIN_HOOK])
    number, (priority,) = _number(hook[HOOK_NUMBER]), struct.unpack("!i", hook[HOOK_PRIORITY])
    devices = [text_of(name) for kind, name in list_attributes(hook.get(HOOK_DEVICES, b"")) if kind == DEVICE_NAME]
    return Hook(hooks[number] if number < len(hooks) else str(number), priority, ",".join(devices))


def _shape(found: Mapping[int, bytes]) -> MapShape:
    data = _number(found.get(SET_DATA_TYPE, b""))
    is_ours = _flags(found) & ~FLAG_TIMEOUT == FLAG_MAP and data in (DATA_VERDICT, DATA_MARK)
    key_type = KEY_TYPES.get(_number(found[SET_KEY_TYPE])) if is_ours else None
    return MapShape(key_type, data == DATA_MARK, bool(_flags(found) & FLAG_TIMEOUT))


def _marks(netlink: Nfnetlink, family: int, table: str) -> dict[Key, Verdict | int]:
    """The stamp's elements: marks are in the machine's byte order."""
    elements = _elements(netlink, family, table, STAMP_MAP)
    return {_mark(element[ELEMENT_KEY]): _mark(element[ELEMENT_DATA]) for element in elements}


def _elements(netlink: Nfnetlink, family: int, table: str, name: str) -> Iterator[dict[int, bytes]]:
    """The whole elements of a map."""
    asked = attribute(NAME_OF_TABLE, table.encode() + b"\0") + attribute(ELEMENTS_SET, name.encode() + b"\0")
    for _, found in netlink.dump(_kind(GETSETELEM), family, asked):
        elements = (parse_attributes(element) for _, element in list_attributes(found.get(ELEMENTS, b"")))
        yield from (element for element in elements if ELEMENT_KEY in element and ELEMENT_DATA in element)


def _left(elements: Iterable[dict[int, bytes]]) -> Iterator[tuple[str, int]]:
    """Key and milliseconds left of each; one that would stay for ever was not made by us and has none."""
    return ((_ifname(element), _number(element.get(ELEMENT_LEFT, b""))) for element in elements)


def _ifname(element: Mapping[int, bytes]) -> str:
    return text_of(parse_attributes(element[ELEMENT_KEY])[DATA_VALUE])


def _mark(data: bytes) -> int:
    (value,) = struct.unpack("=I", parse_attributes(data)[DATA_VALUE])
    return int(value)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _kind(message: int) -> int:
    return message_kind(SUBSYSTEM, message)
