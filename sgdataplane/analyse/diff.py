"""What a change of the state does: the traffic whose verdict changes, per ENI, direction and family.

Owns which ENIs are looked at, and what they share. Is given two states. Must not know files, nor how rows are printed.

An ENI that is in one state only is compared with nothing passing: that is what happens to one without a policy. What
`decide()` settles before it asks any rule (DHCP, discovery, strangers' addresses), before as after, is no change, and a
row may reach over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sgdataplane.analyse.pairs import Key, Pairs
from sgdataplane.analyse.regions import PORTS, Block, addresses, common
from sgdataplane.analyse.rows import Axis, Row, rows
from sgdataplane.analyse.scope import NOTHING, Scope, is_all_dhcp, scope_of
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.sharing import sharing
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Interval, meet, minus, united
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Family, Verdict
from sgdataplane.policy.reach import Reach


@dataclass(frozen=True, slots=True)
class Change:
    """Traffic of an ENI whose verdict changes; ranges with both ends. None: any of the ENI's addresses; any port,
    or a protocol without ports."""

    eni_id: str
    direction: Direction
    family: Family
    remote: Interval
    protocol: Interval
    local: Interval | None
    source_ports: Interval | None
    ports: Interval | None
    before: Decision
    after: Decision

    @property
    def is_opening(self) -> bool:
        return self.after.verdict is Verdict.ACCEPT

    def has(self, packet: Packet) -> bool:
        """Whether a packet is among the traffic."""
        values = (
            (packet.remote.value, self.remote),
            (packet.protocol, self.protocol),
            (packet.local.value, self.local),
            (packet.source_port, self.source_ports),
            (packet.port, self.ports),
        )
        place = packet.eni_id, packet.direction, packet.family
        return place == (self.eni_id, self.direction, self.family) and all(
            number is None or interval is None or interval[0] <= number <= interval[1] for number, interval in values
        )


@dataclass(frozen=True, slots=True)
class Exposure:
    """What opens to the internet at an ENI: traffic to it that most public addresses may send after, not before."""

    eni_id: str
    family: Family
    protocol: Interval
    ports: Interval | None


class EniDiff(NamedTuple):
    """All that changes at one ENI."""

    eni_id: str
    changes: tuple[Change, ...]
    exposures: tuple[Exposure, ...]


class StateDiff:
    """From one state to another, ENI by ENI. What ENIs of the same groups share is found once."""

    def __init__(self, before: CloudState, after: CloudState, options: Options = DEFAULTS) -> None:
        after = sharing(after, before)
        self._before, self._after = before, after
        self._pairs = Pairs(before, after, options)
        self._reach = Reach(before, after)

    @property
    def added(self) -> list[str]:
        """ENIs that are in the second state only, sorted."""
        return sorted(self._after.eni.keys() - self._before.eni.keys())

    @property
    def removed(self) -> list[str]:
        """ENIs that are in the first state only, sorted."""
        return sorted(self._before.eni.keys() - self._after.eni.keys())

    def concerned(self) -> list[str]:
        """The ENIs that the change may be about, sorted; at all others nothing changes."""
        every = self._before.eni.keys() | self._after.eni.keys()
        return sorted(eni_id for eni_id in every if self._reach.touches([eni_id]))

    def at(self, eni_id: str) -> EniDiff:
        """What changes at an ENI of one of the states or both."""
        before, after = self._before.eni.get(eni_id), self._after.eni.get(eni_id)
        changes: list[Change] = []
        exposures: list[Exposure] = []
        for direction in Direction:
            for family in Family:
                view = _View(self._pairs, before, after, direction, family)
                found = [] if view.is_same() else view.changes(eni_id)
                changes += found
                if direction is Direction.INGRESS and any(change.is_opening for change in found):
                    exposures += view.exposures(eni_id)
        return EniDiff(eni_id, tuple(changes), tuple(exposures))


class _Share(NamedTuple):
    """Traffic that rules judge before, after or both; by which policies."""

    scope: Scope
    before: Key | None
    after: Key | None


@dataclass(frozen=True)
class _View:
    """An ENI before and after, in one direction and family."""

    pairs: Pairs
    before: Eni | None
    after: Eni | None
    direction: Direction
    family: Family

    def is_same(self) -> bool:
        """Whether nothing changes, as is seen at once for an ENI that stays as it is."""
        return self.before == self.after and not self.pairs.parts(*self._keys, self.direction, self.family)

    def changes(self, eni_id: str) -> list[Change]:
        found: dict[tuple[Decision, Decision], list[Block]] = {}
        for share in self._shares():
            for block, *decisions in self.pairs.parts(share.before, share.after, self.direction, self.family):
                for judged in common((block,), share.scope.region):
                    found.setdefault((decisions[0], decisions[1]), []).append(judged)
        return sorted(
            (
                Change(eni_id, self.direction, self.family, row[0], row[1], *self._told(row), *decisions)
                for decisions, blocks in found.items()
                for row in self._rows(blocks)
            ),
            key=_place,
        )

    def exposures(self, eni_id: str) -> list[Exposure]:
        """At an address that is the ENI's only after, all that is open opens."""
        (old, new), (before, after) = self._keys, (scope.local for scope in self._scopes)
        everyone = addresses(self.family)
        found = [
            block
            for local, key in ((meet(before, after), old), (minus(after, before), None))
            for block in common(self.pairs.exposed(key, new, self.family), Scope(everyone, local).region)
        ]
        told = {(row[1], self._told(row)[2]) for row in self._rows(found)}
        return [Exposure(eni_id, self.family, protocol, ports) for protocol, ports in sorted(told, key=str)]

    @cached_property
    def _keys(self) -> tuple[Key | None, Key | None]:
        old = self.pairs.before.key(self.before) if self.before is not None else None
        new = self.pairs.after.key(self.after) if self.after is not None else None
        return old, new

    @cached_property
    def _scopes(self) -> tuple[Scope, Scope]:
        before, after = (
            NOTHING if eni is None else scope_of(eni, self.direction, self.family, self.pairs.options)
            for eni in (self.before, self.after)
        )
        return before, after

    def _shares(self) -> Iterator[_Share]:
        """What both policies judge, and what only one does: if the ENI, or somebody else, has an address then only."""
        before, after = self._scopes
        old, new = self._keys
        far, local = meet(before.far, after.far), meet(before.local, after.local)
        yield _Share(Scope(far, local), old, new)
        for mine, keys in ((before, (old, None)), (after, (None, new))):
            yield _Share(Scope(minus(mine.far, far), mine.local), *keys)
            yield _Share(Scope(far, minus(mine.local, local)), *keys)

    def _rows(self, blocks: list[Block]) -> list[Row]:
        """Without rows of DHCP only."""
        if not blocks:
            return []
        found = rows(blocks, self._far, self._local)
        return [row for row in found if not is_all_dhcp(row, self.direction, self.family, self.pairs.options)]

    @cached_property
    def _far(self) -> Axis:
        return Axis(united(i for scope in self._scopes for i in scope.far))

    @cached_property
    def _local(self) -> Axis:
        return Axis(united(i for scope in self._scopes for i in scope.local))

    def _told(self, row: Row) -> tuple[Interval | None, Interval | None, Interval | None]:
        """Local address, source ports and ports, as far as they are worth telling."""
        _, protocol, local, source, port = row
        has_ports = protocol[0] == protocol[1] and protocol[0] in PORT_PROTOCOLS
        return (
            None if local == self._local.whole else local,
            None if (source,) == PORTS else source,
            None if (port,) == PORTS and not has_ports else port,
        )


def _place(change: Change) -> tuple[object, ...]:
    """Sort key: what opens first, then by protocol, ports and far address."""
    none = -1, -1
    return (
        not change.is_opening,
        change.protocol,
        change.ports or none,
        change.source_ports or none,
        change.remote,
        change.local or none,
    )
