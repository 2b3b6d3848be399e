"""Interpret a table: say what the kernel would do with one packet at one hook.

Owns the meaning of every statement in the IR. It is given a table and the packet's fields. It must not know clouds.
Where it can't interpret a statement it raises an error and never guesses, since tests compare compiled tables with
decide() by it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from sgdataplane.contract.fields import PORTS, SESSION_PORTS, CtDirection, CtState, Field, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft.ir import (
    Count,
    Datum,
    Effect,
    Exceeds,
    InSet,
    Key,
    Log,
    MapCount,
    MapKey,
    MapPriority,
    Match,
    OneIn,
    Range,
    Remember,
    SessionsExceed,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)

_MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE
_WITH_PORTS = (6, 17)
_PROTOCOLS = {**dict.fromkeys(PORTS, Field.L4PROTO), **dict.fromkeys(SESSION_PORTS, Field.CT_PROTOCOL)}
_AH, _ICMP, _IPV6 = 51, (1, 58), 10
# The fields of a session's ends: in its opening packets, in its replies, and in both tuples of its entry.
_OPENING, _ANSWER, _ORIGINAL, _REPLY = zip(
    (Field.IP_SADDR, Field.IP_DADDR, Field.CT_ORIGINAL_IP_SADDR, Field.CT_REPLY_IP_DADDR),
    (Field.IP_DADDR, Field.IP_SADDR, Field.CT_ORIGINAL_IP_DADDR, Field.CT_REPLY_IP_SADDR),
    (Field.IP6_SADDR, Field.IP6_DADDR, Field.CT_ORIGINAL_IP6_SADDR, Field.CT_REPLY_IP6_DADDR),
    (Field.IP6_DADDR, Field.IP6_SADDR, Field.CT_ORIGINAL_IP6_DADDR, Field.CT_REPLY_IP6_SADDR),
    (Field.TH_SPORT, Field.TH_DPORT, Field.CT_ORIGINAL_SPORT, Field.CT_REPLY_DPORT),
    (Field.TH_DPORT, Field.TH_SPORT, Field.CT_ORIGINAL_DPORT, Field.CT_REPLY_SPORT),
    strict=True,
)


@dataclass
class PacketOutcome:
    """What became of the packet."""

    verdict: VerdictKind
    """Accept or drop."""
    mark: int
    """The conntrack mark at the end."""
    counters: list[str] = field(default_factory=list)
    """The counters that counted it, in order."""
    logs: list[str] = field(default_factory=list)
    """The counters that it was logged with."""
    chains: list[str] = field(default_factory=list)
    """The chains that it went through."""
    lookups: int = 0
    """How many look-ups in maps it took."""
    timeouts: list[str] = field(default_factory=list)
    """The timeouts that were set for its session, in order."""
    packet_mark: int = 0
    """The packet's own mark at the end."""
    priority: int = 0
    """The packet's priority at the end."""


def add_session_fields(packet: Mapping[Field, Key]) -> dict[Field, Key]:
    """Return the packet with the fields of its session's entry, where nobody translates addresses.

    Fields that the packet has already stay. Nothing follows from an ICMP error's own header, since it is about another
    packet. For AH over IPv6 the protocol and ports don't follow either, since the entry is that of the packet behind
    the header (compiler/verdicts.py).
    """
    way, protocol = packet.get(Field.CT_DIRECTION), packet.get(Field.L4PROTO)
    is_error = packet.get(Field.CT_STATE) == CtState.RELATED and protocol in _ICMP
    if way is None or is_error:
        return dict(packet)
    ends = [packet.get(name) for name in (_ANSWER if way == CtDirection.REPLY else _OPENING)]
    pairs = [*zip(_ORIGINAL, ends, strict=True), *zip(_REPLY, ends, strict=True)]
    if not (protocol == _AH and packet.get(Field.NFPROTO) == _IPV6):
        pairs.append((Field.CT_PROTOCOL, protocol))
    return {**{name: end for name, end in pairs if end is not None}, **packet}


def _fill_frame_fields(packet: dict[Field, Key]) -> dict[Field, Key]:
    """Return the packet with those of its fields that have a second name under that name, too."""
    names = ((Field.LINK_SADDR, Field.ETHER_SADDR), (Field.LINK_TYPE, Field.ETHER_TYPE))
    return {**packet, **{second: packet[first] for second, first in names if first in packet}}


