"""Name our tables, their chains and their maps.

Owns the names of those parts that every table has, by which compiler, proof, enforce and observe know them. It must not
know their content.
"""

from __future__ import annotations

from sgdataplane.contract import names
from sgdataplane.net.values import Direction, Family

TABLE = "sgdataplane"
TRIALS = f"{TABLE}-trial-"  # names of trials' tables begin so
NETDEV = "netdev"  # the family of the fence's table; the policy's is inet
ARP = "arp"  # the family of the table that marks a router's own ARP
LOOPBACK = "lo"
UPLINK = "uplink"  # the chain for packets that come by an uplink
MIDSTREAM = "egress-midstream"
PROFILES = "profiles"  # the map from numbers of profiles' sides to their first chains
WINNERS = "winners"  # the map from ranks to the leaves of their permissions
AUDITS = "audits"  # the map from ranks of refusals to leaves that let pass, for ENIs in audit mode
AUDITED = "audited"  # the map from such ranks and interfaces to the counters of what passes
ADOPTING = "adopting"  # the map of interfaces whose adoption window is open (semantics.md, section 4)
DELIVERED = "timeouts-delivered"  # the base chain for packets to the namespace itself, where there is one
SENT = "sent"  # the base chain for packets that the namespace itself sends, where there is one
DEFAULT_WINDOW_MS = 30_000  # how long an adoption window is open, in milliseconds


def gate_name(hook: Direction) -> str:
    """Return the name of the chain that leads to an ENI's checks.

    Packets for which rules are evaluated return from it.
    """
    return f"{hook.value}-gate"


def entry_name(hook: Direction) -> str:
    """Return the name of the chain for packets at interfaces that carry no ENI."""
    return f"{hook.value}-entry"


def name_related_chain(hook: Direction) -> str:
    """Return the name of the chain for ICMP errors, and for other packets that conntrack calls related."""
    return f"{hook.value}-related"


def dispatch_name(hook: Direction) -> str:
    """Return the name of the map from an interface to the chain of its ENI."""
    return f"{hook.value}-enis"


def here_name(family: Family) -> str:
    """Return the name of the map of addresses that ENIs have on this host, for packets that come by an uplink."""
    return f"here-{family.value}"


def drop_name(hook: Direction, cause: str) -> str:
    """Return the name of the chain that drops packets for that cause."""
    return names.identifier(f"{hook.value}-drop", cause)


def pass_name(hook: Direction) -> str:
    """Return the name of the chain that marks packets as approved, for the fence, and accepts them.

    It is for a hook where packets leave.
    """
    return f"{hook.value}-pass"


def accept_name(hook: Direction, side: Direction) -> str:
    """Return the name of the chain at a hook for packets that rules of that direction accept."""
    return names.identifier(f"{hook.value}-accept", side.value)


AUDIT = "audit-"  # names of chains that let pass what rules refuse begin so


def audit_name(hook: Direction) -> str:
    """Return the name of the chain for packets with ranks, at interfaces whose ENI is in audit mode."""
    return f"{AUDIT}{hook.value}"


def name_audited_enis_map(hook: Direction) -> str:
    """Return the name of the map of interfaces whose ENI is in audit mode."""
    return f"{hook.value}-audited"


LIMIT = "limit-"  # names of chains that limit how many sessions an ENI holds begin so


def limit_name(side: Direction) -> str:
    """Return the name of the chain for packets that open a session which this side's rules accept."""
    return f"{LIMIT}{side.value}"


def refuse_name(side: Direction) -> str:
    """Return the name of the chain for packets that rules of that direction refuse."""
    return f"{side.value}-refuse"


def groups_name(side: Direction, family: Family, profile: str, *, is_behind_ah: bool) -> str:
    """Return the name of a profile's chain that finds the strongest permission on a group of the far address."""
    return names.identifier(f"groups-{_kind(side, family, is_behind_ah)}", profile)


def address_name(side: Direction, family: Family, profile: str, *, is_behind_ah: bool) -> str:
    """Return the name of a profile's chain that decides by all other permissions.

    The strongest permission on a group is known by then.
    """
    return names.identifier(f"address-{_kind(side, family, is_behind_ah)}", profile)


def is_address(name: str) -> bool:
    """Return whether a chain has such a name."""
    return name.startswith("address-")


def _kind(side: Direction, family: Family, is_behind_ah: bool) -> str:
    return f"{side.value}-{family.value}{'-ah' if is_behind_ah else ''}"


def members_name(family: Family) -> str:
    """Return the name of the map from the address of each member of a group to the number of its group set."""
    return f"members-{family.value}"
