"""Whether two tables do the same with every packet there is, tried out by the interpreter: slow, and nothing left out.

Owns the list of packets. Is given two tables that differ in one chain or map. Must not know how a proof is found: it
shares nothing with `sgdataplane.proof` but the interpreter.

Each field has a value from every interval that neither table cuts. All combinations of them are tried, but those which
can't matter:
    a field gets a value only when a table asks for it
    where both tables have come to the same chain, with the same done and the same ways back, and from there can't come
        to what was changed any more, they do the same from there on
    and so they do where a packet was before with the same values of all fields that the rest of the way can ask for
    no chain before the rules begin is different, if the change is only behind where they begin
    what is in maps whose elements go by themselves matters only to a change in front of where they are asked, or there
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from sgdataplane.contract.fields import CtDirection, CtState, Field, KeyType, Nfproto
from sgdataplane.errors import InternalError
from sgdataplane.nft import interp
from sgdataplane.nft.ir import RETURN, InSet, Key, Match, OfMap, Range, Table, VerdictKind, VerdictMap
from tests.support.leads import asking, leading_to, maps_of, next_chains, reached, read_from
from tests.support.mutate import last_of

HOOKS = {"ingress": Field.IIFNAME, "egress": Field.OIFNAME}
RULES = "profile-"  # what the chains are called where rules begin
IPV4, IPV6 = (tuple(name for name in Field if name.key_type is kind) for kind in (KeyType.IPV4, KeyType.IPV6))
OF_FAMILY = {
    Nfproto.IPV4: (*IPV4, Field.ICMP_TYPE),
    Nfproto.IPV6: (*IPV6, Field.ICMPV6_TYPE, Field.IP6_HOPLIMIT, Field.ND_TARGET),
}
OF_PROTOCOL = {Field.ICMP_TYPE: 1, Field.ICMPV6_TYPE: 58, Field.ND_TARGET: 58, Field.TCP_FLAGS: 6}
SESSION = tuple(name for name in Field if name.name.startswith("CT_"))
TRACKED = (CtState.NEW, CtState.ESTABLISHED, CtState.RELATED)
HALVES = (0xFFFF0000, 0x0000FFFF)
FRESH_MARK = 0x12340567
SYN_FLAGS = 0x17  # FIN, SYN, RST, ACK

Fields = dict[Field, Key | None]


class Asked(Exception):  # noqa: N818
    """A field that has no value yet."""

    def __init__(self, name: Field) -> None:
        super().__init__(name)
        self.name = name


class Arrived(Exception):  # noqa: N818
    """At a chain that doesn't lead to the change, with this done on the way."""

    def __init__(self, place: tuple[object, ...]) -> None:
        super().__init__()
        self.place = place


class Seen(Exception):  # noqa: N818
    """A packet that is the same from here on was tried."""


class _Partial(dict[Field, Key]):
    """A packet of which some fields aren't chosen yet; None: it lacks that one."""

    def get(self, name: Field, default: object = None) -> Key | None:  # type: ignore[override]  # noqa: ARG002
        if name not in self:
            raise Asked(name)
        return self[name]


class _Walk(interp._Walk):
    """`leads`: the chains that lead to the change; it stops at others. None: it goes all the way. `rests`: where jumps
    go back to, and whether that leads to the change. `seen`: chains and values that were tried, with `reads`, the
    fields that matter from each chain on; None from the change on. `mark`: (keep, value) of all that was written to
    it."""

    leads: Collection[str] | None = None
    rests: Rests
    changed: Collection[str] = ()
    reads: Mapping[str, frozenset[Field]] | None = None
    seen: set[tuple[object, ...]] | None = None
    mark: tuple[int, int] = (0xFFFFFFFF, 0)
    held: dict[tuple[int, Key | None], bool]

    def chain(self, name: str, depth: int) -> VerdictKind | None:
        priority = dict.get(self.packet, Field.PACKET_PRIORITY)
        back = tuple(self.returns)
        done = (name, back, tuple(self.outcome.counters), self.mark, self.packet[Field.PACKET_MARK], priority)
        is_apart = self.leads is not None and name not in self.leads
        if is_apart and not any(self.rests.leads(place) for place in back):
            raise Arrived(done)
        if name in self.changed:
            self.seen = None
        elif self.seen is not None and self.reads is not None:
            reads = self.reads[name].union(*map(self.rests.reads, back))
            known = frozenset((asked, value) for asked, value in self.packet.items() if asked in reads)
            if (done, known) in self.seen:
                raise Seen
            self.seen.add((done, known))
        return super().chain(name, depth)

    def _holds(self, match: Match) -> bool:
        """Asked once of each value."""
        key = (id(match), self._read(match.field))
        if key not in self.held:
            self.held[key] = super()._holds(match)
        return self.held[key]

    def _set_mark(self, keep: int, value: int) -> None:
        self.mark = (self.mark[0] & keep, self.mark[1] & keep | value)


