"""Which ENIs share one policy, and that policy as one order per direction and family: what exact findings ask.

Owns the sharing, and how much may be asked. Is given a state. Must not know findings.

ENIs with the same groups and nic type are one pool. A group without ENIs is judged as if one were in it alone, whatever
its addresses. Work is counted in pieces that traffic is cut into: where there is too much of it, TooMuchError is
raised, and nothing may be concluded from what was seen until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.analyse.order import Arrangement, Cell, Entry, FarAddresses, Mask, Order, Shape, bits
from sgdataplane.analyse.ranges import Ranges, meet, minus, united
from sgdataplane.analyse.regions import addresses
from sgdataplane.model.options import DEFAULTS, DHCP_BROADCAST, DHCPV6_SERVERS, GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.model.state import CloudState, Eni, NetworkType, NicType, SecurityGroup
from sgdataplane.net.values import Direction, Family, Prefix, Verdict
from sgdataplane.policy.resolve import Cause, Permission, Profile, resolve_profile

RuleKey = tuple[str, str]  # the ids of a group and of a rule of it
MOST_OF_VIEW = 150_000  # pieces of one pool, direction and family
MOST = 3_000_000  # pieces of all
DHCP = tuple(Prefix.of(a) for a in (GATEWAY_IPV4, GATEWAY_IPV6, DHCP_BROADCAST, DHCPV6_SERVERS))  # may always pass


class TooMuchError(Exception):
    """There is more to look at than may be (never leaves this package)."""


@dataclass
class Budget:
    """How many pieces one view may be cut into, and how many are left for all; is changed."""

    most_of_view: int = MOST_OF_VIEW
    left: int = MOST
    _of_view: int = 0

    def begin(self) -> None:
        """Another view."""
        self._of_view = self.most_of_view

    def spend(self, pieces: int) -> None:
        self._of_view -= pieces
        self.left -= pieces
        if min(self._of_view, self.left) < 0:
            raise TooMuchError


@dataclass(frozen=True, eq=False)
class Pool:
    """ENIs that share a profile; none of them: any ENI that were in its group alone."""

    profile: Profile
    enis: tuple[Eni, ...]

    def is_met(self, far: Ranges, local: Ranges, family: Family) -> bool:
        """Whether some traffic between these gets to the rules of an ENI: not from or to itself, and not to what it
        shares with others. (Traffic with the addresses of DHCP is left out, as some of it passes always.)"""
        if not self.enis:
            return bool(far and local)
        reached = (eni for eni in self.enis if meet(ranges_of(eni.own_prefixes, family), local))
        return any(minus(far, ranges_of((*eni.private_prefixes, *DHCP), family)) for eni in reached)


@dataclass(frozen=True, eq=False)
class View:
    """A pool's policy in one direction and family. Entries are told by their place in the order, sets of them are masks
    as in analyse/order.py. What is asked is spent from the stacks' budget."""

    pool: Pool
    direction: Direction
    order: Order
    stacks: Stacks

    @cached_property
    def classes(self) -> dict[Mask, Ranges]:
        """Far addresses by the set of entries whose remote they are in."""
        self.stacks.budget.spend(sum(len(entry.far) for entry in self.order.entries))
        return self.order.classes(addresses(self.order.family))

    @cached_property
    def _kinds(self) -> list[int]:
        return [self.stacks.kind(entry) for entry in self.order.entries]

    def cells(self, holding: Mask) -> list[tuple[Cell, int]]:
        """What decides the traffic of a set: disjoint cells, each with its entry."""
        places = tuple(bits(holding))
        stack = self.stacks.of(tuple(self._kinds[place] for place in places), self.order.family)
        return [(cell, places[cell.winners[0]]) for cell in stack.decided((1 << len(places)) - 1)]

    def is_same(self, holding: Mask, index: int) -> bool:
        """Whether all verdicts of a set stay what they are without one of it."""
        places = tuple(bits(holding))
        stack = self.stacks.of(tuple(self._kinds[place] for place in places), self.order.family)
        every = (1 << len(places)) - 1
        return not stack.differing(every, every & ~(1 << places.index(index)))

    def has_part(self, cell: Cell, index: int) -> bool:
        """Whether some of a cell meets an entry's conditions but the remote."""
        return all(map(meet, cell.shape, self.order.entries[index].shape))

    def local(self, cell: Cell, index: int) -> Ranges:
        """The local addresses of that part."""
        return meet(cell.shape[1], self.order.entries[index].shape[1])

    def is_met(self, far: Ranges, local: Ranges) -> bool:
        return self.pool.is_met(far, local, self.order.family)

    @cached_property
    def rules(self) -> dict[RuleKey, int]:
        """The place of each rule that can match at all."""
        causes = ((self.cause(index), index) for index, entry in enumerate(self.order.entries) if entry.region)
        return {(c.security_group_id, c.security_group_rule_id): i for c, i in causes if c.reason == "rule"}

    def permission(self, index: int) -> Permission:
        return self.order.entries[index].permission

    def cause(self, index: int) -> Cause:
        return self.permission(index).cause

    @cached_property
    def inner(self) -> Mask:
        """The inner accepts."""
        return sum(1 << i for i, _ in enumerate(self.order.entries) if self.cause(i).reason == "inner_accept")

    @cached_property
    def accepting(self) -> Mask:
        """The entries whose verdict is accept."""
        return sum(1 << i for i, _ in enumerate(self.order.entries) if self.cause(i).verdict is Verdict.ACCEPT)

    def alike(self, index: int) -> Mask:
        """The entries with the same verdict as this one."""
        return self.accepting if self.accepting >> index & 1 else ~self.accepting


