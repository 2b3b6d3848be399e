"""An ENI before and after a change, in one direction and family.

Its traffic whose verdict changes, and what of it opens to the internet. Owns the records of a change. Is given the
policies before and after, and which traffic rules judge. Must not know which ENIs are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sgdataplane.analyse.change import ChangedTraffic, Key, Pairs
from sgdataplane.analyse.regions import Block, addresses, common
from sgdataplane.analyse.rows import NOTHING, PLACES, Axis, JudgedTraffic, Row, at, is_all_dhcp, judge_traffic, rows
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.state import Eni
from sgdataplane.net.ranges import Interval, Ranges, meet, minus, unite
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Family, Verdict
from sgdataplane.policy.dimensions import DIMENSIONS, FURTHER, LOCAL, PORT, PROTOCOL, REMOTE, Dimension


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """Traffic of an ENI whose verdict changes."""

    eni_id: str
    direction: Direction
    family: Family
    ranges: tuple[Interval | None, ...]
    """Its range in each of DIMENSIONS, with both ends; None is any number or, for ports, none at all."""
    before: Decision
    """What decides before the change."""
    after: Decision
    """What decides after the change."""

    @property
    def is_opening(self) -> bool:
        """Whether the traffic passes after the change."""
        return self.after.verdict is Verdict.ACCEPT

    def of(self, dimension: Dimension) -> Interval | None:
        """Return the range in one dimension."""
        return self.ranges[PLACES[dimension]]


@dataclass(frozen=True, slots=True)
class Exposure:
    """What opens to the internet at an ENI: traffic that most public addresses may send to it after, but not before."""

    eni_id: str
    family: Family
    protocol: Interval
    """A range of protocol numbers."""
    ports: Interval | None
    """None if the protocols have no ports."""


@dataclass(frozen=True)
class Frame:
    """How traffic of one direction and family is reported: as rows over the addresses that matter."""

    direction: Direction
    family: Family
    far: Ranges
    """The far addresses that matter."""
    local: Ranges
    """The local addresses that matter."""
    options: Options

    def changes(self, eni_id: str, parts: Iterable[ChangedTraffic]) -> list[VerdictChange]:
        """Return the changes of an ENI's traffic, what opens first."""
        found: dict[tuple[Decision, Decision], list[Block]] = {}
        for block, *decisions in parts:
            found.setdefault((decisions[0], decisions[1]), []).append(block)
        return sorted(
            (
                VerdictChange(eni_id, self.direction, self.family, self._report_row(row), *decisions)
                for decisions, blocks in found.items()
                for row in self._rows(blocks)
            ),
            key=_place,
        )

    def exposures(self, eni_id: str, blocks: list[Block]) -> list[Exposure]:
        """Return what opens to the internet at an ENI, one for each protocol and range of ports."""
        told = {(at(row, PROTOCOL), self._report_row(row)[PLACES[PORT]]) for row in self._rows(blocks)}
        return [Exposure(eni_id, self.family, protocol, ports) for protocol, ports in sorted(told, key=str)]

    def _rows(self, blocks: list[Block]) -> list[Row]:
        """Return the rows of some traffic, without rows of DHCP only."""
        if not blocks:
            return []
        found = rows(blocks, *self._axes)
        return [row for row in found if not is_all_dhcp(row, self.direction, self.family, self.options)]

    def _report_row(self, row: Row) -> tuple[Interval | None, ...]:
        """Return a row as it is reported: remote and protocol, ports if it has any, and whatever isn't all."""
        first, last = at(row, PROTOCOL)
        has_ports = first == last and first in PORT_PROTOCOLS
        told = {REMOTE, PROTOCOL, PORT} if has_ports else {REMOTE, PROTOCOL}
        parts = zip(DIMENSIONS, row, strict=True)
        return tuple(None if each not in told and part == self._whole[each] else part for each, part in parts)

    @cached_property
    def _axes(self) -> tuple[Axis, Axis]:
        return Axis(self.far), Axis(self.local)

    @cached_property
    def _whole(self) -> Mapping[Dimension, Interval]:
        """Each dimension's whole range here."""
        whole = {each: each.whole(self.family)[0] for each in DIMENSIONS}
        return {**whole, LOCAL: self._axes[1].whole}