def difference(one: Table, other: Table, touched: str) -> Mapping[Field, Key | None] | None:
    """A packet with which they do different things; None if there is none. `touched`: the chain or map that differs."""
    changed = frozenset(c for c in one.chain if c == touched or touched in maps_of(one, c))
    starts = _starts(one, other, changed)
    packet = _difference(one, other, changed, starts)
    if packet is not None and starts != list(HOOKS):
        packet = _difference(one, other, changed, list(HOOKS))
    if packet is None and not changed.isdisjoint(
        leading_to(one, [c for c in one.chain if maps_of(one, c) & _passing(one)])
    ):
        packet = _difference(_filled(one), _filled(other), changed, starts)
    return packet


def _passing(table: Table) -> set[str]:
    """The maps whose elements go by themselves."""
    return {entry.name for entry in table.maps if entry.lifetime}


def _filled(table: Table) -> Table:
    """With an element for each interface in these."""
    keys = {key for entry in table.maps if entry.key_type is KeyType.IFNAME for key, _ in entry.elements}
    elements = tuple((key, RETURN) for key in sorted(keys, key=str))
    return replace(table, maps=tuple(replace(m, elements=elements) if m.lifetime else m for m in table.maps))


def _difference(
    one: Table, other: Table, changed: frozenset[str], starts: Sequence[str]
) -> Mapping[Field, Key | None] | None:
    """Of packets that are put in at these chains."""
    leads = leading_to(one, changed) | leading_to(other, changed)
    try:
        return _Search(one, other, changed, leads).found(starts)
    except Arrived:
        return _Search(one, other, changed, None).found(starts)


def _starts(one: Table, other: Table, changed: Collection[str]) -> list[str]:
    """The base chains; or, if the change is only behind them, the chains where rules begin."""
    roots = [name for name in one.chain if name.startswith(RULES)]
    before = reached(one, HOOKS, but=roots) | reached(other, HOOKS, but=roots)
    return roots if before.isdisjoint(changed) else list(HOOKS)


def result_of(table: Table, hook: str, packet: Mapping[Field, Key]) -> tuple[object, ...]:
    """All that is compared, of a whole packet."""
    try:
        outcome = interp.run(table, hook, packet)
    except (InternalError, RecursionError) as error:
        return (type(error).__name__,)
    return outcome.verdict, outcome.mark, tuple(outcome.counters), outcome.packet_mark, _left(outcome, outcome.verdict)


def _left(outcome: interp.PacketOutcome, verdict: VerdictKind | None) -> int:
    """The priority of a packet that passes, or that returns."""
    return 0 if verdict is VerdictKind.DROP else outcome.priority


