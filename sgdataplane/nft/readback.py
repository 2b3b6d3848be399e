"""A whole table as the kernel holds it, as a value: for whoever asks what the kernel would do, or who changed what.

Owns the numbers of rules and elements in nf_tables' messages (linux/netfilter/nf_tables.h). Is given a netlink socket
of the namespace. Must not know clouds. For a look by people: a large table takes seconds. What keeps policies in force
reads names and the stamp alone (snapshot.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.contract.fields import KeyType
from sgdataplane.host.netlink import (
    MAX_ATTEMPTS,
    attribute,
    list_attributes,
    parse_attributes,
    text_of,
)
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.nft.expressions import DATA_VERDICT, read_rule
from sgdataplane.nft.ir import ACCEPT, Chain, Counter, Key, Map, Range, Rule, Table, Timeout, Verdict, goto, rule
from sgdataplane.nft.layout import UnreadableError, key_of, verdict_of
from sgdataplane.nft.snapshot import (
    CHAIN_NAME,
    DATA_VALUE,
    ELEMENT_DATA,
    ELEMENT_KEY,
    ELEMENTS,
    ELEMENTS_SET,
    FAMILIES,
    FLAG_ANONYMOUS,
    FLAG_MAP,
    GETCHAIN,
    GETOBJ,
    GETRULE,
    GETSET,
    GETSETELEM,
    NAME_OF_TABLE,
    OBJ_COUNTER,
    OBJ_NAME,
    OBJ_TIMEOUT,
    OBJ_TYPE,
    SET_FLAGS,
    SET_NAME,
    SUBSYSTEM,
    Inventory,
    MapShape,
    hook_of,
    read_generation,
    read_inventory,
    shape_of,
)

RULE_CHAIN, RULE_EXPRESSIONS, EXPRESSION_NAME, EXPRESSION_DATA = 2, 4, 1, 2
CHAIN_POLICY, POLICY_ACCEPT = 5, 1
FLAG_INTERVAL = 0x4  # NFT_SET_INTERVAL
ELEMENT_FLAGS, INTERVAL_END, CATCHALL, ELEMENT_KEY_END = 3, 1, 2, 10
KINDS = (OBJ_COUNTER, OBJ_TIMEOUT)
UNREADABLE = "unreadable"  # no chain of ours has that name


@dataclass(frozen=True)
class Held:
    """`odd`: what we never write, in words. A rule that can't be read to its end goes, there, to a chain that isn't
    there: whoever runs the table is told, if a packet comes by."""

    table: Table
    inventory: Inventory
    odd: tuple[str, ...] = ()


Element = Mapping[int, bytes]


def read_table(netlink: Nfnetlink, name: str, family: str = "inet") -> Held | None:
    """The table, all of one moment; None if there is none. OSError if the kernel refuses."""
    for _ in range(MAX_ATTEMPTS):
        generation = read_generation(netlink)
        try:
            held = _Reader(netlink, name, family).read()
        except (FileNotFoundError, InterruptedError):  # what was listed has gone since
            if read_generation(netlink) == generation:
                raise
            continue
        if read_generation(netlink) == generation:
            return held
    raise InterruptedError(errno.EINTR, f"nftables changed during each of {MAX_ATTEMPTS} readings")


@dataclass
class _Reader:
    """Of one reading. Lists of different moments needn't fit each other: then all is read again."""

    netlink: Nfnetlink
    name: str
    family: str
    odd: list[str] = field(default_factory=list)
    maps: dict[str, MapShape] = field(default_factory=dict)
    sets: dict[str, Element] = field(default_factory=dict)  # maps, and those without a name, among them

    def read(self) -> Held | None:
        inventory = read_inventory(self.netlink, self.name, self.family)
        if not inventory.exists:
            return None
        self.sets = {text_of(entry[SET_NAME]): entry for entry in self._all(GETSET)}
        named = {name: entry for name, entry in self.sets.items() if not _flags(entry) & FLAG_ANONYMOUS}
        self.maps = {name: shape_of(entry) for name, entry in named.items() if _flags(entry) & FLAG_MAP}
        found = {text_of(entry[CHAIN_NAME]): entry for entry in self._all(GETCHAIN)}
        rules = self._rules(found)
        chains = tuple(self._chain(name, found.get(name, {}), rules[name]) for name in sorted(rules))
        if inventory.has_flags:
            self.odd.append("the table has flags: a dormant one judges nothing")
        self.odd += [f"set {entry} is not ours" for entry in sorted(named.keys() - self.maps.keys())]
        counters, timeouts = self._objects()
        maps = tuple(self._named_maps())
        return Held(Table(self.name, chains, maps, counters, timeouts, self.family), inventory, tuple(self.odd))

    def _objects(self) -> tuple[tuple[Counter, ...], tuple[Timeout, ...]]:
        """What is of other kinds does nothing without a rule."""
        found = sorted((text_of(e[OBJ_NAME]), int.from_bytes(e[OBJ_TYPE], "big")) for e in self._all(GETOBJ))
        self.odd += [f"object {name}, of a kind that we don't make" for name, kind in found if kind not in KINDS]
        counters = tuple(Counter(name) for name, kind in found if kind == OBJ_COUNTER)
        return counters, tuple(Timeout(name, "", "", ()) for name, kind in found if kind == OBJ_TIMEOUT)

    def _all(self, message: int) -> Iterator[Element]:
        """All objects of a kind that the table has."""
        number = FAMILIES[self.family]
        asked = attribute(NAME_OF_TABLE, self.name.encode() + b"\0")
        for of_family, entry in self.netlink.dump(message_kind(SUBSYSTEM, message), number, asked):
            if of_family == number and text_of(entry[NAME_OF_TABLE]) == self.name:
                yield entry

    def _rules(self, chains: Iterable[str]) -> dict[str, list[Rule]]:
        """Of every chain, in order."""
        found: dict[str, list[Rule]] = {chain: [] for chain in chains}
        for entry in self._all(GETRULE):
            chain = text_of(entry[RULE_CHAIN])
            found.setdefault(chain, []).append(self._rule(chain, entry))
        return found

    def _rule(self, chain: str, entry: Mapping[int, bytes]) -> Rule:
        parsed = (parse_attributes(one) for _, one in list_attributes(entry.get(RULE_EXPRESSIONS, b"")))
        expressions = (
            (text_of(one[EXPRESSION_NAME]), parse_attributes(one.get(EXPRESSION_DATA, b""))) for one in parsed
        )
        reading = read_rule(expressions, self)
        self.odd += [f"chain {chain}: a rule with `{name}`" for name in reading.ignored]
        if not reading.unreadable:
            return rule(*reading.statements)
        self.odd.append(f"chain {chain}: a rule with what can't be read: {reading.unreadable}")
        return rule(*reading.statements, goto(f"{UNREADABLE}: {reading.unreadable}"))

    def _chain(self, name: str, entry: Element, rules: list[Rule]) -> Chain:
        """A base chain that lets through what falls out of it says so by a rule: ours drop it."""
        hook, policy = hook_of(entry, FAMILIES[self.family]), entry.get(CHAIN_POLICY, b"")
        if hook is None or int.from_bytes(policy, "big") != POLICY_ACCEPT:
            return Chain(name, tuple(rules), hook)
        self.odd.append(f"chain {name}: its policy is accept")
        return Chain(name, (*rules, rule(ACCEPT)), hook)

    def ranges(self, name: str, key_type: KeyType) -> tuple[Range, ...]:
        """As `Sets` says."""
        return tuple(span for span, _ in self._spans(key_type, name))

    def verdicts(self, name: str, key_type: KeyType) -> tuple[tuple[Range, Verdict], ...] | None:
        """As `Sets` says."""
        if name in self.maps:
            return None
        found = self._spans(key_type, name)
        return tuple(
            (span, verdict_of(parse_attributes(element[ELEMENT_DATA])[DATA_VERDICT])) for span, element in found
        )

    def _named_maps(self) -> Iterator[Map]:
        """Those of other kinds than ours are left out: who asks one is told that it isn't there."""
        for name, shape in sorted(self.maps.items()):
            if shape.key_type is None:
                self.odd.append(f"map {name}, of a kind that we don't make")
                continue
            try:
                elements = tuple(sorted(self._entries(name, shape.key_type, holds_marks=shape.holds_marks)))
            except UnreadableError as error:
                self.odd.append(f"map {name}: {error}")
                continue
            yield Map(name, shape.key_type, elements, "", shape.holds_marks, int(shape.expires))

    def _entries(self, name: str, key_type: KeyType, *, holds_marks: bool) -> Iterator[tuple[Key, Verdict | int]]:
        for span, element in self._spans(key_type, name):
            data = parse_attributes(element[ELEMENT_DATA])
            value = key_of(KeyType.MARK, data[DATA_VALUE]) if holds_marks else verdict_of(data[DATA_VERDICT])
            yield span.first, value if isinstance(value, Verdict) else int(value)

    def _spans(self, key_type: KeyType, name: str) -> list[tuple[Range, Element]]:
        is_interval = bool(_flags(self.sets.get(name, {})) & FLAG_INTERVAL)
        return _spans(key_type, self._elements(name), is_interval=is_interval)

    def _elements(self, name: str) -> Iterator[dict[int, bytes]]:
        raw = self.sets[name][SET_NAME] if name in self.sets else name.encode() + b"\0"
        asked = attribute(NAME_OF_TABLE, self.name.encode() + b"\0") + attribute(ELEMENTS_SET, raw)
        for _, found in self.netlink.dump(message_kind(SUBSYSTEM, GETSETELEM), FAMILIES[self.family], asked):
            for _, element in list_attributes(found.get(ELEMENTS, b"")):
                yield parse_attributes(element)