class _Share(NamedTuple):
    """Traffic that rules judge before, after or both, and by which policies."""

    scope: JudgedTraffic
    before: Key | None
    after: Key | None


@dataclass(frozen=True)
class View:
    """An ENI before and after, in one direction and family."""

    pairs: Pairs
    before: Eni | None
    """None if it is in the second state only."""
    after: Eni | None
    """None if it is in the first state only."""
    direction: Direction
    family: Family

    def is_same(self) -> bool:
        """Return whether nothing changes, as an ENI that stays as it is shows at once."""
        return self.before == self.after and not self.pairs.changed(*self._keys, self.direction, self.family)

    def changes(self, eni_id: str) -> list[VerdictChange]:
        """Return the traffic of the ENI whose verdict changes."""
        return self._frame.changes(eni_id, self._parts())

    def exposures(self, eni_id: str) -> list[Exposure]:
        """Return what opens to the internet.

        At an address that the ENI has only after the change, everything that is open opens.
        """
        (old, new), (before, after) = self._keys, (scope.local for scope in self._scopes)
        everyone = addresses(self.family)
        found = [
            block
            for local, key in ((meet(before, after), old), (minus(after, before), None))
            for block in common(
                self.pairs.opened(key, new, self.family), JudgedTraffic(everyone, local).region(self.family)
            )
        ]
        return self._frame.exposures(eni_id, found)

    def _parts(self) -> Iterator[ChangedTraffic]:
        for share in self._shares():
            for block, *decisions in self.pairs.changed(share.before, share.after, self.direction, self.family):
                for judged in common((block,), share.scope.region(self.family)):
                    yield ChangedTraffic(judged, *decisions)

    @cached_property
    def _keys(self) -> tuple[Key | None, Key | None]:
        old = self.pairs.before.key(self.before) if self.before is not None else None
        new = self.pairs.after.key(self.after) if self.after is not None else None
        return old, new

    @cached_property
    def _scopes(self) -> tuple[JudgedTraffic, JudgedTraffic]:
        before, after = (
            NOTHING if eni is None else judge_traffic(eni, self.direction, self.family, self.pairs.options)
            for eni in (self.before, self.after)
        )
        return before, after

    @property
    def judged(self) -> JudgedTraffic:
        """The traffic that rules judge before, after or both; what a row has beyond it is no change."""
        far = unite(i for scope in self._scopes for i in scope.far)
        return JudgedTraffic(far, unite(i for scope in self._scopes for i in scope.local))

    @cached_property
    def _frame(self) -> Frame:
        return Frame(self.direction, self.family, *self.judged, self.pairs.options)

    def _shares(self) -> Iterator[_Share]:
        """Yield what both policies judge, and what only one does.

        An address may be the ENI's (or another's) only before or only after.
        """
        before, after = self._scopes
        old, new = self._keys
        far, local = meet(before.far, after.far), meet(before.local, after.local)
        yield _Share(JudgedTraffic(far, local), old, new)
        for mine, keys in ((before, (old, None)), (after, (None, new))):
            yield _Share(JudgedTraffic(minus(mine.far, far), mine.local), *keys)
            yield _Share(JudgedTraffic(far, minus(mine.local, local)), *keys)


def _place(change: VerdictChange) -> tuple[object, ...]:
    """Return the key by which changes are sorted: what opens first, then by protocol and ports, addresses last."""
    none = -1, -1
    return not change.is_opening, *(change.of(each) or none for each in (PROTOCOL, PORT, *FURTHER, REMOTE, LOCAL))
