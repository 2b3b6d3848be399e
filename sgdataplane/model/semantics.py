"""decide(): the executable specification of semantics.md, sections 2 to 5, slow and obvious on purpose.

Owns the meaning of every rule. Is given a checked CloudState and one packet. Must not know nftables, hosts or files;
the compiler must agree with it, and is tested against it, but shares no code with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from sgdataplane.model import always
from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, RULE, Decision
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    GroupType,
    NetworkType,
    NicType,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.packet import IcmpError, Packet
from sgdataplane.net.values import TCP, Address, Direction, Prefix, Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """What can decide packets of one ENI and direction. The function `holds()` says for which packets it decides."""

    decision: Decision
    group: SecurityGroup | None = None
    """The group of the rule or of the inner accept; None for the default."""
    rule: SecurityGroupRule | None = None
    """None for an inner accept and for the default."""


Strength = tuple[int, bool, bool, str, str]  # a smaller one is stronger
# A rule with its strength and the candidate that it is; and a function that makes these for a group and a direction.
Pooled = tuple[Strength, SecurityGroupRule, Candidate]
OfGroup = Callable[[SecurityGroup, Direction], Sequence[Pooled]]
Holds = Callable[[Eni, Packet, Options, Placement], bool]


@dataclass(frozen=True, slots=True)
class Clause:
    """Something that is decided before any rule is evaluated."""

    cause: str
    """The cause of the decision, which names the clause."""
    verdict: Verdict
    holds: Holds
    """Returns whether the clause decides a packet."""


# The first clause that holds decides; if none does, rules are evaluated.
CLAUSES = (
    Clause("far-discovery", Verdict.DROP, always.is_far_discovery),
    Clause("discovery", Verdict.ACCEPT, lambda eni, packet, _o, _p: always.is_discovery(eni, packet)),
    Clause("dhcp", Verdict.ACCEPT, lambda eni, packet, options, _p: always.is_dhcp(eni, packet, options)),
    Clause("spoofed", Verdict.DROP, lambda eni, packet, _o, _p: is_spoofed(eni, packet)),
    Clause("foreign", Verdict.DROP, lambda eni, packet, _o, _p: is_foreign(eni, packet)),
    Clause("malformed-discovery", Verdict.DROP, lambda _e, packet, _o, _p: always.is_discovery_type(packet)),
    Clause("dhcp-server", Verdict.DROP, lambda _e, packet, _o, _p: always.is_dhcp_server(packet)),
    Clause("midstream", Verdict.DROP, lambda _e, packet, options, _p: is_refused_midstream(packet, options)),
    Clause("metadata", Verdict.ACCEPT, lambda _e, packet, options, _p: always.is_metadata(packet, options)),
)


def decide(
    state: CloudState, packet: Packet, options: Options = DEFAULTS, placement: Placement = Placement.INSTANCE
) -> Decision:
    """Return what becomes of the opening packet of a session at one ENI.

    The placement decides only who may be on the ENI's link.

    Raises:
        KeyError: the state has no such ENI.
    """
    eni = state.eni[packet.eni_id]
    for clause in CLAUSES:
        if clause.holds(eni, packet, options, placement):
            return Decision(packet.direction, clause.verdict, clause.cause)
    return in_mode(eni, next(candidates(state, eni, packet, options)))


def in_mode(eni: Eni, decision: Decision) -> Decision:
    """Return a decision of rules as the ENI's mode changes it: in audit mode, what they refuse passes."""
    is_audited = eni.mode is Mode.AUDIT and decision.verdict is Verdict.DROP
    return Decision.audit(decision) if is_audited else decision


def decide_error(
    state: CloudState, error: IcmpError, options: Options = DEFAULTS, here: Collection[str] = ()
) -> Decision:
    """Return what becomes of an ICMP error at one ENI if no mark says that its session was accepted.

    The error passes if the session that it is about would pass, and if its sender can have seen the packet that it
    quotes. `here` has the ENIs on this host, if the error has come from elsewhere by an uplink.

    Raises:
        KeyError: the state has no such ENI.
    """
    session = error.session
    eni = state.eni[session.eni_id]
    header = replace(session, direction=error.direction, remote=error.remote, local=error.local)
    if any(state.eni[other].has_private(error.quoted_target) for other in here):
        return Decision(Direction.EGRESS, Verdict.DROP, "icmp-error-refused")
    if is_spoofed(eni, header):
        return Decision(error.direction, Verdict.DROP, "spoofed")
    if is_foreign(eni, header):
        return Decision(error.direction, Verdict.DROP, "foreign")
    if is_about_another(eni, error):
        return Decision(error.direction, Verdict.DROP, "icmp-error-refused")
    if always.is_metadata(session, options):
        return Decision(session.direction, Verdict.ACCEPT, "metadata")
    return in_mode(eni, next(candidates(state, eni, session, options)))