class Rests:
    """What comes from a rule on, until its chain ends, in any of the tables."""

    def __init__(
        self,
        tables: Sequence[Table],
        changed: Collection[str],
        leads: frozenset[str],
        reads: Mapping[str, frozenset[Field]],
    ) -> None:
        self._tables, self._changed, self._leads, self._reads = tables, changed, leads, reads
        self._known: dict[tuple[str, int], tuple[bool, frozenset[Field]]] = {}

    def leads(self, place: tuple[str, int]) -> bool:
        """Whether it leads to the change."""
        return self._of(place)[0]

    def reads(self, place: tuple[str, int]) -> frozenset[Field]:
        """The fields that it can ask for."""
        return self._of(place)[1]

    def _of(self, place: tuple[str, int]) -> tuple[bool, frozenset[Field]]:
        if place not in self._known:
            chain, index = place
            tables = [table for table in self._tables if chain in table.chain]
            ahead = {target for table in tables for target in next_chains(table, chain, None, slice(index, None))}
            asked = {s.field for table in tables for s in asking(table, chain, slice(index, None))}
            fields = frozenset(asked).union({Field.L4PROTO}, *(self._reads[target] for target in ahead))
            self._known[place] = chain in self._changed or not self._leads.isdisjoint(ahead), fields
        return self._known[place]


@dataclass
class _Search:
    """`leads` None: each packet is followed to its end in both tables. Otherwise Arrived is raised where they part."""

    one: Table
    other: Table
    changed: Collection[str]
    leads: frozenset[str] | None
    reads: dict[str, frozenset[Field]] = field(default_factory=dict)
    points: dict[Field, list[Key]] = field(default_factory=dict)
    marks: list[int] = field(default_factory=list)
    held: dict[tuple[int, Key | None], bool] = field(default_factory=dict)
    tried: int = 0

    def __post_init__(self) -> None:
        tables = (self.one, self.other)
        self.reads = read_from(*tables)
        self.rests = Rests(tables, self.changed, self.leads or frozenset(), self.reads)
        asked = [(s, table) for table in tables for chain in self._asked(table) for s in asking(table, chain)]
        ranges: dict[Field, list[Range]] = {name: [] for name in Field}
        for statement, table in asked:
            ranges[statement.field] += _ranges(statement, table)
        self.points = {name: list(_points(name, found)) for name, found in ranges.items()}
        for name in (Field.L4PROTO, Field.CT_PROTOCOL):
            self.points[name] = sorted({*self.points[name], 1, 6, 17, 47, 58})
        self.points[Field.CT_DIRECTION] = [*map(int, CtDirection)]
        masks = {s.mask for s, _ in asked if isinstance(s, Match) and s.field is Field.TCP_FLAGS}
        assert masks <= {SYN_FLAGS}, "values of flags are told apart under one mask only"
        self.points[Field.TCP_FLAGS] = [v for v in self.points[Field.TCP_FLAGS] if not int(v) & ~SYN_FLAGS]
        found = {
            (s.mask or 0, int(r.first))
            for s, t in asked
            if isinstance(s, Match | InSet) and s.field is Field.CT_MARK
            for r in _ranges(s, t)
        }
        marks = {one | other for (mask, one), (rest, other) in product(found, found) if not mask & rest}
        marks |= {value for _, value in found}
        halves = [sorted({0, FRESH_MARK & half, *(mark & half for mark in marks)}) for half in HALVES]
        self.marks = [high | low for high, low in product(*halves)]

    def _asked(self, table: Table) -> Collection[str]:
        """The chains that are walked: those that lead to the change, and those that packets come back from to such a
        way."""
        if self.leads is None:
            return table.chain.keys()
        jumps = {
            target
            for name in self.leads
            for number in range(len(table.chain[name].rules) if name in table.chain else 0)
            if self.rests.leads((name, number + 1))
            for target in next_chains(table, name, VerdictKind.JUMP, slice(number, number + 1))
        }
        return {*self.leads, *reached(table, jumps)}

    def found(self, starts: Iterable[str]) -> Mapping[Field, Key | None] | None:
        """The first packet that shows a difference, put in at one of these chains."""
        for start, family, name in product(starts, Nfproto, self._names()):
            seen: set[tuple[object, ...]] = set()
            waiting: list[Fields] = [_start(hook_of(start), family, name)]
            while waiting:
                packet = waiting.pop()
                try:
                    if self._differs(start, packet, seen):
                        return packet
                except Asked as asked:
                    waiting.extend(self._choices(packet, asked.name))
                except Seen:
                    pass
        return None

    def _names(self) -> list[Key]:
        keys = [key for entry in self.one.maps if entry.key_type is KeyType.IFNAME for key, _ in entry.elements]
        return sorted({*map(str, keys), "lo", "other0"})

    def _differs(self, start: str, packet: Fields, seen: set[tuple[object, ...]]) -> bool:
        self.tried += 1
        one, other = self._followed(self.one, start, packet, seen), self._followed(self.other, start, packet, None)
        if one != other and self.leads is not None and "arrived" in (one[0], other[0]):
            raise Arrived(one)
        return one != other

    def _followed(
        self, table: Table, start: str, packet: Fields, seen: set[tuple[object, ...]] | None
    ) -> tuple[object, ...]:
        outcome = interp.PacketOutcome(VerdictKind.DROP, 0)
        walk = _Walk(table, _Partial(packet), outcome)  # type: ignore[arg-type]
        walk.leads, walk.rests, walk.changed = self.leads, self.rests, self.changed
        walk.reads, walk.seen, walk.held = self.reads, seen, self.held
        try:
            verdict = walk.chain(start, 0)
        except Arrived as arrived:
            return "arrived", arrived.place
        except (InternalError, RecursionError) as error:
            return (type(error).__name__,)
        if verdict is None and start in HOOKS:
            verdict = VerdictKind.DROP
        return verdict, walk.mark, tuple(outcome.counters), outcome.packet_mark, _left(outcome, verdict)

    def _choices(self, packet: Fields, name: Field) -> Iterator[Fields]:
        """The packet, once with each value of the field; or first with each of one that it depends on."""
        if name in SESSION:
            yield from self._sessions(packet, name)
            return
        if name in OF_PROTOCOL:
            if Field.L4PROTO not in packet:
                yield from self._choices(packet, Field.L4PROTO)
                return
            if packet[Field.L4PROTO] != OF_PROTOCOL[name]:
                yield {**packet, name: None}
                return
        lacking = [None] if name is Field.IIFNAME else []
        for value in (*self.points[name], *lacking):
            yield {**packet, name: value}

    def _sessions(self, packet: Fields, name: Field) -> Iterator[Fields]:
        """Conntrack has an entry for tracked packets only."""
        if Field.CT_STATE not in packet:
            for state in TRACKED:
                yield {**packet, Field.CT_STATE: int(state)}
            for state in (CtState.INVALID, CtState.UNTRACKED):
                yield {**packet, **dict.fromkeys(SESSION), Field.CT_STATE: int(state)}
            return
        listed: dict[Field, Sequence[Key]] = {
            Field.CT_MARK: self.marks,
            Field.CT_DIRECTION: list(map(int, CtDirection)),
        }
        for value in listed.get(name, self.points[name]):
            yield {**packet, name: value}


