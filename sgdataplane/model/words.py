"""What decided, in words for people. Whoever prints it uses these.

Owns the words for each cause. Is given a Decision. Must not know who asks, nor how anything is decided.

    name       few words, for a cell           sgr-1 of sg-a        default       spoofed
    because    why, with the verdict beside    rule sgr-1 of sg-a   the default   its source is not who it may be
    sentence   the whole of it                 rule ... decides     ...           its source ...: dropped
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, RULE, Decision
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Verdict

CAUSES: Mapping[str, str] = {
    # that decide() knows of
    "far-discovery": "neighbour discovery beyond its link",
    "discovery": "neighbour discovery and MLD always pass",
    "dhcp": "DHCP with the gateway always passes",
    "spoofed": "its source is not who it may be",
    "foreign": "it is addressed to none of the ENI's addresses",
    "malformed-discovery": "neighbour discovery that is not as it must be",
    "dhcp-server": "an answer of a DHCP server",
    "midstream": "TCP that opens nothing and belongs to no known session",
    "metadata": "the metadata address can always be reached",
    # that the kernel knows of besides
    "always": "always passes",
    "icmp-error": "an ICMP error of a session that is accepted: passes",
    "icmp-error-refused": "related ICMP that is no error, a redirect for example",
    "invalid": "conntrack takes it for part of no session that there can be",
    "untracked": "conntrack doesn't know it",
    "neighbour-claim": "it claims another's address",
    "unknown-interface": "at an interface that no policy knows",
    # of the fence
    "fence.arp-claim": "ARP in another's name",
    "fence.discovery": "neighbour discovery beyond its link",
    "fence.discovery-limit": "more ARP or neighbour discovery than one ENI may send",
    "fence.fragments": "more fragments than one ENI may send",
    "fence.other": "a frame that is neither IP nor ARP",
    "fence.other-mac": "its source MAC is not the ENI's",
    "fence.spoofed": "its source is not who it may be",
    "fence.tagged": "a VLAN tag",
    "fence.unapproved": "the policy has not approved it (it was sent past it)",
    # where no policy is asked
    "absent": "the state hasn't got the ENI, or not with this address",
    "incomplete": "fragments of a datagram that is never whole",
    "unprotected": "there is no policy on its way",
}
# What the addresses of a packet say about why.
DETAILS: Mapping[tuple[str, Direction], str] = {
    ("spoofed", Direction.EGRESS): "{local} is none of {eni}'s own addresses",
    ("spoofed", Direction.INGRESS): "{remote} is {eni}'s own address",
    ("foreign", Direction.INGRESS): "{local} is not {eni}'s",
}


def name(decision: Decision) -> str:
    """The rule, or what else decided."""
    if decision.cause == RULE:
        return rule_name(decision.security_group_id, decision.security_group_rule_id)
    return f"the inner policy of {decision.security_group_id}" if decision.cause == INNER_ACCEPT else decision.cause


def rule_name(group_id: str, rule_id: str) -> str:
    return f"{rule_id} of {group_id}"


def ranked(decision: Decision) -> str:
    """Its name; of a rule with the priority, as far as that is known."""
    return f"{name(decision)} (priority {decision.priority})" if decision.priority else name(decision)


def because(decision: Decision, packet: Packet | None = None) -> str:
    """Why; of a packet that is known in detail."""
    if decision.cause == RULE:
        return f"rule {name(decision)}"
    if decision.cause == INNER_ACCEPT:
        return f"both are members of {decision.security_group_id}, whose inner policy is Accept"
    if decision.cause == DEFAULT:
        return "the default"
    why, detail = CAUSES.get(decision.cause, decision.cause), DETAILS.get((decision.cause, decision.direction))
    if packet is None or detail is None:
        return why
    return f"{why}: {detail.format(eni=packet.eni_id, local=packet.local, remote=packet.remote)}"


def sentence(decision: Decision) -> str:
    """Why, and what that means for the packet."""
    if decision.cause == RULE:
        return f"rule {ranked(decision)} decides"
    if decision.cause == DEFAULT:
        return "the default decides, as no rule matches"
    is_dropped = decision.is_fixed and decision.verdict is Verdict.DROP
    return f"{because(decision)}: dropped" if is_dropped else because(decision)


def counted(number: int, noun: str, ending: str = "s") -> str:
    """ "1 rule", "2,000 rules"; `ending` makes the plural."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def first_of(texts: Sequence[str], most: int) -> str:
    """The first `most` of them, and how many more there are: "a, b and 3 more"."""
    more = len(texts) - most
    return ", ".join(texts) if more <= 0 else f"{', '.join(texts[:most])} and {more:,} more"
