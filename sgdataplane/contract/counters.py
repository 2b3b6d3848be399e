"""Name the counters of our tables, and list the causes that are counted.

Owns these names, and the nflog groups that logged packets go to. It must not know where a table counts.
"""

from __future__ import annotations

from sgdataplane.contract import names
from sgdataplane.model.decision import DEFAULT, FENCE, INNER_ACCEPT, RULE, Decision
from sgdataplane.net.values import Direction

LOG_GROUP = 5160  # the nflog group of our logs; each network namespace has its own groups
HISTORY_GROUP = 5161  # to this group, a table of history's own logs new sessions
TRIAL_GROUP = 5162  # to this group, a trial's table logs samples
# The causes for which a packet passes or is dropped before any rule of a user is asked.
CAUSES = (
    "always",
    "dhcp-server",
    "far-discovery",
    "foreign",
    "icmp-error",
    "icmp-error-refused",
    "injected",
    "invalid",
    "malformed-discovery",
    "midstream",
    "neighbour-claim",
    "session-limit",
    "spoofed",
    "unknown-interface",
    "untracked",
)
INJECTED = "injected"  # somebody put the packet into the stack of a router, behind the policy
PASSING = ("always", "icmp-error")  # the causes that let packets pass
ALWAYS = ("discovery", "dhcp", "metadata")  # these causes share the counter of "always"
# The causes for which the fence drops a frame.
FENCE_CAUSES = (
    "arp-claim",
    "discovery",
    "discovery-limit",
    "fragments",
    "other",
    "other-mac",
    "spoofed",
    "tagged",
    "unapproved",
)


def counter_name(decision: Decision) -> str:
    """Return the counter of packets with this decision.

    It is named after the rule, or after the direction and what else decided, so it stays the same when the policy is
    compiled again.
    """
    if decision.would is not None:
        return name_audited_counter(decision.would)
    if decision.cause == RULE:
        return names.identifier("rule", decision.security_group_id, decision.security_group_rule_id)
    if decision.cause == INNER_ACCEPT:
        return names.identifier("inner", decision.direction.value, decision.security_group_id)
    if decision.cause == DEFAULT:
        return names.identifier("default", decision.direction.value, decision.verdict.value)
    if decision.cause.startswith(FENCE):
        return fence_counter(decision.clause)
    return name_fixed_counter(decision.direction, decision.cause)


# The names of counters of packets that pass because of audit mode begin so: of all ENIs together, and of one ENI.
AUDITED, AUDITED_BY = "audited.", "audited-by"


def name_audited_counter(would: Decision) -> str:
    """Return the counter of packets that pass in audit mode, and that this decision would have dropped.

    It counts for all ENIs together, as the decision's own counter does. The log names it.
    """
    return name_audited_of(counter_name(would))


def name_audited_of(counter: str) -> str:
    """Return the counter of packets that pass in audit mode, and that this counter would have counted."""
    return f"{AUDITED}{counter}"


def name_audited_at(ifname: str, would: Decision) -> str:
    """Return the counter of packets that pass in audit mode at the ENI of one interface."""
    return names.identifier(AUDITED_BY, ifname, counter_name(would))


def name_fixed_counter(hook: Direction, cause: str) -> str:
    """Return the counter of a cause from CAUSES or ALWAYS, at that hook."""
    return names.identifier(hook.value, "always" if cause in ALWAYS else cause)


def fence_counter(cause: str) -> str:
    """Return the counter of a cause from FENCE_CAUSES."""
    return names.identifier("fence", cause)


def eni_counter(side: Direction, ifname: str) -> str:
    """Return the counter of all packets dropped for the ENI at that interface.

    They are dropped before any rule at that hook, or by that direction's rules. The counter is named after the
    interface, so that ENIs with equal groups have equal tables.
    """
    return names.identifier("dropped", side.value, ifname)


def name_fenced_counter(ifname: str) -> str:
    """Return the counter of all frames that the fence drops at an interface, which carries an ENI or is an uplink."""
    return names.identifier("fence-dropped", ifname)
