"""Read a whole table as the kernel holds it, and tell how it differs from the table that should be there.

Owns reading rules and elements from nf_tables' messages, and when two rules are the same. nft adds what a field takes
(`ip saddr` asks for IPv4 first), puts neighbouring ranges together, and leaves conditions in any order. It is given a
netlink socket of the namespace. It must not know clouds. Reading a large table takes seconds, so this is for people who
look. What keeps policies in force reads names and the stamp alone (snapshot.py).
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from sgdataplane.contract.fields import PAIRED, KeyType
from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP, UNSETTLED_KEY
from sgdataplane.host.netlink import MAX_ATTEMPTS, attribute, list_attributes, parse_attributes, text_of
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.decode import read_rule
from sgdataplane.nft.hooks import hook_of
from sgdataplane.nft.ir import (
    ACCEPT,
    MEMBER,
    Chain,
    Count,
    Counter,
    Datum,
    Key,
    Log,
    Map,
    MapKey,
    Match,
    OfMap,
    Range,
    Rule,
    Statement,
    Table,
    Timeout,
    Verdict,
    VerdictMap,
    goto,
    is_set,
    rule,
)
from sgdataplane.nft.layout import TAKES, Order, UnreadableError, key_of, map_key_of, order_of_key, verdict_of
from sgdataplane.nft.order import join_neighbours
from sgdataplane.nft.snapshot import Inventory, MapShape, read_generation, read_inventory, shape_of
from sgdataplane.nft.uapi import number_of

KINDS = (uapi.OBJ_COUNTER, uapi.OBJ_TIMEOUT)
UNREADABLE = "unreadable"  # no chain of ours has that name


@dataclass(frozen=True)
class HeldTable:
    """A table as it was read.

    A rule that can't be read to its end goes to a chain that doesn't exist, from there on. So run() raises an error if
    a packet gets that far.
    """

    table: Table
    inventory: Inventory
    """The names of its objects, and its stamp, read at the same moment."""
    odd: tuple[str, ...] = ()
    """What it has that we never write, in words."""


Element = Mapping[int, bytes]


def read_table(netlink: Nfnetlink, name: str, family: str = "inet") -> HeldTable | None:
    """Return the table as it was at one moment; None if there is none.

    Raises:
        OSError: The kernel refuses, or nftables changed during each attempt.
    """
    for _ in range(MAX_ATTEMPTS):
        generation = read_generation(netlink)
        try:
            held = _TableReader(netlink, name, family).read()
        except (FileNotFoundError, InterruptedError):  # what was listed has gone since
            if read_generation(netlink) == generation:
                raise
            continue
        if read_generation(netlink) == generation:
            return held
    raise InterruptedError(errno.EINTR, f"nftables changed during each of {MAX_ATTEMPTS} readings")


@dataclass
class _TableReader:
    """One attempt to read a table. If lists of different moments contradict each other, all is read again."""

    netlink: Nfnetlink
    name: str
    family: str
    odd: list[str] = field(default_factory=list)
    maps: dict[str, MapShape] = field(default_factory=dict)
    sets: dict[str, Element] = field(default_factory=dict)  # all sets and maps, also those without a name

    def read(self) -> HeldTable | None:
        """Read the table; None if there is none."""
        inventory = read_inventory(self.netlink, self.name, self.family)
        if not inventory.exists:
            return None
        self.sets = {text_of(entry[uapi.SET_NAME]): entry for entry in self._all(uapi.GETSET)}
        named = {name: entry for name, entry in self.sets.items() if not _flags(entry) & uapi.SET_ANONYMOUS}
        self.maps = {name: shape_of(entry) for name, entry in named.items()}
        found = {text_of(entry[uapi.CHAIN_NAME]): entry for entry in self._all(uapi.GETCHAIN)}
        rules = self._rules(found)
        chains = tuple(self._chain(name, found.get(name, {}), rules[name]) for name in sorted(rules))
        if inventory.has_flags:
            self.odd.append("the table has flags: a dormant one judges nothing")
        counters, timeouts = self._objects()
        maps = tuple(self._read_named_maps())
        return HeldTable(Table(self.name, chains, maps, counters, timeouts, self.family), inventory, tuple(self.odd))

    def _objects(self) -> tuple[tuple[Counter, ...], tuple[Timeout, ...]]:
        """Return the counters and timeouts. Objects of other kinds do nothing without a rule."""
        found = sorted((text_of(e[uapi.OBJ_NAME]), number_of(e[uapi.OBJ_TYPE])) for e in self._all(uapi.GETOBJ))
        self.odd += [f"object {name}, of a kind that we don't make" for name, kind in found if kind not in KINDS]
        counters = tuple(Counter(name) for name, kind in found if kind == uapi.OBJ_COUNTER)
        return counters, tuple(Timeout(name, "", "", ()) for name, kind in found if kind == uapi.OBJ_TIMEOUT)

    def _all(self, message: int) -> Iterator[Element]:
        """Yield all objects of a kind in the table."""
        number = uapi.FAMILIES[self.family]
        asked = attribute(uapi.TABLE_NAME, self.name.encode() + b"\0")
        for of_family, entry in self.netlink.dump(uapi.kind_of(message), number, asked):
            if of_family == number and text_of(entry[uapi.TABLE_NAME]) == self.name:
                yield entry

    def _rules(self, chains: Iterable[str]) -> dict[str, list[Rule]]:
        """Return the rules of every chain, in order."""
        found: dict[str, list[Rule]] = {chain: [] for chain in chains}
        for entry in self._all(uapi.GETRULE):
            chain = text_of(entry[uapi.RULE_CHAIN])
            found.setdefault(chain, []).append(self._rule(chain, entry))
        return found

    def _rule(self, chain: str, entry: Mapping[int, bytes]) -> Rule:
        """Make a rule of what the kernel lists, and note what we never write."""
        parsed = (parse_attributes(one) for _, one in list_attributes(entry.get(uapi.RULE_EXPRESSIONS, b"")))
        expressions = (
            (text_of(one[uapi.EXPRESSION_NAME]), parse_attributes(one.get(uapi.EXPRESSION_DATA, b""))) for one in parsed
        )
        reading = read_rule(expressions, self)
        self.odd += [f"chain {chain}: a rule with `{name}`" for name in reading.ignored]
        if not reading.unreadable:
            return rule(*reading.statements)
        self.odd.append(f"chain {chain}: a rule with what can't be read: {reading.unreadable}")
        return rule(*reading.statements, goto(f"{UNREADABLE}: {reading.unreadable}"))

    def _chain(self, name: str, entry: Element, rules: list[Rule]) -> Chain:
        """Make a chain of its rules.

        Our base chains drop packets that no rule decides. One that accepts them gets a rule that says so.
        """
        hook, policy = hook_of(entry, uapi.FAMILIES[self.family]), entry.get(uapi.CHAIN_POLICY, b"")
        if hook is None or number_of(policy) != uapi.POLICIES["accept"]:
            return Chain(name, tuple(rules), hook)
        self.odd.append(f"chain {name}: its policy is accept")
        return Chain(name, (*rules, rule(ACCEPT)), hook)

    def has_name(self, name: str) -> bool:
        """Return whether it is a map or set with a name, as Sets says."""
        return name in self.maps

    def find_paired(self, name: str) -> KeyType | None:
        """Return the kind of value that is paired with interface names, as Sets says."""
        shape = self.maps.get(name)
        is_pairs = shape is not None and shape.holds in (KeyType.NOTHING, KeyType.COUNTER)
        is_ours = shape is not None and is_pairs and (shape.room or not shape.expires)
        return PAIRED.get(shape.key_type) if shape is not None and shape.key_type is not None and is_ours else None

    def ranges(self, name: str, key_type: KeyType, order: Order) -> tuple[Range, ...]:
        """Return the keys of a set, as Sets says."""
        return tuple(span for span, _ in self._spans(key_type, name, order))

    def verdicts(self, name: str, key_type: KeyType, order: Order) -> tuple[tuple[Range, Verdict], ...]:
        """Return the entries of a map without a name, as Sets says."""
        found = self._spans(key_type, name, order)
        data = ((span, parse_attributes(element[uapi.ELEMENT_DATA])) for span, element in found)
        return tuple((span, _verdict(said)) for span, said in data)

    def _read_named_maps(self) -> Iterator[Map]:
        """Yield the named maps, without those of kinds that we never make.

        run() reports these as missing where a rule asks them.
        """
        for name, shape in sorted(self.maps.items()):
            if shape.key_type is None:
                is_plain = shape.holds is KeyType.NOTHING
                self.odd.append(f"set {name} is not ours" if is_plain else f"map {name}, of a kind that we don't make")
                continue
            try:
                elements = tuple(sorted(self._entries(name, shape.key_type, shape.holds)))
            except UnreadableError as error:
                self.odd.append(f"map {name}: {error}")
                continue
            yield Map(name, shape.key_type, elements, "", shape.holds, int(shape.expires), shape.room)

    def _entries(self, name: str, key_type: KeyType, held: KeyType | None) -> Iterator[tuple[MapKey, Datum]]:
        """Yield the elements of a named map or set."""
        if held is KeyType.NOTHING:
            keys = (parse_attributes(element[uapi.ELEMENT_KEY])[uapi.DATA_VALUE] for element in self._elements(name))
            yield from ((map_key_of(key_type, key), MEMBER) for key in keys)
            return
        if held is KeyType.COUNTER:
            for entry in self._elements(name):
                key = parse_attributes(entry[uapi.ELEMENT_KEY])[uapi.DATA_VALUE]
                yield map_key_of(key_type, key), Count(text_of(entry[uapi.ELEMENT_OBJECT]))
            return
        for span, element in self._spans(key_type, name, order_of_key(key_type)):
            data = parse_attributes(element[uapi.ELEMENT_DATA])
            value = key_of(held, data[uapi.DATA_VALUE]) if held else verdict_of(data[uapi.DATA_VERDICT])
            yield span.first, value if isinstance(value, Verdict) else int(value)

    def _spans(self, key_type: KeyType, name: str, order: Order) -> list[tuple[Range, Element]]:
        is_interval = bool(_flags(self.sets.get(name, {})) & uapi.SET_INTERVAL)
        return _spans(key_type, order, self._elements(name), is_interval=is_interval)

    def _elements(self, name: str) -> Iterator[dict[int, bytes]]:
        raw = self.sets[name][uapi.SET_NAME] if name in self.sets else name.encode() + b"\0"
        asked = attribute(uapi.TABLE_NAME, self.name.encode() + b"\0") + attribute(uapi.ELEMENTS_SET, raw)
        for _, found in self.netlink.dump(uapi.kind_of(uapi.GETSETELEM), uapi.FAMILIES[self.family], asked):
            for _, element in list_attributes(found.get(uapi.ELEMENTS, b"")):
                yield parse_attributes(element)


def _flags(entry: Element) -> int:
    return number_of(entry.get(uapi.SET_FLAGS, b""))


def _verdict(data: Element) -> Verdict:
    if uapi.DATA_VERDICT not in data:
        raise UnreadableError("a map of values without a name")
    return verdict_of(data[uapi.DATA_VERDICT])


def _spans(
    key_type: KeyType, order: Order, elements: Iterable[Element], *, is_interval: bool
) -> list[tuple[Range, Element]]:
    """Return the keys with their elements, sorted.

    A set of ranges has an element where each range begins, and one behind its end unless the next range begins there.
    """
    if is_interval and order != "big":
        raise UnreadableError("ranges in another byte order")
    found: dict[Key, Element] = {}
    ends: set[Key] = set()
    last = 0
    for element in elements:
        flags = number_of(element.get(uapi.ELEMENT_FLAGS, b""))
        if flags & uapi.ELEMENT_CATCHALL or uapi.ELEMENT_KEY_END in element:
            raise UnreadableError("elements of a kind that we don't make")
        data = parse_attributes(element[uapi.ELEMENT_KEY])[uapi.DATA_VALUE]
        last = (1 << 8 * len(data)) - 1
        key = key_of(key_type, data, order)
        if flags & uapi.ELEMENT_INTERVAL_END:
            ends.add(key)
        else:
            found[key] = element
    begins = sorted(found)
    if not is_interval:
        return [(Range.of(key), found[key]) for key in begins]
    edges = sorted({int(key) for key in (*begins, *ends)})
    following = dict(zip(edges, (*(edge - 1 for edge in edges[1:]), last), strict=True))
    return [(Range(key, following[int(key)]), found[key]) for key in begins]


Same = tuple[object, ...]


def differences(wanted: Table, held: Table) -> Iterator[str]:
    """Yield a line for each chain, map, counter or timeout that is missing, is another, or is one too many.

    Elements that expire, comments, and the generation in the stamp don't count.
    """
    yield from _chains(wanted.chain, held.chain, logs=_has_logs(held))
    yield from _maps(wanted.map, held.map)
    yield from _names("counter", wanted.counter, held.counter)
    names = ({entry.name for entry in table.timeouts} for table in (wanted, held))
    yield from _names("timeout", *names)


def _has_logs(table: Table) -> bool:
    return any(isinstance(part, Log) for chain in table.chains for rule in chain.rules for part in rule.statements)


def _chains(wanted: Mapping[str, Chain], held: Mapping[str, Chain], *, logs: bool) -> Iterator[str]:
    """Yield a line for each chain that differs."""
    yield from _names("chain", wanted, held)
    for name in sorted(wanted.keys() & held.keys()):
        if wanted[name].hook != held[name].hook:
            yield f"chain {name} stands at another hook"
        if wanted[name].rules != held[name].rules:  # mostly they aren't even equal
            mine, theirs = ([same(rule, logs=logs) for rule in chain.rules] for chain in (wanted[name], held[name]))
            if mine != theirs:
                yield f"chain {name} has other rules"


def _maps(wanted: Mapping[str, Map], held: Mapping[str, Map]) -> Iterator[str]:
    """Yield a line for each map or set that differs."""
    yield from _names("map", wanted, held)
    for name in sorted(wanted.keys() & held.keys()):
        mine, theirs = wanted[name], held[name]
        kind = "set" if is_set(mine) else "map"
        if MapShape.of(mine) != MapShape.of(theirs):
            yield f"{kind} {name} is of another kind"
        elif not (mine.lifetime or mine.room) and set(_elements(mine)) != set(_elements(theirs)):
            yield f"{kind} {name} has other elements"


def _elements(entry: Map) -> Iterable[tuple[MapKey, Datum]]:
    if entry.name != STAMP_MAP:
        return entry.elements
    return (element for element in entry.elements if element[0] not in (GENERATION_KEY, UNSETTLED_KEY))


def _names(what: str, wanted: Collection[str], held: Collection[str]) -> Iterator[str]:
    mine, theirs = set(wanted), set(held)
    yield from (f"{what} {name} is missing" for name in sorted(mine - theirs))
    yield from (f"{what} {name} is not ours" for name in sorted(theirs - mine))


def same(rule: Rule, *, logs: bool = True) -> Same:
    """Return a value that is equal for rules that do the same in the same order.

    Neighbouring conditions have no order. `logs` says whether logs count.
    """
    statements = (statement for statement in rule.statements if logs or not isinstance(statement, Log))
    parts = groupby(_explicit(statements), key=lambda statement: isinstance(statement, Match))
    return tuple(frozenset(group) if is_match else tuple(group) for is_match, group in parts)


def _explicit(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements, each after the checks that its field needs."""
    for statement in statements:
        if isinstance(statement, Match | OfMap):
            for asked, value in TAKES.get(statement.field, ()):
                yield Match(asked, (Range.of(value),))
        yield _plain(statement)


def _plain(statement: Statement) -> Statement:
    """Return a statement with neighbouring ranges joined."""
    if isinstance(statement, Match):
        together = tuple(span for span, _ in join_neighbours((span, None) for span in statement.ranges))
        return Match(statement.field, together, statement.negate, statement.mask)
    if isinstance(statement, VerdictMap) and not statement.name:
        return VerdictMap(statement.field, tuple(join_neighbours(statement.entries)))
    return statement