def hook_of(chain: str) -> str:
    """Of a base chain, or of one where rules begin."""
    return chain if chain in HOOKS else chain.removeprefix(RULES).partition(".")[0]


def _start(hook: str, family: Nfproto, name: Key) -> Fields:
    others = OF_FAMILY[Nfproto.IPV4 if family is Nfproto.IPV6 else Nfproto.IPV6]
    packet: Fields = {Field.NFPROTO: int(family), Field.PACKET_MARK: 0, HOOKS[hook]: name, **dict.fromkeys(others)}
    return packet if hook == "egress" else {**packet, Field.OIFNAME: None}


def _ranges(statement: Match | OfMap, table: Table) -> Iterable[Range]:
    if isinstance(statement, Match):
        return statement.ranges
    if isinstance(statement, VerdictMap) and not statement.name:
        return [item for item, _ in statement.entries]
    return (Range.of(key[0] if isinstance(key, tuple) else key) for key in table.elements_of(statement.name))


def _points(name: Field, ranges: Iterable[Range]) -> Iterator[Key]:
    """A value in each interval."""
    if name.key_type is KeyType.IFNAME:
        yield from sorted({str(item.first) for item in ranges} | {"other0"})
        return
    last = last_of(name)
    cuts = {0, *(cut for item in ranges for cut in (int(item.first), int(item.last) + 1))}
    yield from sorted(cut for cut in cuts if cut <= last)
