"""Resolve a CloudState and some ENIs into the policy of the namespace that has their links, with references followed.

Owns how groups become ordered permissions, and remotes addresses, and what of it the next state's policy takes over. It
is given a checked state. It must not know nftables, nor how the kernel gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from sgdataplane.model.decision import INNER_ACCEPT, Decision
from sgdataplane.model.members import Members
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import default_decision, has_inner_accept, is_on_interface, of_rule, strength
from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    GroupRef,
    NicType,
    PortList,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.ranges import Interval, Ranges, unite
from sgdataplane.net.values import ALL, Direction, Family, Prefix, Protocol, Verdict


@dataclass(frozen=True, slots=True)
class Permission:
    """One step in a direction's order: a rule, inner accept or the default.

    None means any remote, ports, source ports or local address.
    """

    decision: Decision
    protocol: Protocol = ALL
    remote: Remote | None = None
    ports: Ranges | None = None
    source_ports: Ranges | None = None
    narrowing: Prefix | None = None
    """The local addresses that the rule is restricted to."""


@dataclass(frozen=True, slots=True)
class RemoteAddresses:
    """A remote's addresses in one family."""

    singles: tuple[int, ...] = ()
    """Single addresses."""
    ranges: tuple[Interval, ...] = ()
    """Ranges of addresses with both ends included."""


@dataclass(frozen=True)
class Profile:
    """The policy of every ENI with this set of groups and this NIC type.

    The last permission of each direction is its default.
    """

    security_group_ids: tuple[str, ...]
    nic_type: NicType
    ingress: tuple[Permission, ...]
    """The permissions of ingress, strongest first."""
    egress: tuple[Permission, ...]
    """The permissions of egress, strongest first."""

    def permissions(self, direction: Direction) -> tuple[Permission, ...]:
        """Return the permissions of a direction, strongest first."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @cached_property
    def on_groups(self) -> Mapping[Direction, tuple[Permission, ...]]:
        """The permissions whose remote is a group, for each direction."""
        return {
            side: tuple([p for p in self.permissions(side) if isinstance(p.remote, GroupRef)]) for side in Direction
        }

    @cached_property
    def refusals(self) -> Mapping[Direction, tuple[Decision, ...]]:
        """The decisions of all other permissions that refuse, for each direction."""
        return {side: tuple(_refusals(self.permissions(side))) for side in Direction}

    @cached_property
    def references(self) -> Mapping[Direction, tuple[Remote, ...]]:
        """The groups and prefix lists that permissions name, each once, for each direction."""
        return {side: tuple(_references(self.permissions(side))) for side in Direction}


def _refusals(permissions: Iterable[Permission]) -> Iterable[Decision]:
    others = (permission.decision for permission in permissions if not isinstance(permission.remote, GroupRef))
    return (decision for decision in others if decision.verdict is Verdict.DROP)


def _references(permissions: Iterable[Permission]) -> Iterable[Remote]:
    """Return each group and prefix list once."""
    remotes = (permission.remote for permission in permissions)
    return dict.fromkeys(r for r in remotes if r is not None and not isinstance(r, Prefix))


@dataclass(frozen=True, slots=True)
class EniPolicy:
    """One ENI on this host."""

    eni_id: str
    ifname: str
    private: tuple[Prefix, ...]
    """Its private addresses."""
    own: tuple[Prefix, ...]
    """The private addresses and the allowed pairs, from which it may send."""
    link: tuple[Prefix, ...]
    """Its address on the link."""
    profile: int
    """The index of its profile."""
    connection_tracking: ConnectionTracking
    """The idle timeouts of its sessions."""
    is_audited: bool = False
    """Whether what its rules refuse passes."""


@dataclass(frozen=True)
class HostPolicy:
    """Everything that one namespace enforces."""

    enis: tuple[EniPolicy, ...]
    profiles: tuple[Profile, ...]
    remotes: Mapping[Remote, Mapping[Family, RemoteAddresses]]
    """The addresses of every permission's remote, in both families."""
    internal: tuple[str, ...] = ()
    """Interfaces that carry no ENI and may pass, as they are the instance's own."""
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()
    """Interfaces that carry no ENI and may pass, as they lead elsewhere."""
    members: Members = field(default_factory=lambda: Members(()), compare=False, repr=False)
    """The addresses of all groups."""
    idle: ConnectionTracking = field(default_factory=ConnectionTracking)
    """The namespace's own idle timeouts."""
    memo: PolicyMemo | None = field(default=None, compare=False, repr=False)
    """What the policy of the next state may take over."""


