"""Tell what a packet on its way sees of a commit, and so which changes one commit can make.

Owns the facts (delta.py lists them) as questions about tables, and when each element of a map may come and go. It is
pure. It must not know clouds, or the order of changes.

A packet takes its priority from one map to the next one. So a map whose keys are priorities has a new element before
any packet can bring its key, and keeps an old one until none can. Two things must be so in every table: a packet's
priority is written before it is asked, and no packet asks a map of priorities twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.errors import InternalError
from sgdataplane.nft import pages
from sgdataplane.nft.changes import changes
from sgdataplane.nft.ir import (
    Chain,
    Datum,
    Map,
    MapKey,
    Match,
    Rule,
    SetMark,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
    Ways,
)


def can_switch_at_once(held: Table, desired: Table, *, may_miss: bool) -> bool:
    """Return whether every packet on its way during the switch is judged as one of the two tables would judge it.

    That holds if it meets old rules and only look-ups that haven't changed, or if it meets rules that haven't changed
    and at most one look-up that has. It doesn't hold if old rules meet new elements, or if a packet makes a look-up in
    old elements and one in new elements. With `may_miss`, it doesn't hold either if a key of a map gets another value,
    since a look-up may then find neither (Kernel.may_miss).
    """
    moved = [entry.name for entry in changes(held.maps, desired.maps).come.values() if is_moved(held, desired, entry)]
    if not moved:
        return True
    if may_miss and any(edit(held, desired, name).is_replacing for name in moved):
        return False
    chains = changes(held.chains, desired.chains)
    kept = ((chains.gone[name], chain) for name, chain in chains.come.items() if name in chains.gone)
    changed = [(before, chain) for before, chain in kept if before.rules != chain.rules]
    if any(_strip_mark(before) != _strip_mark(chain) for before, chain in changed):
        return False
    return not any(_maps_behind(table, name) & set(moved) for table in (held, desired) for name in moved)


def is_kept(entry: Map) -> bool:
    """Return whether the map is never copied or moved.

    These are the stamp, maps whose elements expire, which are only added together with the rules that ask them, and
    sets that packets fill.
    """
    return entry.name == STAMP_MAP or entry.lifetime > 0 or entry.room > 0


@dataclass(frozen=True, slots=True)
class Edit:
    """The elements with which a map that stays becomes another one, each part as a map.

    The kernel refuses to add a key again with another value, so such an element goes and comes. For packets that came
    before the commit, the old one is gone a moment before the new one is there. Most kernels let these packets look
    again, others let them miss.
    """

    early: Map
    """Elements that are added before the switch."""
    gone: Map
    """Elements that the switch deletes."""
    come: Map
    """Elements that the switch adds."""
    late: Map
    """Elements that are deleted after the switch."""

    @property
    def is_moving(self) -> bool:
        """Whether the switch changes elements."""
        return bool(self.gone.elements or self.come.elements)

    @property
    def is_replacing(self) -> bool:
        """Whether the switch gives a key another value."""
        return not {key for key, _ in self.gone.elements}.isdisjoint(key for key, _ in self.come.elements)


def edit(held: Table, desired: Table, name: str) -> Edit:
    """Return how the map of that name, which both tables have, changes."""
    before, after = held.map[name], desired.map[name]
    come, gone = (
        pages.find_missing(after.elements, before.elements),
        pages.find_missing(before.elements, after.elements),
    )
    is_by_priority = after.key_type is KeyType.CLASSID
    early = _select_unmet(come, gone, held) if is_by_priority else ()
    late = _select_unmet(gone, come, desired) if is_by_priority else ()
    parts = (early, _besides(gone, late), _besides(come, early), late)
    return Edit(*(replace(after, elements=part) for part in parts))


Some = tuple[tuple[MapKey, Datum], ...]


def _select_unmet(elements: Some, others: Some, table: Table) -> Some:
    """Return the elements whose keys are priorities that no rule of the table writes.

    Elements whose key is among the others' keys are left out.
    """
    known = {key for key, _ in others}
    return tuple(element for element in elements if element[0] not in known and element[0] not in table.priorities)


def _besides(elements: Some, others: Some) -> Some:
    """Return the elements whose keys aren't among the others' keys."""
    known = {key for key, _ in others}
    return tuple(element for element in elements if element[0] not in known)


def is_moved(held: Table, desired: Table, entry: Map) -> bool:
    """Return whether the switch must give the map other elements than it holds, so that packets are judged otherwise.

    What a packet is counted by judges nothing. Nor does a set of sessions, as a pair's epoch is never given twice: a
    packet on its way finds a session there that the new policy has accepted, or goes on to the old rules.
    """
    judges = not is_kept(entry) and entry.holds not in (KeyType.COUNTER, KeyType.NOTHING)
    if not judges or entry.name not in held.map or held.map[entry.name].elements == entry.elements:
        return False
    return entry.key_type is not KeyType.CLASSID or edit(held, desired, entry.name).is_moving


def _strip_mark(chain: Chain) -> tuple[tuple[Statement, ...], ...]:
    """Return the rules without the conntrack mark.

    A packet on its way may meet the old mark, or leave it, without harm.
    """
    return tuple(
        tuple(
            entry
            for entry in rule.statements
            if not isinstance(entry, SetMark) and not (isinstance(entry, Match) and entry.field is Field.CT_MARK)
        )
        for rule in chain.rules
    )


def _maps_behind(table: Table, name: str) -> set[str]:
    """Return the named maps that a packet may ask after this one."""
    if table.map[name].holds is not None:  # the packet goes on with the next rule, and takes a value along
        return {entry.name for entry in table.maps if entry.name != name and not _exclude(entry, table.map[name])}
    found = _Ahead(table)
    found.enter(_chains_of(table.map[name]))
    for chain in table.chains:
        if name in chain.ways.maps:
            found.go_on(chain, next(n for n, entry in enumerate(chain.rules, 1) if name in Ways.of((entry,)).maps))
    return found.maps


@dataclass
class _Ahead:
    """Collects the maps that packets may ask which go on from some places."""

    table: Table
    maps: set[str] = field(default_factory=set)
    _entered: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)

    def enter(self, chains: Iterable[str]) -> None:
        """Go on from the beginnings of these chains, until they return."""
        ahead = list(chains)
        while ahead:
            chain = ahead.pop()
            if chain not in self._entered:
                self._entered.add(chain)
                ahead += self._next(self.table.chain[chain].ways)

    def go_on(self, chain: Chain, index: int) -> None:
        """Go on from the rule with this index, and behind the chain."""
        self.enter(self._next(Ways.of(chain.rules[index:])))
        if chain.name in self._left or chain.hook is not None:
            return
        self._left.add(chain.name)
        for caller in self.table.chains:
            if chain.name in caller.ways.chains or any(
                chain.name in self._find_targets(name) for name in caller.ways.maps
            ):
                self._return(chain.name, caller)

    def _return(self, name: str, caller: Chain) -> None:
        """Go on where a chain returns to in its caller."""
        for number, entry in enumerate(caller.rules, 1):
            kinds = {verdict.kind for verdict in self._verdicts(entry) if verdict.chain == name}
            if VerdictKind.JUMP in kinds:
                self.go_on(caller, number)
            if VerdictKind.GOTO in kinds:
                self.go_on(caller, len(caller.rules))

    def _verdicts(self, entry: Rule) -> Iterator[Verdict]:
        """Yield all verdicts that a rule may have, those of its maps included."""
        for part in entry.statements:
            if isinstance(part, Verdict):
                yield part
            elif isinstance(part, VerdictMap):
                yield from (verdict for _, verdict in part.entries)
                yield from self._find_targets(part.name).values() if part.name else ()

    def _next(self, ways: Ways) -> Iterator[str]:
        """Yield the chains that such rules lead to, and note their maps."""
        yield from ways.chains
        for name in ways.maps:
            if name not in self.maps:
                self.maps.add(name)
                yield from self._find_targets(name)

    def _find_targets(self, name: str) -> Mapping[str, Verdict]:
        """Return the chains that a map leads to, each with a verdict that does."""
        return _verdicts_of(self.table.map[name])


ADDRESSES = {KeyType.IPV4, KeyType.IPV6}


def _exclude(one: Map, other: Map) -> bool:
    """Return whether no packet has an address in both."""
    return {one.key_type, other.key_type} == ADDRESSES


def _chains_of(entry: Map) -> Iterable[str]:
    return _verdicts_of(entry).keys()


def _verdicts_of(entry: Map) -> Mapping[str, Verdict]:
    """Return the verdicts of a map, by the chain that they lead to."""
    values = pages.values(entry.elements) if entry.holds is None else ()
    return {value.chain: value for value in values if isinstance(value, Verdict) and value.chain}


def check_in_place(chains: Iterable[Chain]) -> None:
    """Check that these chains may change in place.

    A set or map without a name goes with its rule. It is empty from then on, also for packets that are still in the old
    rules.

    Raises:
        InternalError: A chain has such a set or map.
    """
    for chain in chains:
        if any(has_nameless_set(rule) for rule in chain.rules):
            raise InternalError(f"chain {chain.name} has a set without a name, but its rules change in place")


def has_nameless_set(rule: Rule) -> bool:
    """Return whether the rule asks a set or map without a name."""
    return any(_is_nameless_set(entry) for entry in rule.statements)


def _is_nameless_set(statement: Statement) -> bool:
    if isinstance(statement, Match):
        return statement.is_set
    return isinstance(statement, VerdictMap) and not statement.name
