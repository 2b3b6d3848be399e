"""What changes for all ENIs of the same groups: compared once for each pair of policies before and after.

Owns that sharing. Is given two states. Must not know an ENI's addresses. None stands for an ENI that isn't there, whose
traffic never passes.
"""

from __future__ import annotations

from functools import cache

from sgdataplane.analyse.change import Part, differing
from sgdataplane.analyse.internet import opened
from sgdataplane.analyse.order import FarAddresses, Order
from sgdataplane.analyse.regions import Region
from sgdataplane.model.decision import ABSENT, Decision
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni, NicType
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.resolve import Permission, Profile, resolve_profile

Key = tuple[str, tuple[str, ...], NicType]  # VPC, groups, nic type: all that a policy follows from, in one state


class Policies:
    """Of one state, each made once."""

    def __init__(self, state: CloudState, options: Options) -> None:
        self._state, self._options = state, options
        self._far = FarAddresses(state)
        self._examples: dict[Key, Eni] = {}
        self._profile = cache(self._make_profile)
        self.order = cache(self._make_order)

    def key(self, eni: Eni) -> Key:
        """What its order is known by from now on."""
        key = eni.vpc_id, tuple(sorted(eni.security_group_ids)), eni.nic_type
        self._examples.setdefault(key, eni)
        return key

    def _make_profile(self, key: Key) -> Profile:
        return resolve_profile(self._state, self._examples[key], self._options)

    def _make_order(self, key: Key | None, direction: Direction, family: Family) -> Order:
        if key is None:
            return Order.of((Permission(Decision(direction, Verdict.DROP, ABSENT)),), family, self._far)
        return Order.of(self._profile(key).permissions(direction), family, self._far)


class Pairs:
    """The policies of two states compared, each pair of keys once."""

    def __init__(self, before: CloudState, after: CloudState, options: Options) -> None:
        self.before, self.after = Policies(before, options), Policies(after, options)
        self.options = options
        self.parts = cache(self._differing)
        self.exposed = cache(self._opened)

    def _differing(
        self, before: Key | None, after: Key | None, direction: Direction, family: Family
    ) -> tuple[Part, ...]:
        orders = self.before.order(before, direction, family), self.after.order(after, direction, family)
        return differing(*orders, self.options)

    def _opened(self, before: Key | None, after: Key | None, family: Family) -> Region:
        """What opens to the internet. (What is accepted is what differs from nothing.)"""
        was = tuple(part.block for part in self.parts(before, None, Direction.INGRESS, family))
        now = tuple(part.block for part in self.parts(None, after, Direction.INGRESS, family))
        return opened(was, now, family)
