"""What decided, in words for people: every page, table and message uses these.

Owns the words for each cause. Is given a Decision. Must not know who asks, nor how anything is decided.

    name       a few words, for a cell         sgr-1 of sg-a        default       spoofed
    because    why, with the verdict beside    rule sgr-1 of sg-a   the default   its source address is spoofed
    sentence   all of it, as a sentence        rule ... decides     ...           its source ...: dropped
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, RULE, Decision
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Verdict

CAUSES: Mapping[str, str] = {
    # decide() knows these
    "far-discovery": "neighbour discovery beyond its link",
    "discovery": "neighbour discovery and MLD on the link always pass",
    "dhcp": "DHCP with the gateway always passes",
    "spoofed": "its source address is spoofed",
    "foreign": "it is addressed to none of the ENI's addresses",
    "malformed-discovery": "malformed neighbour discovery",
    "dhcp-server": "only the gateway may answer as a DHCP server",
    "midstream": "TCP without a known session that isn't a bare SYN",
    "metadata": "the metadata address can always be reached",
    # only the kernel knows these
    "always": "always passes",
    "icmp-error": "an ICMP error that belongs to an accepted session passes",
    "icmp-error-refused": "ICMP about a packet that its sender can't have seen, or no error, such as a redirect",
    "injected": "a device of another namespace put it into the router's stack, behind the policy",
    "invalid": "conntrack finds it invalid: it fits no possible session",
    "untracked": "conntrack doesn't track it",
    "neighbour-claim": "it claims an address of someone else",
    "session-limit": "its ENI has as many sessions as one may have",
    "unknown-interface": "its interface has no policy",
    # the fence knows these
    "fence.arp-claim": "ARP that claims an address of someone else",
    "fence.discovery": "neighbour discovery beyond its link",
    "fence.discovery-limit": "more ARP or neighbour discovery than one ENI may send",
    "fence.fragments": "more fragments than one ENI may send",
    "fence.other": "the frame is neither IP nor ARP",
    "fence.other-mac": "its source MAC is not the ENI's",
    "fence.spoofed": "its source address is spoofed",
    "fence.tagged": "the frame has a VLAN tag",
    "fence.unapproved": "it was sent past the policy, which hasn't approved it",
    # no policy was evaluated
    "no-eni": "the state has no such ENI, or not with this address",
    "incomplete": "fragments of a datagram that never becomes complete",
    "unprotected": "no policy is enforced on its way",
}
# The details that the addresses of a packet add.
DETAILS: Mapping[tuple[str, Direction], str] = {
    ("spoofed", Direction.EGRESS): "{local} is none of {eni}'s own addresses",
    ("spoofed", Direction.INGRESS): "{remote} is a private address of {eni}",
    ("foreign", Direction.INGRESS): "{local} is not {eni}'s",
}


def name(decision: Decision) -> str:
    """Return what decided, in a few words."""
    if decision.would is not None:
        return f"audit mode (enforced: {name(decision.would)})"
    if decision.cause == RULE:
        return rule_name(decision.security_group_id, decision.security_group_rule_id)
    return f"the inner policy of {decision.security_group_id}" if decision.cause == INNER_ACCEPT else decision.cause


def rule_name(group_id: str, rule_id: str) -> str:
    """Return a rule as outputs name it."""
    return f"{rule_id} of {group_id}"


def cite_decision(decision: Decision) -> str:
    """Return what decided, with the priority if it is a rule whose priority is known."""
    return f"{name(decision)} (priority {decision.priority})" if decision.priority else name(decision)


def because(decision: Decision, packet: Packet | None = None) -> str:
    """Return why it was decided so, in words that stand beside a verdict.

    If the packet is given, they name its addresses where these are the reason, or its ENI.
    """
    if decision.would is not None:
        eni = "its ENI" if packet is None else packet.eni_id
        return f"{eni} is in audit mode; enforced, {because(decision.would)} would drop it"
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


def sentence(decision: Decision, packet: Packet | None = None) -> str:
    """Return what decided, as a whole sentence. If the packet is given, it names its ENI where that is the reason."""
    if decision.would is not None:
        return f"passes, as {because(decision, packet)}"
    if decision.cause == RULE:
        return f"rule {cite_decision(decision)} decides"
    if decision.cause == DEFAULT:
        return "the default decides, as no rule matches"
    is_dropped = decision.is_fixed and decision.verdict is Verdict.DROP
    return f"{because(decision)}: dropped" if is_dropped else because(decision)


def pluralize(number: int, noun: str, ending: str = "s") -> str:
    """Return a number with its noun: "1 rule", "2,000 rules". `ending` makes the plural."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def first_of(texts: Sequence[str], most: int) -> str:
    """Return the first `most` texts, and how many more there are: "a, b and 3 more"."""
    more = len(texts) - most
    return ", ".join(texts) if more <= 0 else f"{', '.join(texts[:most])} and {more:,} more"