def _flags(entry: Element) -> int:
    return int.from_bytes(entry.get(SET_FLAGS, b""), "big")


def _spans(key_type: KeyType, elements: Iterable[Element], *, is_interval: bool) -> list[tuple[Range, Element]]:
    """Keys with their elements, sorted. A set of ranges has an element where each begins, and one behind its end if
    the next one doesn't begin there."""
    found: dict[Key, Element] = {}
    ends: set[Key] = set()
    last = 0
    for element in elements:
        flags = int.from_bytes(element.get(ELEMENT_FLAGS, b""), "big")
        if flags & CATCHALL or ELEMENT_KEY_END in element:
            raise UnreadableError("elements of a kind that we don't make")
        data = parse_attributes(element[ELEMENT_KEY])[DATA_VALUE]
        last = (1 << 8 * len(data)) - 1
        key = key_of(key_type, data)
        if flags & INTERVAL_END:
            ends.add(key)
        else:
            found[key] = element
    begins = sorted(found)
    if not is_interval:
        return [(Range.of(key), found[key]) for key in begins]
    edges = sorted({int(key) for key in (*begins, *ends)})
    following = dict(zip(edges, (*(edge - 1 for edge in edges[1:]), last), strict=True))
    return [(Range(key, following[int(key)]), found[key]) for key in begins]
