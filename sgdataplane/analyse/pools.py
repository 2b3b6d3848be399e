"""Which ENIs share one policy, and that policy as one order per direction and family: what exact findings are made of.

Owns the sharing. Is given a state. Must not know findings.

ENIs with the same groups and NIC type are one pool. A group without ENIs is judged as if one ENI were in it alone,
whatever its addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.analyse.arrangement import LOCAL_AT, Mask, Stack, Stacks, TrafficCell, bits, mask_of
from sgdataplane.analyse.order import FarAddresses, PermissionOrder
from sgdataplane.analyse.regions import addresses, ranges_of
from sgdataplane.model.decision import INNER_ACCEPT, RULE, Decision
from sgdataplane.model.options import DHCP_BROADCAST, DHCPV6_SERVERS, Options
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState, Eni, NetworkType, NicType, SecurityGroup
from sgdataplane.net.ranges import Ranges, meet, minus
from sgdataplane.net.values import Direction, Family, Prefix
from sgdataplane.policy.resolve import Permission, Profile, resolve_profile

RuleKey = tuple[str, str]  # the ids of a group and of a rule of it
DHCP = (Prefix.of(DHCP_BROADCAST), Prefix.of(DHCPV6_SERVERS))


@dataclass(frozen=True, eq=False)
class Pool:
    """ENIs that share a profile; without any, whatever ENI might be in its group alone."""

    profile: Profile
    enis: tuple[Eni, ...]
    passing: tuple[Prefix, ...]
    """Far addresses with which some traffic may pass whatever the rules say (DHCP's, metadata)."""

    def is_met(self, far: Ranges, local: Ranges, family: Family) -> bool:
        """Return whether some traffic between these addresses gets to the rules of an ENI.

        It doesn't if it is from or to the ENI itself, or to an address that the ENI shares with others. Traffic with
        addresses that may always pass is left out.
        """
        if not self.enis:
            return bool(far and local)
        reached = (eni for eni in self.enis if meet(ranges_of(eni.own_prefixes, family), local))
        return any(minus(far, ranges_of((*eni.private_prefixes, *self.passing), family)) for eni in reached)


@dataclass(frozen=True, eq=False)
class PoolPolicy:
    """A pool's policy in one direction and family.

    An entry is named by its place in the order, and sets of entries are masks as in arrangement.py. Each question
    spends from the stacks' budget, and raises BudgetSpentError if that is too much.
    """

    pool: Pool
    direction: Direction
    order: PermissionOrder
    stacks: Stacks

    @cached_property
    def classes(self) -> dict[Mask, Ranges]:
        """The far addresses, by the set of entries whose remote they are in."""
        self.stacks.budget.spend(sum(len(entry.far) for entry in self.order.entries))
        return self.order.classes(addresses(self.order.family))

    @cached_property
    def _kinds(self) -> list[int]:
        return [self.stacks.kind(entry.shape, self.accepting >> i & 1) for i, entry in enumerate(self.order.entries)]

    @cached_property
    def _known(self) -> dict[Mask, list[tuple[TrafficCell, int]]]:
        return {}

    def _stack(self, holding: Mask) -> tuple[Stack, tuple[int, ...]]:
        places = tuple(bits(holding))
        return self.stacks.of(tuple([self._kinds[place] for place in places]), self.order.family), places

    def cells(self, holding: Mask) -> list[tuple[TrafficCell, int]]:
        """Return what decides the traffic of a set of entries: disjoint cells, each with its entry."""
        if holding not in self._known:
            stack, places = self._stack(holding)
            self._known[holding] = [(cell, places[cell.winners[0]]) for cell in stack.list_decided(stack.every)]
        return self._known[holding]

    def follow(self, holding: Mask) -> Iterator[tuple[int, int]]:
        """Return each entry that decides some traffic of a set, with the entry that would decide it next."""
        stack, places = self._stack(holding)
        return ((places[first], places[second]) for first, second in stack.follow())

    def is_same(self, holding: Mask, index: int) -> bool:
        """Return whether all verdicts of a set stay as they are without one of its entries."""
        stack, places = self._stack(holding)
        return not stack.list_differing(stack.every, stack.every & ~(1 << places.index(index)))

    def has_part(self, cell: TrafficCell, index: int) -> bool:
        """Return whether some of a cell meets all of an entry's conditions except the remote."""
        return all(map(meet, cell.shape, self.order.entries[index].shape))

    def local(self, cell: TrafficCell, index: int) -> Ranges:
        """Return the local addresses of the part of a cell that meets an entry's conditions."""
        return meet(cell.shape[LOCAL_AT], self.order.entries[index].shape[LOCAL_AT])

    def is_met(self, far: Ranges, local: Ranges) -> bool:
        """Return whether some traffic between these addresses gets to the rules of an ENI of the pool."""
        return self.pool.is_met(far, local, self.order.family)

    @cached_property
    def rules(self) -> dict[RuleKey, int]:
        """The place of each rule that can match at all."""
        decisions = ((self.decision(i), i) for i, entry in enumerate(self.order.entries) if entry.can_match)
        return {rule_key(decision): i for decision, i in decisions if decision.cause == RULE}

    def permission(self, index: int) -> Permission:
        """Return the permission of an entry."""
        return self.order.entries[index].permission

    def decision(self, index: int) -> Decision:
        """Return the decision that an entry makes."""
        return self.permission(index).decision

    @property
    def accepting(self) -> Mask:
        """The entries whose verdict is accept."""
        return self.order.accepting

    @cached_property
    def inner(self) -> Mask:
        """The entries that are inner accepts."""
        return mask_of(i for i, _ in enumerate(self.order.entries) if self.decision(i).cause == INNER_ACCEPT)

    def find_agreeing(self, index: int) -> Mask:
        """Return the entries with the same verdict as this one."""
        return self.accepting if self.accepting >> index & 1 else ~self.accepting


def rule_key(rule: Decision) -> RuleKey:
    """Return the ids of a rule's group and of the rule, which name it in a whole state."""
    return rule.security_group_id, rule.security_group_rule_id


def pools_of(state: CloudState, options: Options, pending: Iterable[PendingEni] = ()) -> Iterator[Pool]:
    """Yield the pools of all ENIs, of each group without ENIs, and of interfaces that have no address yet."""
    passing = (*map(Prefix.of, options.gateways), *DHCP, *options.metadata)
    found: dict[tuple[tuple[str, ...], NicType], list[Eni]] = {}
    for eni in state.judged_enis:
        found.setdefault((tuple(sorted(eni.security_group_ids)), eni.nic_type), []).append(eni)
    for enis in found.values():
        yield Pool(resolve_profile(state, enis[0], options), tuple(enis), passing)
    imagined = [
        eni
        for group in state.security_groups
        if not state.enis_of_group[group.security_group_id]
        for eni in _imagine_enis(state, group)
    ]
    imagined += [Eni("", each.vpc_id, "", (), each.security_group_ids) for each in pending]
    for eni in imagined:
        if (key := (tuple(sorted(eni.security_group_ids)), eni.nic_type)) not in found:
            found[key] = []
            yield Pool(resolve_profile(state, eni, options), (), passing)


def _imagine_enis(state: CloudState, group: SecurityGroup) -> Iterator[Eni]:
    """Yield an ENI that is in this group alone; in the classic network, one of each NIC type."""
    is_classic = state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
    for nic_type in NicType if is_classic else (NicType.INTRANET,):
        yield Eni("", group.vpc_id, "", (), (group.security_group_id,), nic_type=nic_type)


def policies_of(pool: Pool, far: FarAddresses, stacks: Stacks) -> Iterator[PoolPolicy]:
    """Yield the policies of a pool in which a rule can match, by direction and family."""
    for direction in Direction:
        permissions = pool.profile.permissions(direction)
        if not any(permission.decision.cause == RULE for permission in permissions):
            continue
        for family in Family:
            policy = PoolPolicy(pool, direction, PermissionOrder.of(permissions, family, far), stacks)
            if policy.rules:
                yield policy