def interfaces_of(state: CloudState, eni: Eni) -> dict[str, str]:
    """Return the interfaces that carry the ENIs of the instance that owns this one, by ENI id; eth0 is the primary."""
    siblings = state.enis_of_instance.get(eni.instance_id, (eni,))
    return {sibling.network_interface_id: f"eth{index}" for index, sibling in enumerate(siblings)}


def resolve(
    state: CloudState,
    interfaces: Mapping[str, str],
    options: Options,
    internal: tuple[str, ...] = (),
    previous: PolicyMemo | None = None,
) -> HostPolicy:
    """Return what a namespace enforces whose links carry these ENIs.

    Args:
        state: The state, which is checked already.
        interfaces: The name of the interface that carries each ENI, by ENI id.
        options: What the user chose where the specification leaves a choice.
        internal: Interfaces that are the instance's own business, such as those of its containers. A name that ends in
            * means all names that begin so.
        previous: What the policy of a similar state left. It only makes this faster.

    Raises:
        KeyError: The state has no such ENI.
    """
    memo = PolicyMemo.begin(state, previous)
    profiles: dict[ProfileKey, Profile] = {}
    place: dict[ProfileKey, int] = {}
    enis = []
    for eni_id, ifname in interfaces.items():
        eni = state.eni[eni_id]
        key = (_sort_ids(eni.security_group_ids), eni.nic_type)
        if key not in profiles:
            place[key], profiles[key] = len(profiles), memo.profile(eni, options)
        enis.append(memo.eni_policy(eni, ifname, place[key]))
    memo.evict_unused()
    every = tuple(profiles.values())
    return HostPolicy(tuple(enis), every, RemotesOf(state, every), internal, members=state.members, memo=memo)


def _eni_policy(eni: Eni, ifname: str, profile: int) -> EniPolicy:
    own = eni.private_prefixes, eni.own_prefixes, eni.link_prefixes
    return EniPolicy(eni.network_interface_id, ifname, *own, profile, eni.connection_tracking, eni.is_audited)


