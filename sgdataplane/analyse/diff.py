"""What a change of the state does: the traffic whose verdict changes, per ENI, direction and family.

Owns which ENIs are looked at, and what they share. Is given two states. Must not know files, nor how rows are printed.

An ENI that is in one state only is compared with one that nothing passes, as nothing passes without a policy. What
`decide()` settles both before and after without asking any rule (DHCP, discovery, addresses of others) is no change,
and a row may reach over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sgdataplane.analyse.change import Key, Pairs
from sgdataplane.analyse.regions import Block, addresses, common
from sgdataplane.analyse.rows import NOTHING, PLACES, Axis, JudgedTraffic, Row, at, is_all_dhcp, judged_traffic, rows
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState, Eni, sharing
from sgdataplane.net.ranges import Interval, meet, minus, united
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Family, Verdict
from sgdataplane.policy.dimensions import DIMENSIONS, FURTHER, LOCAL, PORT, PROTOCOL, REMOTE, Dimension
from sgdataplane.policy.reach import Reach


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """Traffic of an ENI whose verdict changes. `ranges`: with both ends, in the order of DIMENSIONS; None: any number
    or, for ports, none at all."""

    eni_id: str
    direction: Direction
    family: Family
    ranges: tuple[Interval | None, ...]
    before: Decision
    after: Decision

    @property
    def is_opening(self) -> bool:
        return self.after.verdict is Verdict.ACCEPT

    def of(self, dimension: Dimension) -> Interval | None:
        return self.ranges[PLACES[dimension]]


@dataclass(frozen=True, slots=True)
class Exposure:
    """What opens to the internet at an ENI: traffic that most public addresses may send to it after, but not before."""

    eni_id: str
    family: Family
    protocol: Interval
    ports: Interval | None


class EniDiff(NamedTuple):
    """All that changes at one ENI."""

    eni_id: str
    changes: tuple[VerdictChange, ...]
    exposures: tuple[Exposure, ...]


class StateDiff:
    """What changes from one state to another, ENI by ENI. ENIs with the same groups share what is found."""

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
        """The ENIs that the change may affect, sorted; at all others nothing changes."""
        every = self._before.eni.keys() | self._after.eni.keys()
        return sorted(eni_id for eni_id in every if self._reach.touches([eni_id]))

    def at(self, eni_id: str) -> EniDiff:
        """What changes at an ENI that is in one of the states or in both."""
        before, after = self._before.eni.get(eni_id), self._after.eni.get(eni_id)
        changes: list[VerdictChange] = []
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
    """Traffic that rules judge before, after or both, and by which policies."""

    scope: JudgedTraffic
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
        """Whether nothing changes. An ENI that stays as it is shows that at once."""
        return self.before == self.after and not self.pairs.changed(*self._keys, self.direction, self.family)

    def changes(self, eni_id: str) -> list[VerdictChange]:
        found: dict[tuple[Decision, Decision], list[Block]] = {}
        for share in self._shares():
            for block, *decisions in self.pairs.changed(share.before, share.after, self.direction, self.family):
                for judged in common((block,), share.scope.region(self.family)):
                    found.setdefault((decisions[0], decisions[1]), []).append(judged)
        return sorted(
            (
                VerdictChange(eni_id, self.direction, self.family, self._told(row), *decisions)
                for decisions, blocks in found.items()
                for row in self._rows(blocks)
            ),
            key=_place,
        )

    def exposures(self, eni_id: str) -> list[Exposure]:
        """What opens to the internet. At an address that the ENI has only after, everything that is open opens."""
        (old, new), (before, after) = self._keys, (scope.local for scope in self._scopes)
        everyone = addresses(self.family)
        found = [
            block
            for local, key in ((meet(before, after), old), (minus(after, before), None))
            for block in common(
                self.pairs.opened(key, new, self.family), JudgedTraffic(everyone, local).region(self.family)
            )
        ]
        told = {(at(row, PROTOCOL), self._told(row)[PLACES[PORT]]) for row in self._rows(found)}
        return [Exposure(eni_id, self.family, protocol, ports) for protocol, ports in sorted(told, key=str)]

    @cached_property
    def _keys(self) -> tuple[Key | None, Key | None]:
        old = self.pairs.before.key(self.before) if self.before is not None else None
        new = self.pairs.after.key(self.after) if self.after is not None else None
        return old, new

    @cached_property
    def _scopes(self) -> tuple[JudgedTraffic, JudgedTraffic]:
        before, after = (
            NOTHING if eni is None else judged_traffic(eni, self.direction, self.family, self.pairs.options)
            for eni in (self.before, self.after)
        )
        return before, after

    def _shares(self) -> Iterator[_Share]:
        """What both policies judge, and what only one does, as an address may be the ENI's (or another's) only then."""
        before, after = self._scopes
        old, new = self._keys
        far, local = meet(before.far, after.far), meet(before.local, after.local)
        yield _Share(JudgedTraffic(far, local), old, new)
        for mine, keys in ((before, (old, None)), (after, (None, new))):
            yield _Share(JudgedTraffic(minus(mine.far, far), mine.local), *keys)
            yield _Share(JudgedTraffic(far, minus(mine.local, local)), *keys)

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

    def _told(self, row: Row) -> tuple[Interval | None, ...]:
        """A row as it is reported: always remote and protocol, ports if there are any, the rest if it isn't all."""
        first, last = at(row, PROTOCOL)
        has_ports = first == last and first in PORT_PROTOCOLS
        told = {REMOTE, PROTOCOL, PORT} if has_ports else {REMOTE, PROTOCOL}
        parts = zip(DIMENSIONS, row, strict=True)
        return tuple(None if each not in told and part == self._whole[each] else part for each, part in parts)

    @cached_property
    def _whole(self) -> Mapping[Dimension, Interval]:
        """Each dimension's whole range here."""
        whole = {each: each.whole(self.family)[0] for each in DIMENSIONS}
        return {**whole, LOCAL: self._local.whole}


def _place(change: VerdictChange) -> tuple[object, ...]:
    """Sort key: what opens first, then by protocol and ports, addresses last."""
    none = -1, -1
    return not change.is_opening, *(change.of(each) or none for each in (PROTOCOL, PORT, *FURTHER, REMOTE, LOCAL))