def candidates(state: CloudState, eni: Eni, packet: Packet, options: Options = DEFAULTS) -> Iterator[Decision]:
    """Return every decision that would hold for this packet, strongest first; the default is always the last one."""
    ordered = order_candidates(state, eni, packet.direction, options)
    return (candidate.decision for candidate in ordered if holds(state, candidate, packet))


def order_candidates(
    state: CloudState, eni: Eni, direction: Direction, options: Options = DEFAULTS, of_group: OfGroup | None = None
) -> Iterator[Candidate]:
    """Yield everything that can decide packets of an ENI in one direction, strongest first.

    The order is inner accept, then (priority, drop before accept), then the default, which holds for all packets.
    Option `inner_accept_egress` can put inner accept after the rules. Rules that tie in priority and verdict have an
    order by id, which changes no verdict; it only says which of them is named. `of_group` is `group_candidates`, or a
    function that remembers its results.
    """
    inner, custom = inner_candidates(state, eni, direction), rule_candidates(state, eni, direction, of_group)
    if direction is Direction.EGRESS and options.inner_accept_egress == "custom_first":
        yield from custom
        yield from inner
    else:
        yield from inner
        yield from custom
    yield Candidate(default_decision(state, eni, direction))


def later_candidates(
    state: CloudState, packet: Packet, decision: Decision, options: Options = DEFAULTS
) -> list[Decision]:
    """Return what else would decide the packet if `decision` didn't hold, strongest first."""
    found = list(candidates(state, state.eni[packet.eni_id], packet, options))
    return found[1:] if found[0] == decision.enforced else found


def is_spoofed(eni: Eni, packet: Packet) -> bool:
    """Return whether the source address is false.

    It is false if the ENI sends from an address that isn't its own, or if somebody else sends from one that is. Packets
    from an allowed address pair may come from outside, too, because such an address may be shared.
    """
    if packet.direction is Direction.EGRESS:
        return not any(packet.local in own for own in eni.own_prefixes)
    return eni.has_private(packet.remote)


def is_foreign(eni: Eni, packet: Packet) -> bool:
    """Return whether an incoming packet is addressed to none of the ENI's addresses.

    "Absent narrowing = any of the ENI's addresses" (section 2): what isn't addressed to the ENI is never judged.
    Multicast and broadcast are judged (CHOSEN).
    """
    if packet.direction is Direction.EGRESS:
        return False
    return not any(packet.local in prefix for prefix in (*eni.own_prefixes, *always.SHARED[packet.family]))


def is_about_another(eni: Eni, error: IcmpError) -> bool:
    """Return whether an ENI sends an ICMP error about a packet that wasn't sent to it.

    At ingress, anybody may be a router on the packet's way, as far as the ENI can tell.
    """
    return error.direction is Direction.EGRESS and not any(error.quoted_target in own for own in eni.own_prefixes)


def is_refused_midstream(packet: Packet, options: Options) -> bool:
    """Return whether it is TCP of no known session that isn't a bare SYN and may not be judged (section 4)."""
    if packet.protocol != TCP or packet.is_syn:
        return False
    return options.strict_syn or (packet.direction is Direction.EGRESS and options.midstream_egress == "drop")


def is_basic(state: CloudState, eni: Eni) -> bool:
    """Return whether the ENI's groups are basic; all groups of an ENI are of one type."""
    return all(state.group[g].security_group_type is GroupType.NORMAL for g in eni.security_group_ids)


def default_decision(state: CloudState, eni: Eni, direction: Direction) -> Decision:
    """Return what happens when no rule matched: only the egress of basic groups is open."""
    is_open = direction is Direction.EGRESS and is_basic(state, eni)
    return Decision(direction, Verdict.ACCEPT if is_open else Verdict.DROP, DEFAULT)


def inner_candidates(state: CloudState, eni: Eni, direction: Direction) -> Iterator[Candidate]:
    """Yield the groups whose inner policy is Accept and which this ENI is a member of, by id.

    Such a group accepts a remote that is a member, too. That is about the internal network, so the internet interface
    of a classic instance has none (CHOSEN).
    """
    if eni.nic_type is NicType.INTERNET:
        return
    for group_id in sorted(eni.security_group_ids):
        group = state.group[group_id]
        if has_inner_accept(group):
            yield Candidate(Decision(direction, Verdict.ACCEPT, INNER_ACCEPT, group_id), group)


def has_inner_accept(group: SecurityGroup) -> bool:
    """Return whether members of the group accept each other; advanced groups are always Drop."""
    return group.security_group_type is GroupType.NORMAL and group.inner_access_policy is Verdict.ACCEPT


