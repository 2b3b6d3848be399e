"""The cloud's objects as frozen records: the one model that every input format loads into.

Owns CloudState and its records. Is given checked values by `statefile`. Must not know files, hosts or nftables.
Field names are those of state-format.md (the names the cloud's Terraform provider uses).
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TypeVar

from sgdataplane.model.members import Members
from sgdataplane.model.modes import Mode
from sgdataplane.net.values import Address, Direction, Family, PortRange, Prefix, Protocol, Verdict, link_local


class GroupType(enum.Enum):
    """The type of a security group."""

    NORMAL = "normal"  # a basic group
    ENTERPRISE = "enterprise"  # an advanced group


class NetworkType(enum.Enum):
    """The network that an ENI is in; in the classic one, an instance also has an internet interface."""

    VPC = "vpc"
    CLASSIC = "classic"


class NicType(enum.Enum):
    """The network that an interface of a classic instance is for; in a VPC, all are `intranet`."""

    INTRANET = "intranet"
    INTERNET = "internet"


class EniType(enum.Enum):
    """Whether an ENI belongs to its instance from the start (`primary`) or was added to it (`secondary`)."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True)
class Vpc:
    """A virtual private cloud, or the classic network."""

    vpc_id: str
    cidr_blocks: tuple[Prefix, ...] = ()
    """Blocks of both families, within which its ENIs' addresses are; a classic network has none."""
    network_type: NetworkType = NetworkType.VPC


@dataclass(frozen=True, slots=True)
class PrefixListEntry:
    """One CIDR block of a prefix list."""

    cidr: Prefix
    description: str = ""


@dataclass(frozen=True, slots=True)
class PrefixList:
    """CIDR blocks of one family that rules name together."""

    prefix_list_id: str
    address_family: Family
    max_entries: int
    """What a rule that uses the list costs in quota."""
    entries: tuple[PrefixListEntry, ...] = ()
    prefix_list_name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class PortListEntry:
    """One range of a port list."""

    port_range: PortRange
    description: str = ""


@dataclass(frozen=True, slots=True)
class PortList:
    """Port ranges that rules name together."""

    port_list_id: str
    max_entries: int
    """What a rule that uses the list costs in quota."""
    entries: tuple[PortListEntry, ...] = ()
    port_list_name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, order=True)
class GroupRef:
    """A group as remote: the addresses that its ENIs have now."""

    security_group_id: str


@dataclass(frozen=True, slots=True, order=True)
class PrefixListRef:
    """A prefix list as remote: the entries that it has now."""

    prefix_list_id: str


Remote = Prefix | GroupRef | PrefixListRef


@dataclass(frozen=True, slots=True)
class SecurityGroupRule:
    """One permission of a group."""

    security_group_rule_id: str
    direction: Direction
    """The direction, seen from the ENI."""
    ip_protocol: Protocol
    remote: Remote
    """The far end: the source at ingress, the destination at egress."""
    port_range: PortRange | None = None
    """The destination ports. With neither a range nor a list every port matches, 0 included.

    Protocols without ports have neither.
    """
    policy: Verdict = Verdict.ACCEPT
    priority: int = 1
    """A smaller number is stronger."""
    source_port_range: PortRange | None = None
    """The source ports; None if every port matches."""
    port_list_id: str = ""
    """A port list in place of a range; "" if there is none."""
    narrowing: Prefix | None = None
    """Restricts the ENI's own side of the traffic, and with it the family."""
    nic_type: NicType = NicType.INTRANET
    """In a classic network, the interface that the rule is for."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class GroupTrial:
    """What a group would have instead, on trial: hosts count what that would change, and no verdict follows from it."""

    since: str
    """When it began, as in RFC 3339: it tells a trial from the one before."""
    until: str
    """When it ends, as in RFC 3339."""
    inner_access_policy: Verdict
    rules: tuple[SecurityGroupRule, ...] = ()
    """All rules that the group would have, sorted by id. What they name need not be there (statefile/proposals.py)."""


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group with its rules."""

    security_group_id: str
    vpc_id: str
    security_group_type: GroupType = GroupType.NORMAL
    inner_access_policy: Verdict = Verdict.ACCEPT
    """Whether members of a basic group reach each other without a rule; Drop for advanced groups."""
    rules: tuple[SecurityGroupRule, ...] = ()
    """Sorted by id; priority and verdict decide which one is stronger."""
    security_group_name: str = ""
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """Pairs of key and value, sorted."""
    service_managed: bool = False
    """A cloud service owns the group. It is enforced like any other, but can't be changed by users."""
    trial: GroupTrial | None = field(default=None, repr=False)
    """What is on trial in its place. It is no part of what the group says, nor of its text."""

    @property
    def proposed(self) -> SecurityGroup:
        """The group as it would be with what is on trial; itself if nothing is."""
        if self.trial is None:
            return self
        return replace(self, rules=self.trial.rules, inner_access_policy=self.trial.inner_access_policy, trial=None)


