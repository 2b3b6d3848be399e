"""How the other ends of a rule are written: as a group, as a prefix list of the state, or as blocks of addresses.

Owns which groups and lists may stand for ends, so that a rule never opens more than what lets the flow pass today, and
which of them is taken. Must not know ports, nor quotas.

    ends                                    are written as
    ENIs of the VPC, all of one group       the smallest group that has them all, also if some members weren't seen;
                                            if that is the rule's own group, which can't be named, as addresses
    all members of a group, and others      that group; the others likewise, or as addresses
    addresses in a prefix list              the smallest list that has them
    more than MANY others, of one rule      what the rule says: nobody can list everybody's customers
    all others                              addresses
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from sgdataplane.model.state import (
    CloudState,
    GroupRef,
    GroupType,
    NetworkType,
    NicType,
    PrefixListRef,
    Remote,
    SecurityGroupRule,
)
from sgdataplane.net.ranges import Ranges, count, meet, minus, unite
from sgdataplane.net.values import Family, Prefix
from sgdataplane.suggest.judge import prefixes_of
from sgdataplane.suggest.scope import Grant, GrantKind

MANY = 16
EVERYBODY = {family: Prefix(family.bits, 0, 0) for family in Family}
BLOCK_BITS = {Family.IPV4: 24, Family.IPV6: 64}  # as history merges addresses
Sized = Mapping[Family, Ranges]


@dataclass(frozen=True, slots=True)
class NamedEnd:
    """What a rule says of the other end."""

    remote: Remote
    narrowing: Prefix | None = None
    """Restricts a rule on a group to one family."""

    @property
    def key(self) -> tuple[str, str]:
        """The key that sorts groups first, then lists, then addresses."""
        text = "" if self.narrowing is None else str(self.narrowing)
        match self.remote:
            case GroupRef(name):
                return f"0 {name}", text
            case PrefixListRef(name):
                return f"1 {name}", text
            case prefix:
                return f"2 {prefix.family_bits:03} {prefix.first:039} {prefix.length:03}", text


def whole_end(grant: Grant, family: Family) -> NamedEnd:
    """Return the end that names all that lets flows pass today."""
    if grant.rule is None:
        return NamedEnd(EVERYBODY[family])
    return NamedEnd(grant.rule.remote, grant.rule.narrowing)


class Namer:
    """Finds how ends are written.

    `with_groups` and `with_lists` say whether groups and prefix lists may be named. `with_many` says whether many other
    ends may be written as what the rule says.

    Attributes:
        size_of: the addresses that a remote stands for, by family.
    """

    def __init__(self, state: CloudState, *, with_groups: bool, with_lists: bool, with_many: bool) -> None:
        self._state, self._with_groups, self._with_lists = state, with_groups, with_lists
        self._with_many = with_many
        self.size_of = cache(self._size_of)
        self._groups = cache(self._groups_for)
        self._lists = cache(self._lists_for)
        self._inside: dict[str, Sized] = {}

    def name(self, grant: Grant, ends: Iterable[Prefix]) -> dict[Prefix, NamedEnd]:
        """Return the names of the ends that have one; the others are written as addresses."""
        ends = tuple(ends)
        inside = [end for end in ends if self._is_inside(grant, end)]
        found = self._as_groups(grant, inside)
        others = [end for end in ends if end not in found]
        found |= {end: name for end in others if (name := self._as_list(grant, end)) is not None}
        unnamed = {end for end in others if end not in found and end not in inside}
        if len(unnamed) > MANY and self._with_many and grant.slot.kind in (GrantKind.RULE, GrantKind.DEFAULT):
            found |= {end: whole_end(grant, end.family) for end in unnamed}
        return found

    @cached_property
    def plain(self) -> Namer:
        """A namer that names neither groups nor lists."""
        return Namer(self._state, with_groups=False, with_lists=False, with_many=self._with_many)

    def widen(self, grant: Grant, end: Prefix) -> Prefix:
        """Return the block around an address that isn't an ENI's, as far as it may pass today.

        An ENI's address, and an end that must be named exactly, stay as they are.
        """
        length = BLOCK_BITS[end.family]
        if end.length <= length or grant.slot.kind in (GrantKind.INNER, GrantKind.NEW) or self._is_inside(grant, end):
            return end
        block = Prefix.parse(f"{end}".partition("/")[0] + f"/{length}")
        allowed = [EVERYBODY[end.family]] if grant.rule is None else prefixes_of(self._state, grant.rule.remote)
        around = [p for p in allowed if p.family is end.family and p.first <= end.first and end.last <= p.last]
        return max((block, *around), key=lambda prefix: prefix.length) if around else end

    def count_seen(self, end: NamedEnd, seen: Iterable[Prefix]) -> tuple[int, int]:
        """Return how many ENIs of a group, or addresses of a list, were seen, and how many there are."""
        size, found = self.size_of(end.remote), unite_by_family(seen)
        if isinstance(end.remote, GroupRef):
            enis = [eni for eni in self._state.enis_of_group[end.remote.security_group_id] if eni.is_member]
            sizes = (unite_by_family(eni.private_prefixes) for eni in enis)
            return sum(any(meet(mine[family], found[family]) for family in Family) for mine in sizes), len(enis)
        families = [end.narrowing.family] if end.narrowing else list(Family)
        return (
            sum(count(meet(size[family], found[family])) for family in families),
            sum(count(size[family]) for family in families),
        )

    def _is_inside(self, grant: Grant, end: Prefix) -> bool:
        vpc_id = self._state.group[grant.slot.group_id].vpc_id
        if vpc_id not in self._inside:
            enis = [eni for eni in self._state.network_interfaces if eni.vpc_id == vpc_id and eni.is_member]
            self._inside[vpc_id] = unite_by_family(p for eni in enis for p in eni.private_prefixes)
        return not minus(((end.first, end.last),), self._inside[vpc_id][end.family])

    def _as_groups(self, grant: Grant, inside: list[Prefix]) -> dict[Prefix, NamedEnd]:
        seen, options = unite_by_family(inside), self._groups(grant)
        own = NamedEnd(GroupRef(grant.slot.group_id))
        around = [end for end in (own, *options) if inside and not _beyond(seen, self.size_of(end.remote))]
        best = min(around, key=self._narrowest, default=None)
        if best in options:
            return dict.fromkeys(inside, best)
        found: dict[Prefix, NamedEnd] = {}
        for end in sorted(options, key=lambda end: (-self._narrowest(end)[0], end.key)):
            size = self._within(end)
            left = [one for one in inside if one not in found and _has(size, one)]
            if left and not _beyond(size, seen):
                found |= dict.fromkeys(left, end)
        return found

    def _as_list(self, grant: Grant, end: Prefix) -> NamedEnd | None:
        around = [one for one in self._lists(grant) if _has(self.size_of(one.remote), end)]
        return min(around, key=self._narrowest, default=None)

    def _narrowest(self, end: NamedEnd) -> tuple[int, tuple[str, str]]:
        return sum(count(ranges) for ranges in self._within(end).values()), end.key

    def _within(self, end: NamedEnd) -> Sized:
        """Return the addresses of an end that its narrowing leaves."""
        size = self.size_of(end.remote)
        return size if end.narrowing is None else {f: size[f] if f is end.narrowing.family else () for f in Family}

    def _size_of(self, remote: Remote) -> Sized:
        return unite_by_family(prefixes_of(self._state, remote))

    def _groups_for(self, grant: Grant) -> tuple[NamedEnd, ...]:
        """Return the groups that may stand for ends of a flow: each member, now or later, may pass today."""
        if not self._with_groups or grant.is_exact or grant.slot.kind is GrantKind.INNER:
            return ()
        if grant.slot.nic_type is NicType.INTERNET:
            return ()
        rule = grant.rule
        if rule is not None and isinstance(rule.remote, GroupRef):
            return (NamedEnd(rule.remote, rule.narrowing),) if self._is_known(rule.remote) else ()
        if rule is None:
            return tuple(NamedEnd(ref) for ref in self._nameable(grant))
        if not isinstance(rule.remote, Prefix) or rule.remote.length:
            return ()
        whole = rule.narrowing or (None if self._has_twin(grant, rule) else rule.remote)
        return tuple(NamedEnd(ref, whole) for ref in self._nameable(grant))

    def _is_known(self, remote: GroupRef) -> bool:
        return remote.security_group_id in self._state.group

    def _nameable(self, grant: Grant) -> Iterator[GroupRef]:
        own = self._state.group[grant.slot.group_id]
        for group in self._state.security_groups:
            is_basic = own.security_group_type is group.security_group_type is GroupType.NORMAL
            is_free = group is not own and group.vpc_id == own.vpc_id and not group.service_managed
            if is_basic and is_free:
                yield GroupRef(group.security_group_id)

    def _has_twin(self, grant: Grant, rule: SecurityGroupRule) -> bool:
        """Return whether the group has the same rule for the other family, so that a group needs no narrowing."""
        other = EVERYBODY[Family.IPV6 if rule.remote == EVERYBODY[Family.IPV4] else Family.IPV4]
        shape = (rule.direction, rule.ip_protocol, rule.port_range, rule.policy, rule.priority)
        return any(
            (one.direction, one.ip_protocol, one.port_range, one.policy, one.priority) == shape
            and (one.remote, one.source_port_range, one.port_list_id)
            == (other, rule.source_port_range, rule.port_list_id)
            and one.narrowing is None
            and one.nic_type is rule.nic_type
            for one in self._state.group[grant.slot.group_id].rules
        )

    def _is_classic(self, grant: Grant) -> bool:
        vpc_id = self._state.group[grant.slot.group_id].vpc_id
        return self._state.vpc[vpc_id].network_type is NetworkType.CLASSIC

    def _lists_for(self, grant: Grant) -> tuple[NamedEnd, ...]:
        if not self._with_lists or grant.is_exact or grant.slot.kind is GrantKind.INNER or self._is_classic(grant):
            return ()
        named = [PrefixListRef(entry.prefix_list_id) for entry in self._state.prefix_lists if entry.entries]
        if grant.rule is None:
            return tuple(NamedEnd(ref) for ref in named)
        if isinstance(grant.rule.remote, GroupRef):
            return ()
        allowed = self.size_of(grant.rule.remote)
        return tuple(NamedEnd(ref, grant.rule.narrowing) for ref in named if not _beyond(self.size_of(ref), allowed))


def unite_by_family(prefixes: Iterable[Prefix]) -> dict[Family, Ranges]:
    """Return the addresses of each family in some prefixes."""
    prefixes = tuple(prefixes)
    return {family: unite((p.first, p.last) for p in prefixes if p.family is family) for family in Family}


def _beyond(one: Sized, other: Sized) -> bool:
    """Return whether the first has an address that the second doesn't have."""
    return any(minus(one[family], other[family]) for family in Family)


def _has(size: Sized, end: Prefix) -> bool:
    return not minus(((end.first, end.last),), size[end.family])
