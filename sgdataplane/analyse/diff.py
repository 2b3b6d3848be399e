"""What a change of the state does: the traffic whose verdict changes, per ENI, direction and family.

Owns which ENIs are compared, and what they share. Is given two states. Must not know files, nor how rows are printed.

An ENI that is in one state only is compared with one whose traffic is all dropped, because nothing passes without a
policy. What `decide()` settles both before and after without evaluating rules (DHCP, discovery, addresses of others) is
no change, and a row may reach over it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sgdataplane.analyse.change import Pairs
from sgdataplane.analyse.hypothetical import HypotheticalDiff
from sgdataplane.analyse.view import Exposure, VerdictChange, View
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.options import Options
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState, share_records
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.reach import Reach


class EniDiff(NamedTuple):
    """All that changes at one ENI."""

    eni_id: str
    changes: tuple[VerdictChange, ...]
    exposures: tuple[Exposure, ...]


class StateDiff:
    """What changes from one state to another, ENI by ENI. ENIs with the same groups share what is found.

    Without options, policies are read as hosts read them, not as labs do. `pending` are the ENIs of the second state
    without an address.

    Attributes:
        hypothetical: what would open at ENIs that aren't there.
    """

    def __init__(
        self,
        before: CloudState,
        after: CloudState,
        options: Options | None = None,
        pending: Iterable[PendingEni] = (),
    ) -> None:
        after = share_records(after, before)
        self._before, self._after = before, after
        self._pairs = Pairs(before, after, options or ON_HOSTS.options)
        self._reach = Reach(before, after)
        self.hypothetical = HypotheticalDiff(before, after, self._pairs, self._reach, pending)

    @property
    def added(self) -> list[str]:
        """The ENIs that are in the second state only, sorted."""
        return sorted(self._after.eni.keys() - self._before.eni.keys())

    @property
    def removed(self) -> list[str]:
        """The ENIs that are in the first state only, sorted."""
        return sorted(self._before.eni.keys() - self._after.eni.keys())

    def list_concerned(self) -> list[str]:
        """Return the ENIs that the change may affect, sorted; at all others nothing changes."""
        every = self._before.eni.keys() | self._after.eni.keys()
        return sorted(eni_id for eni_id in every if self._reach.touches([eni_id]))

    def view(self, eni_id: str, direction: Direction, family: Family) -> View:
        """Return the view of an ENI that is in one of the states or in both, in one direction and family."""
        return View(self._pairs, self._before.eni.get(eni_id), self._after.eni.get(eni_id), direction, family)

    def at(self, eni_id: str) -> EniDiff:
        """Return what changes at an ENI that is in one of the states or in both."""
        changes: list[VerdictChange] = []
        exposures: list[Exposure] = []
        for direction in Direction:
            for family in Family:
                view = self.view(eni_id, direction, family)
                found = [] if view.is_same() else view.changes(eni_id)
                changes += found
                if direction is Direction.INGRESS and any(change.is_opening for change in found):
                    exposures += view.exposures(eni_id)
        return EniDiff(eni_id, tuple(changes), tuple(exposures))