def run(table: Table, hook_chain: str, packet: Mapping[Field, Key], *, is_flood: bool | None = None) -> PacketOutcome:
    """Walk a base chain with a packet, and return what became of it.

    The packet lacks all fields that are not in the mapping, except those of its session (`add_session_fields`).
    `is_flood` says whether so many packets came before it that all limits are exceeded; None if rules must not ask.

    Raises:
        InternalError: The kernel would refuse the table, or a rule reads a field that such a packet doesn't have.
    """
    given = {Field.PACKET_MARK: 0, Field.PACKET_PRIORITY: 0}  # each packet has these
    fields = _fill_frame_fields({**given, **add_session_fields(packet)})
    outcome = PacketOutcome(VerdictKind.DROP, int(fields.get(Field.CT_MARK, 0)))
    outcome.packet_mark, outcome.priority = int(fields[Field.PACKET_MARK]), int(fields[Field.PACKET_PRIORITY])
    walk = _Walk(table, fields, outcome, is_flood)
    base = table.chain[hook_chain]
    if base.hook is None:
        raise InternalError(f"{hook_chain} is not a base chain")
    verdict = walk.chain(base.name, 0)
    walk.outcome.verdict = VerdictKind.DROP if verdict is None else verdict
    return walk.outcome


@dataclass
class _Walk:
    """The walk of one packet."""

    table: Table
    packet: dict[Field, Key]
    outcome: PacketOutcome
    is_flood: bool | None = None
    """Whether all limits are exceeded; None if rules must not ask."""
    returns: list[tuple[str, int]] = field(default_factory=list)
    """Where each jump on the way returns to, the latest one last."""

    def chain(self, name: str, depth: int) -> VerdictKind | None:
        """Walk a chain. Return accept or drop; None if the chain ends or returns without either."""
        if depth > _MAX_DEPTH:
            raise InternalError(f"jumps nest deeper than {_MAX_DEPTH} at chain {name}")
        if name not in self.table.chain:
            raise InternalError(f"no chain {name}")
        self.outcome.chains.append(name)
        for index, rule in enumerate(self.table.chain[name].rules, 1):
            verdict = self._rule(rule.statements)
            if verdict is None:
                continue
            if verdict.kind is VerdictKind.RETURN:
                return None
            if verdict.kind in (VerdictKind.ACCEPT, VerdictKind.DROP):
                return verdict.kind
            result = self._lead(verdict, (name, index), depth)
            if result is not None or verdict.kind is VerdictKind.GOTO:
                return result
        return None

    def _lead(self, verdict: Verdict, following: tuple[str, int], depth: int) -> VerdictKind | None:
        """Return the verdict of the chain that a jump or goto leads to. `following` is where a jump returns."""
        if verdict.kind is VerdictKind.GOTO:
            return self.chain(verdict.chain, depth)
        self.returns.append(following)
        result = self.chain(verdict.chain, depth + 1)
        self.returns.pop()
        return result

    def _rule(self, statements: tuple[Statement, ...]) -> Verdict | None:
        """Return the rule's verdict; None if it has none, or one of its conditions doesn't hold."""
        for statement in statements:
            match statement:
                case Verdict():
                    return statement
                case Match() | InSet() | Exceeds() | OneIn() | SessionsExceed() | MapPriority() | MapCount():
                    if not self._goes_on(statement):
                        return None
                case VerdictMap():
                    return self._look_up(statement)
                case Log(counter):
                    self._log(counter, is_last=statement is statements[-1])
                case Remember():
                    """Only later packets meet it."""
                case _:
                    self._do(statement)
        return None

    def _goes_on(self, condition: Match | InSet | Exceeds | OneIn | SessionsExceed | MapPriority | MapCount) -> bool:
        """Return whether the rule goes on after a condition, or after a look-up that finds something."""
        match condition:
            case OneIn() | SessionsExceed():
                return bool(self.is_flood)  # by default, the sessions before it are few
            case InSet():
                return self._is_in_set(condition)
            case Match():
                return self._holds(condition)
            case Exceeds():
                return self._is_exceeded()
            case MapPriority(asked, name):
                return self._map_priority(asked, name)
            case MapCount():
                return self._map_count(condition)

    def _is_exceeded(self) -> bool:
        if self.is_flood is None:
            raise InternalError("how many packets came before decides")
        return self.is_flood

    def _do(self, effect: Effect) -> None:
        """Apply an effect to the packet."""
        match effect:
            case Count(counter):
                self._count(counter)
            case SetMark(keep, value):
                self._set_mark(keep, value)
            case SetPacketMark(value):
                self.packet[Field.PACKET_MARK] = self.outcome.packet_mark = value
            case SetPriority(value):
                self._set_priority(value)
            case SetTimeout(timeout):
                self.outcome.timeouts.append(timeout)

    def _read(self, asked: Field) -> Key | None:
        """Return the value of a field; None if the packet lacks it.

        Raises:
            InternalError: It is a port of a packet without ports.
        """
        protocol = self.packet.get(_PROTOCOLS[asked]) if asked in _PROTOCOLS else _WITH_PORTS[0]
        if protocol not in _WITH_PORTS:
            raise InternalError(f"{asked.name} is read for protocol {protocol}")
        return self.packet.get(asked)

    def _holds(self, match: Match) -> bool:
        """Return whether a match holds for the packet."""
        value = self._read(match.field)
        if value is None:
            return False
        if match.mask is not None:
            value = int(value) & match.mask
        return _within(match.ranges, value) != match.negate

    def _is_in_set(self, asked: InSet) -> bool:
        """Return whether a named set has the packet's pair; if negated, whether it hasn't."""
        elements = self.get_elements(asked.name)
        if self.table.map[asked.name].holds is not KeyType.NOTHING:
            raise InternalError(f"{asked.name} is not a set")
        value, interface = self._read(asked.field), self._read(asked.interface)
        if value is None or interface is None:
            return False
        masked = int(value) if asked.mask is None else int(value) & asked.mask
        return ((masked, str(interface)) in elements) != asked.negate

    def _set_priority(self, value: int) -> None:
        self.packet[Field.PACKET_PRIORITY] = self.outcome.priority = value

    def _map_priority(self, asked: Field, name: str) -> bool:
        """Take the priority from a map. Return False if the map holds nothing for the packet."""
        found = self._value(asked, name)
        if isinstance(found, int):
            self._set_priority(found)
        return isinstance(found, int)

    def _map_count(self, asked: MapCount) -> bool:
        """Count with the counter from a map. Return False if the map holds nothing for the packet."""
        found = self._value(asked.field, asked.name, asked.interface)
        if isinstance(found, Count):
            self._count(found.counter)
        return isinstance(found, Count)

    def _value(self, asked: Field, name: str, interface: Field | None = None) -> Datum | None:
        """Return what a named map holds for the packet's value, or for the pair of it and the name of an interface."""
        key = self._read(asked)
        ifname = "" if interface is None else self._read(interface)
        if key is None or ifname is None:
            return None
        self.outcome.lookups += 1
        return self.get_elements(name).get((int(key), str(ifname)) if interface is not None else key)

    def _look_up(self, vmap: VerdictMap) -> Verdict | None:
        """Return the verdict that a map has for the packet; None if it has none."""
        if vmap.name:
            found = self._value(vmap.field, vmap.name)
            return found if isinstance(found, Verdict) else None
        value = self._read(vmap.field)
        if value is None:
            return None
        self.outcome.lookups += 1
        if isinstance(value, str):
            raise InternalError(f"an unnamed map is keyed by {vmap.field.name}")
        index = bisect_right(vmap.entries, value, key=lambda entry: int(entry[0].first)) - 1
        if index < 0 or int(vmap.entries[index][0].last) < value:
            return None
        return vmap.entries[index][1]

    def get_elements(self, name: str) -> dict[MapKey, Datum]:
        """Return the elements of a named map.

        Raises:
            InternalError: There is no such map.
        """
        if name not in self.table.map:
            raise InternalError(f"no map {name}")
        return self.table.elements_of(name)

    def _count(self, counter: str) -> None:
        if counter not in self.table.counter:
            raise InternalError(f"no counter {counter}")
        self.outcome.counters.append(counter)

    def _log(self, counter: str, *, is_last: bool) -> None:
        """Note that the packet may be logged.

        Any packet may be logged or not, as there may be too many. That must make no difference.
        """
        if not is_last:
            raise InternalError("a log isn't the end of its rule")
        self.outcome.logs.append(counter)

    def _set_mark(self, keep: int, value: int) -> None:
        if Field.CT_MARK in self.packet:
            self.packet[Field.CT_MARK] = self.outcome.mark = (self.outcome.mark & keep) | value


def _is_name(wanted: str, name: str) -> bool:
    """Return whether an interface name matches a pattern; one that ends in * stands for all names that begin so."""
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def _within(ranges: tuple[Range, ...], value: Key) -> bool:
    if isinstance(value, str):
        return any(_is_name(str(item.first), value) for item in ranges)
    return any(int(item.first) <= value <= int(item.last) for item in ranges)