@lru_cache(maxsize=1 << 12)
def _sort_ids(group_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids sorted, always as the same object for the same ids."""
    return tuple(sorted(group_ids))


@dataclass(frozen=True, slots=True)
class OrderedRules:
    """The rules of one group in order of strength, each with its sort key and its permission."""

    group: SecurityGroup
    port_lists: tuple[PortList, ...]
    """All port lists of the state, which the permissions depend on."""
    entries: tuple[RuleEntry, ...]

    @classmethod
    def of(cls, state: CloudState, group: SecurityGroup, previous: OrderedRules | None) -> OrderedRules:
        """Sort the rules of a group.

        `previous` are those of the group in a similar state. They are taken over if the group is the same; if it isn't,
        rules that are the same objects are.
        """
        if previous is not None and previous.port_lists == state.port_lists:
            if previous.group == group:
                return previous
            known = {id(entry[1]): entry for entry in previous.entries}
        else:
            known = {}
        entries = (known.get(id(rule)) or _entry(state, group, rule) for rule in group.rules)
        return cls(group, state.port_lists, tuple(sorted(entries, key=_key_of)))


RuleEntry = tuple[tuple[int, bool, bool, str, str], SecurityGroupRule, Permission]
ProfileKey = tuple[tuple[str, ...], NicType]


def _entry(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> RuleEntry:
    return strength((group, rule)), rule, resolve_rule(state, group, rule)


def _key_of(entry: RuleEntry) -> tuple[int, bool, bool, str, str]:
    return entry[0]


@dataclass
class PolicyMemo:
    """What a policy leaves for that of the next state, so that equal parts are the same objects.

    It is for one thread at a time.
    """

    groups: dict[str, OrderedRules] = field(default_factory=dict)
    """The sorted rules of each group."""
    profiles: dict[object, tuple[object, Profile]] = field(default_factory=dict)
    """The profiles, each with what it follows from."""
    enis: dict[str, tuple[Eni, EniPolicy]] = field(default_factory=dict)
    """The policy of each ENI, by interface."""
    vpc_of: Mapping[str, str] = field(default_factory=dict)
    """The VPC of each group."""
    _state: CloudState = field(default_factory=CloudState)
    _previous: PolicyMemo | None = None
    _with_unknown: bool = False
    """Whether rules count whose remote is a group that the state lacks."""

    @classmethod
    def begin(cls, state: CloudState, previous: PolicyMemo | None) -> PolicyMemo:
        """Start the memory for the policy of this state. `previous` is what the policy of a similar state left."""
        vpc_of: Mapping[str, str] = {group.security_group_id: group.vpc_id for group in state.security_groups}
        if previous is not None and previous.vpc_of == vpc_of:
            vpc_of = previous.vpc_of
        return cls(vpc_of=vpc_of, _state=state, _previous=previous)

    @property
    def _known(self) -> PolicyMemo:
        return self._previous or EMPTY

    def evict_unused(self) -> None:
        """Keep neither the state nor what was there before, as the policy is made."""
        self._state, self._previous = CloudState(), None

    def eni_policy(self, eni: Eni, ifname: str, profile: int) -> EniPolicy:
        """Return the policy of one ENI, as the same object if nothing about it has changed."""
        known = self._known.enis.get(ifname)
        if known is None or known[0] is not eni or known[1].profile != profile:
            known = eni, _eni_policy(eni, ifname, profile)
        self.enis[ifname] = known
        return known[1]

    def profile(self, eni: Eni, options: Options) -> Profile:
        """Return the policy of an ENI's set of groups."""
        key = _sort_ids(eni.security_group_ids), eni.nic_type
        groups = tuple([self._state.group[group_id] for group_id in key[0]])
        vpc = self._state.vpc.get(eni.vpc_id)  # the stand-in for an ENI that the state lacks is in no VPC
        basis = (groups, vpc, self._state.port_lists, self.vpc_of, options)
        known = self._known.profiles.get(key)
        if known is not None and known[0] == basis:
            self.groups.update((group_id, self._known.groups[group_id]) for group_id in key[0])
        else:
            known = basis, self.resolve(eni, groups, options)
        self.profiles[key] = known
        return known[1]

    def resolve(self, eni: Eni, groups: Sequence[SecurityGroup], options: Options) -> Profile:
        """Return the rules of all groups, pooled and ordered, in both directions (semantics.md, section 3)."""
        usable = [
            entry[2]
            for entry in sorted((entry for group in groups for entry in self._rules(group)), key=_key_of)
            if is_on_interface(self._state, eni, entry[1])
        ]

        def order(direction: Direction) -> tuple[Permission, ...]:
            custom = [permission for permission in usable if permission.decision.direction is direction]
            inner = list(inner_permissions(groups, eni, direction))
            is_custom_first = direction is Direction.EGRESS and options.inner_accept_egress == "custom_first"
            last = Permission(default_decision(self._state, eni, direction))
            return (*(custom + inner if is_custom_first else inner + custom), last)

        ids = tuple([group.security_group_id for group in groups])
        return Profile(ids, eni.nic_type, order(Direction.INGRESS), order(Direction.EGRESS))

    def _rules(self, group: SecurityGroup) -> Iterator[RuleEntry]:
        """Yield the group's rules that can match anything.

        With `_with_unknown`, yield also those that could, if we knew who is in a group.
        """
        group_id = group.security_group_id
        found = self.groups.get(group_id)
        if found is None:
            found = self.groups[group_id] = OrderedRules.of(self._state, group, self._known.groups.get(group_id))
        with_unknown = self._with_unknown
        return (e for e in found.entries if _has_remote(self._state, group, e[1], with_unknown=with_unknown))


EMPTY = PolicyMemo()


def resolve_profile(state: CloudState, eni: Eni, options: Options, *, with_unknown: bool = False) -> Profile:
    """Return the policy of an ENI's set of groups.

    With `with_unknown`, rules count, too, whose remote is a group that the state lacks.
    """
    groups = [state.group[group_id] for group_id in sorted(eni.security_group_ids)]
    return PolicyMemo(_state=state, _with_unknown=with_unknown).resolve(eni, groups, options)


def _has_remote(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, *, with_unknown: bool) -> bool:
    """Return whether a rule's remote can be there. A rule on a group of another VPC matches nothing.

    The same holds for a group that the state lacks (state-format.md, section B), unless `with_unknown`.
    """
    if not isinstance(rule.remote, GroupRef):
        return True
    other = state.group.get(rule.remote.security_group_id)
    return with_unknown if other is None else other.vpc_id == group.vpc_id


def inner_permissions(groups: Iterable[SecurityGroup], eni: Eni, direction: Direction) -> Iterator[Permission]:
    """Yield the implicit accept between members of each group that this ENI shares and whose inner policy is Accept."""
    if eni.nic_type is NicType.INTERNET:
        return
    for group in groups:
        if has_inner_accept(group):
            group_id = group.security_group_id
            decision = Decision(direction, Verdict.ACCEPT, INNER_ACCEPT, group_id)
            yield Permission(decision, remote=GroupRef(group_id))


def resolve_rule(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> Permission:
    """Return one rule as a permission, with the ports of its port list."""
    source = rule.source_port_range
    return Permission(
        of_rule(group.security_group_id, rule),
        rule.ip_protocol,
        rule.remote,
        _ports(state, rule),
        None if source is None else ((source.first, source.last),),
        rule.narrowing,
    )


def _ports(state: CloudState, rule: SecurityGroupRule) -> Ranges | None:
    if rule.port_list_id:
        entries = state.port_list[rule.port_list_id].entries
        return unite((entry.port_range.first, entry.port_range.last) for entry in entries)
    return None if rule.port_range is None else ((rule.port_range.first, rule.port_range.last),)


class RemotesOf(Mapping[Remote, Mapping[Family, RemoteAddresses]]):
    """The addresses of every remote that a profile names.

    They are resolved when somebody asks: groups can be very large, and `HostPolicy.members` often makes a list of them
    redundant.
    """

    def __init__(self, state: CloudState, profiles: Iterable[Profile]) -> None:
        self._state, self._profiles = state, tuple(profiles)
        self._known: dict[Remote, Mapping[Family, RemoteAddresses]] = {}

    @cached_property
    def _named(self) -> dict[Remote, None]:
        named = (p.remote for profile in self._profiles for p in (*profile.ingress, *profile.egress))
        return dict.fromkeys(remote for remote in named if remote is not None)

    def __getitem__(self, remote: Remote) -> Mapping[Family, RemoteAddresses]:
        if remote not in self._known:
            if remote not in self._named:
                raise KeyError(remote)
            self._known[remote] = {family: resolve_remote(self._state, remote, family) for family in Family}
        return self._known[remote]

    def __eq__(self, other: object) -> bool:
        """Compare the names of remotes if the state is the same, so that nothing has to be resolved."""
        if isinstance(other, RemotesOf) and self._state is other._state:
            return self._named.keys() == other._named.keys()
        return Mapping.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Remote]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


def resolve_remote(state: CloudState, remote: Remote, family: Family) -> RemoteAddresses:
    """Return one remote's addresses in one family.

    A group is of the same VPC as the rule that names it (`_has_remote`); one that the state lacks has none.
    """
    match remote:
        case Prefix():
            return _of_prefixes([remote], family)
        case PrefixListRef(prefix_list_id):
            return _of_prefixes((entry.cidr for entry in state.prefix_list[prefix_list_id].entries), family)
        case GroupRef(group_id):
            return members(state.enis_of_group.get(group_id, ()), family)


def _of_prefixes(prefixes: Iterable[Prefix], family: Family) -> RemoteAddresses:
    return RemoteAddresses(ranges=tuple((p.first, p.last) for p in prefixes if p.family is family))


def members(enis: Iterable[Eni], family: Family) -> RemoteAddresses:
    """Return the private addresses of ENIs. The internet interface of a classic instance has none."""
    private = [eni for eni in enis if eni.is_member]
    if family is Family.IPV4:
        singles = tuple([a.value for eni in private for a in eni.private_ip_addresses])
        delegated = [p for eni in private for p in eni.ipv4_prefixes]
    else:
        singles = tuple([a.value for eni in private for a in eni.ipv6_addresses])
        delegated = [p for eni in private for p in eni.ipv6_prefixes]
    return RemoteAddresses(singles, tuple((p.first, p.last) for p in delegated))