def rule_candidates(
    state: CloudState, eni: Eni, direction: Direction, of_group: OfGroup | None = None
) -> Iterator[Candidate]:
    """Yield the rules of all the ENI's groups together, for this direction and interface, strongest first."""
    groups = [state.group[group_id] for group_id in eni.security_group_ids]
    every = [entry for group in groups for entry in (of_group or group_candidates)(group, direction)]
    for _, rule, candidate in sorted(every, key=itemgetter(0)):
        if is_on_interface(state, eni, rule):
            yield candidate


def group_candidates(group: SecurityGroup, direction: Direction) -> list[Pooled]:
    """Return the rules of one group that are for a direction."""
    return [pool(group, rule) for rule in group.rules if rule.direction is direction]


def pool(group: SecurityGroup, rule: SecurityGroupRule) -> Pooled:
    """Return a rule with its strength and the candidate that it is."""
    return strength((group, rule)), rule, Candidate(of_rule(group.security_group_id, rule), group, rule)


def strength(entry: tuple[SecurityGroup, SecurityGroupRule]) -> Strength:
    """Return a rule's key for sorting: by priority (ascending), then drop before accept.

    Rules that tie in these have equal verdicts, and an order all the same: rules on groups come first, then ids decide.
    """
    group, rule = entry
    is_accept, is_on_group = rule.policy is Verdict.ACCEPT, isinstance(rule.remote, GroupRef)
    return (rule.priority, is_accept, not is_on_group, group.security_group_id, rule.security_group_rule_id)


def holds(state: CloudState, candidate: Candidate, packet: Packet) -> bool:
    """Return whether the candidate decides this packet, which is of its direction."""
    group, rule = candidate.group, candidate.rule
    if group is None:
        return True
    if rule is None:
        return is_member(state, group, packet.remote)
    return rule_matches(state, group, rule, packet)


def rule_matches(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, packet: Packet) -> bool:
    """Return whether protocol, ports, remote and narrowing of a rule all match (section 2)."""
    return (
        rule.ip_protocol.matches(packet.protocol, packet.family)
        and destination_port_matches(state, rule, packet)
        and source_port_matches(rule, packet)
        and remote_matches(state, group, rule, packet.remote)
        and (rule.narrowing is None or packet.local in rule.narrowing)
    )


def is_on_interface(state: CloudState, eni: Eni, rule: SecurityGroupRule) -> bool:
    """Return whether a rule applies to this interface.

    In a classic network, a rule is judged on the interface of its NIC type. Rules in a VPC see all traffic (section 5).
    """
    is_classic = state.vpc[eni.vpc_id].network_type is NetworkType.CLASSIC
    return not is_classic or rule.nic_type is eni.nic_type


def destination_port_matches(state: CloudState, rule: SecurityGroupRule, packet: Packet) -> bool:
    """Return whether the destination port is in the rule's range or list; a rule without ports matches port 0, too."""
    if rule.port_list_id:
        return any(packet.port in entry.port_range for entry in state.port_list[rule.port_list_id].entries)
    return rule.port_range is None or packet.port in rule.port_range


def source_port_matches(rule: SecurityGroupRule, packet: Packet) -> bool:
    """Return whether the source port is in the rule's range; a rule without one matches every port."""
    return rule.source_port_range is None or packet.source_port in rule.source_port_range


def remote_matches(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, remote: Address) -> bool:
    """Return whether an address is in the rule's CIDR block, prefix list or group."""
    if isinstance(rule.remote, Prefix):
        return remote in rule.remote
    if isinstance(rule.remote, PrefixListRef):
        entries = state.prefix_list[rule.remote.prefix_list_id].entries
        return any(remote in entry.cidr for entry in entries)
    return is_remote_member(state, group, rule.remote, remote)


def is_remote_member(state: CloudState, group: SecurityGroup, ref: GroupRef, remote: Address) -> bool:
    """Return whether an address is a member of the group that a rule names as remote.

    Only members in the same VPC count. A group that the state doesn't know has no members (state-format.md, section B).
    """
    other = state.group.get(ref.security_group_id)
    return other is not None and other.vpc_id == group.vpc_id and is_member(state, other, remote)


def is_member(state: CloudState, group: SecurityGroup, address: Address) -> bool:
    """Return whether an ENI of the group has this private address now; internet interfaces have none."""
    return any(
        eni.has_private(address)
        for eni in state.enis_of_group[group.security_group_id]
        if eni.nic_type is NicType.INTRANET
    )


def of_rule(group_id: str, rule: SecurityGroupRule) -> Decision:
    """Return the decision that a rule of that group makes."""
    return Decision(rule.direction, rule.policy, RULE, group_id, rule.security_group_rule_id, rule.priority)