@dataclass(frozen=True, slots=True)
class Instance:
    """A virtual machine, which has ENIs."""

    instance_id: str
    instance_name: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionTracking:
    """Idle timeouts of an ENI's sessions, in seconds (semantics.md, section 4 lists the legal values)."""

    tcp_established_timeout: int = 910
    tcp_closed_and_time_wait_timeout: int = 3
    """For TCP sessions in the states CLOSE and TIME_WAIT."""
    udp_timeout: int = 30

    @lru_cache(maxsize=1 << 10)  # noqa: B019  # all ENIs have one of a few
    def scale(self, time_scale: float) -> ConnectionTracking:
        """Return the timeouts multiplied by a factor.

        Each is a whole second at least, because the kernel counts in whole seconds (`host.timeouts` does the same).
        """
        seconds = (self.tcp_established_timeout, self.tcp_closed_and_time_wait_timeout, self.udp_timeout)
        return ConnectionTracking(*(max(1, round(number * time_scale)) for number in seconds))


@dataclass(frozen=True, slots=True)
class Eni:
    """An elastic network interface: what a policy protects."""

    network_interface_id: str
    vpc_id: str
    mac_address: str
    """In lower case with colons; "" only if it is just a member of groups."""
    private_ip_addresses: tuple[Address, ...]
    """The first one is the primary address."""
    security_group_ids: tuple[str, ...]
    """At least one, sorted."""
    instance_id: str = ""
    """The instance that it is attached to; "" if there is none."""
    type: EniType = EniType.PRIMARY
    ipv6_addresses: tuple[Address, ...] = ()
    ipv4_prefixes: tuple[Prefix, ...] = ()
    """Blocks that the cloud has delegated to it, which count as its own addresses."""
    ipv6_prefixes: tuple[Prefix, ...] = ()
    """The same for IPv6."""
    allowed_address_pairs: tuple[Prefix, ...] = ()
    """Further addresses that it may send from and receive for; no members of its groups."""
    nic_type: NicType = NicType.INTRANET
    connection_tracking: ConnectionTracking = field(default_factory=ConnectionTracking)
    """The idle timeouts of its sessions."""
    member_only: bool = False
    """The state knows only which groups it is a member of, and not all of them, because it is on another host.

    It has no policy here, and may have no MAC.
    """
    mode: Mode = Mode.ENFORCE
    """Whether packets that its rules refuse are dropped."""
    audit_until: str = ""
    """The time from which they are dropped in any case (modes.py); "" if there is none.

    `CloudState.at()` applies it.
    """

    @property
    def is_audited(self) -> bool:
        """Whether the ENI is in audit mode."""
        return self.mode is Mode.AUDIT

    def is_same_but_mode(self, other: Eni) -> bool:
        """Return whether two ENIs differ in nothing but their mode and its end."""
        return self is other or self == replace(other, mode=self.mode, audit_until=self.audit_until)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its private addresses of both families."""
        return self.private_ip_addresses + self.ipv6_addresses

    @property
    def is_member(self) -> bool:
        """Whether its addresses are members of its groups.

        The internet interface of a classic instance has no private address, so it is no member.
        """
        return self.nic_type is NicType.INTRANET

    @property
    def delegated_prefixes(self) -> tuple[Prefix, ...]:
        """The address blocks of both families that the cloud has delegated to it."""
        return self.ipv4_prefixes + self.ipv6_prefixes

    @property
    def private_prefixes(self) -> tuple[Prefix, ...]:
        """Its addresses and delegated prefixes, which are members of its groups."""
        return tuple(Prefix.of(address) for address in self.addresses) + self.delegated_prefixes

    def has_private(self, address: Address) -> bool:
        """Return whether an address is one of its own, or in a delegated prefix."""
        return address in self.addresses or any(address in prefix for prefix in self.delegated_prefixes)

    @property
    def own_prefixes(self) -> tuple[Prefix, ...]:
        """The addresses that it may send from and receive for.

        These are its private ones and the allowed address pairs, which may be shared with other ENIs.
        """
        return self.private_prefixes + self.allowed_address_pairs

    @property
    def link_prefixes(self) -> tuple[Prefix, ...]:
        """Its IPv6 address on the link, made from its MAC; any other link-local address needs an allowed pair."""
        return (Prefix.of(link_local(self.mac_address)),) if self.mac_address else ()


_id_of_eni = attrgetter("network_interface_id")


class EniById(Mapping[str, Eni]):
    """The ENIs of a state by id.

    The ENIs are sorted by id, so one is found by bisection, without an index of all.
    """

    def __init__(self, enis: tuple[Eni, ...]) -> None:
        self._enis, self._found = enis, dict[str, Eni]()

    def __getitem__(self, eni_id: str) -> Eni:
        if eni_id not in self._found:
            self._found[eni_id] = self._search(eni_id)
        return self._found[eni_id]

    def _search(self, eni_id: str) -> Eni:
        place = bisect_left(self._enis, eni_id, key=_id_of_eni)
        if place < len(self._enis) and self._enis[place].network_interface_id == eni_id:
            return self._enis[place]
        return self._index[eni_id]

    def __iter__(self) -> Iterator[str]:
        return (eni.network_interface_id for eni in self._enis)

    def __len__(self) -> int:
        return len(self._enis)

    @cached_property
    def _index(self) -> dict[str, Eni]:
        """An index of all ENIs, for an id that isn't there and for a state whose ENIs aren't sorted."""
        return {eni.network_interface_id: eni for eni in self._enis}


@dataclass(frozen=True)
class CloudState:
    """A whole state, checked: references resolve, ids are unique, records are sorted by id (rules within their group).

    Only loaders build it from outside; `statefile.validate` makes the promise true.
    """

    vpcs: tuple[Vpc, ...] = ()
    prefix_lists: tuple[PrefixList, ...] = ()
    port_lists: tuple[PortList, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    instances: tuple[Instance, ...] = ()
    network_interfaces: tuple[Eni, ...] = ()

    def at(self, now: str) -> CloudState:
        """Return the state as it is at a time (modes.py): ENIs whose audit has ended are in mode enforce."""
        over = {e.network_interface_id for e in self.audited if e.audit_until and e.audit_until <= now}
        return self.with_mode(over, Mode.ENFORCE) if over else self

    def propose(self, group_id: str) -> CloudState:
        """Return the state with what is on trial for a group in force there."""
        groups = (one.proposed if one.security_group_id == group_id else one for one in self.security_groups)
        return replace(self, security_groups=tuple(groups))

    def with_mode(self, eni_ids: Collection[str], mode: Mode, until: str = "") -> CloudState:
        """Return the state with these ENIs in that mode."""
        enis = (
            replace(eni, mode=mode, audit_until=until) if eni.network_interface_id in eni_ids else eni
            for eni in self.network_interfaces
        )
        return replace(self, network_interfaces=tuple(enis))

    @cached_property
    def audited(self) -> tuple[Eni, ...]:
        """The ENIs in audit mode."""
        return tuple(eni for eni in self.network_interfaces if eni.is_audited)

    @cached_property
    def vpc(self) -> dict[str, Vpc]:
        """The VPCs by id."""
        return {vpc.vpc_id: vpc for vpc in self.vpcs}

    @cached_property
    def group(self) -> dict[str, SecurityGroup]:
        """The security groups by id."""
        return {group.security_group_id: group for group in self.security_groups}

    @cached_property
    def unknown_groups(self) -> frozenset[str]:
        """The groups that rules name as remotes and of which the state has only the id.

        Nobody knows who is in them.
        """
        remotes = (rule.remote for group in self.security_groups for rule in group.rules)
        return frozenset(r.security_group_id for r in remotes if isinstance(r, GroupRef)).difference(self.group)

    @cached_property
    def prefix_list(self) -> dict[str, PrefixList]:
        """The prefix lists by id."""
        return {entry.prefix_list_id: entry for entry in self.prefix_lists}

    @cached_property
    def port_list(self) -> dict[str, PortList]:
        """The port lists by id."""
        return {entry.port_list_id: entry for entry in self.port_lists}

    @cached_property
    def instance(self) -> dict[str, Instance]:
        """The instances by id."""
        return {entry.instance_id: entry for entry in self.instances}

    @cached_property
    def eni(self) -> Mapping[str, Eni]:
        """The ENIs by id."""
        return EniById(self.network_interfaces)

    @cached_property
    def judged_enis(self) -> tuple[Eni, ...]:
        """The ENIs with a policy: all but those that are only members of groups."""
        enis = self.network_interfaces
        return tuple(eni for eni in enis if not eni.member_only) if any(eni.member_only for eni in enis) else enis

    @cached_property
    def members(self) -> Members:
        """The members of all groups."""
        return Members(self.network_interfaces)

    @cached_property
    def enis_of_instance(self) -> dict[str, tuple[Eni, ...]]:
        """The ENIs of each instance, by its id.

        The primary one comes first, then secondary ones by id: in this order they become eth0, eth1, ...
        """
        found: dict[str, list[Eni]] = {entry.instance_id: [] for entry in self.instances}
        for eni in self.network_interfaces:
            if eni.instance_id in found:
                found[eni.instance_id].append(eni)
        return {
            instance: tuple(sorted(enis, key=lambda e: (e.type is EniType.SECONDARY, e.network_interface_id)))
            for instance, enis in found.items()
        }

    @cached_property
    def enis_of_group(self) -> dict[str, tuple[Eni, ...]]:
        """The ENIs in each group, by its id; a group without ENIs has an empty tuple."""
        found: dict[str, list[Eni]] = {group.security_group_id: [] for group in self.security_groups}
        for eni in self.network_interfaces:
            for group_id in eni.security_group_ids:
                found[group_id].append(eni)
        return {group: tuple(enis) for group, enis in found.items()}


Record = TypeVar("Record", bound=Hashable)


def share_records(state: CloudState, before: CloudState) -> CloudState:
    """Return an equal state that uses the records of `before` wherever these are equal; `before` itself if all are.

    Equal records are then the same objects: comparing them takes no time, and memory holds them once.
    """
    ours = {each.name: getattr(state, each.name) for each in fields(CloudState)}
    shared = {name: _share(records, getattr(before, name)) for name, records in ours.items()}
    if all(shared[name] is getattr(before, name) for name in shared):
        return before
    return replace(state, **shared)


def _share(records: tuple[Record, ...], before: tuple[Record, ...]) -> tuple[Record, ...]:
    earlier = {_id_of(record): record for record in before}
    found = tuple(_either(record, earlier.get(_id_of(record))) for record in records)
    is_same = len(found) == len(before) and all(one is other for one, other in zip(found, before, strict=True))
    return before if is_same else found


def _either(record: Record, earlier: Record | None) -> Record:
    return earlier if earlier is not None and earlier == record else record


def _id_of(record: object) -> object:
    """Return the id of any record of a state, which is its first field."""
    kind = type(record)
    if kind not in _FIRST_FIELDS:
        _FIRST_FIELDS[kind] = fields(kind)[0].name  # type: ignore[arg-type]
    return getattr(record, _FIRST_FIELDS[kind])


_FIRST_FIELDS: dict[type, str] = {}