class Stacks:
    """Sets of entries, to be asked what decides among them: shared by all views, as it follows from the conditions and
    verdicts of entries, whatever their rules are called and their remotes."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._kinds: dict[tuple[Shape, bool], int] = {}
        self._made: list[tuple[Shape, bool]] = []
        self._known: dict[tuple[Family, tuple[int, ...]], Arrangement] = {}

    def kind(self, entry: Entry) -> int:
        """Equal for entries with equal conditions, but for the remote, and the same verdict."""
        is_accept = entry.permission.cause.verdict is Verdict.ACCEPT
        known = entry.shape, is_accept
        if known not in self._kinds:
            self._kinds[known] = len(self._made)
            self._made.append(known)
        return self._kinds[known]

    def of(self, kinds: tuple[int, ...], family: Family) -> Arrangement:
        """The strongest first; the last holds for everything."""
        found = self._known.get((family, kinds))
        if found is None:
            shapes = [self._made[kind][0] for kind in kinds]
            accepting = sum(1 << place for place, kind in enumerate(kinds) if self._made[kind][1])
            found = self._known[family, kinds] = _Bounded(shapes, accepting, family, self.budget)
        return found


class _Bounded(Arrangement):
    """An arrangement that counts the pieces that it makes."""

    def __init__(self, shapes: Sequence[Shape], accepting: Mask, family: Family, budget: Budget) -> None:
        super().__init__(shapes, accepting, family)
        self._budget = budget

    def _pieces(self, dim: int, sides: tuple[Mask, ...]) -> Iterator[tuple[Ranges, tuple[Mask, ...]]]:
        for piece in super()._pieces(dim, sides):
            self._budget.spend(1)
            yield piece


def ranges_of(prefixes: Iterable[Prefix], family: Family) -> Ranges:
    return united((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def pools_of(state: CloudState) -> Iterator[Pool]:
    """Every pool of a state, and one for each group without ENIs."""
    found: dict[tuple[tuple[str, ...], NicType], list[Eni]] = {}
    for eni in state.network_interfaces:
        found.setdefault((tuple(sorted(eni.security_group_ids)), eni.nic_type), []).append(eni)
    for enis in found.values():
        yield Pool(resolve_profile(state, enis[0], DEFAULTS), tuple(enis))
    for group in state.security_groups:
        if not state.enis_of_group[group.security_group_id]:
            for eni in _imagined(state, group):
                yield Pool(resolve_profile(state, eni, DEFAULTS), ())


def _imagined(state: CloudState, group: SecurityGroup) -> Iterator[Eni]:
    """An ENI in a group alone; in the classic network one of each nic type."""
    is_classic = state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
    for nic_type in NicType if is_classic else (NicType.INTRANET,):
        yield Eni("", group.vpc_id, "", (), (group.security_group_id,), nic_type=nic_type)


def views_of(pool: Pool, far: FarAddresses, stacks: Stacks) -> Iterator[View]:
    """Those in which a rule can match."""
    for direction in Direction:
        permissions = pool.profile.permissions(direction)
        if not any(permission.cause.reason == "rule" for permission in permissions):
            continue
        for family in Family:
            view = View(pool, direction, Order.of(permissions, family, far), stacks)
            if view.rules:
                yield view
