"""Foreign objects in a namespace that affect the policy: rules that use the conntrack mark, and flowtables.

Owns the numbers of these messages (linux/netfilter/nf_tables.h, xt_connmark.h). Runs in a namespace. Must not know
policy, or what is done about what it finds.

The mark holds what the policy has accepted (contract/marks.py). Rules of iptables-nft are rules of nftables, so they
are seen. Not seen: iptables-legacy, actions of tc (ct, connmark, ctinfo), BPF programs, Open vSwitch, and programs that
write marks through ctnetlink.

A flowtable takes established sessions over from conntrack, by a rule `flow add` in a forward chain. From then on their
packets go from the netdev ingress hook of one of its devices straight to the interface that they leave by. They meet
neither prerouting nor postrouting, so none of our hooks. Not seen: sessions that a network card forwards for tc
(act_ct) or Open vSwitch, and BPF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.contract.tables import ARP, NETDEV, TABLE, TRIALS
from sgdataplane.host.netlink import attribute, list_attributes, parse_attributes, refusals_of, text_of, uint
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.model.options import Placement

SUBSYSTEM, GETTABLE, GETRULE = 10, 1, 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_*
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*
OURS = {("inet", TABLE), (NETDEV, TABLE), (ARP, TABLE)}
TABLE_NAME = 1
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS = 1, 2, 3, 4
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
CT_KEY, CT_SOURCE, MARK = 2, 4, 3  # NFTA_CT_KEY, NFTA_CT_SREG, NFT_CT_MARK
XT_NAME, XT_REVISION, XT_INFO = 1, 2, 3  # of a target and of a match
# Where struct xt_connmark_tginfo1 to 3 hold the mode, by revision; and the modes.
MODE_AT = {1: 12, 2: 14, 3: 14}
SAVE, RESTORE = 1, 2
OPTIONS = {0: "--set-mark", SAVE: "--save-mark", RESTORE: "--restore-mark"}


@dataclass(frozen=True, slots=True)
class MarkUser:
    """A rule of another program that uses the mark, as `nft -a list chain FAMILY TABLE CHAIN` shows it."""

    family: str
    table: str
    chain: str
    handle: int
    sets: bool
    """False if it only reads the mark."""
    text: str
    """The part that uses the mark, in the syntax of nft or iptables."""

    @property
    def warning(self) -> str:
        """One line for people."""
        where = f"rule {self.handle} of chain {self.family} {self.table} {self.chain}"
        if not self.sets:
            return f"{where} reads the conntrack mark ({self.text}): what it finds there is the policy's"
        return (
            f"{where} sets the conntrack mark ({self.text}), which is where the policy notes what it has accepted: "
            "sessions may pass unjudged, or be judged at each packet"
        )


def read_mark_users() -> tuple[MarkUser, ...]:
    """Read the rules in the calling thread's namespace that use the mark, table by table.

    The tables of trials are left out where they only read the mark.

    Raises:
        HostError: The kernel refuses.
    """
    with Nfnetlink() as netlink, refusals_of("nftables rules"):
        tables = [(family, found[TABLE_NAME]) for family, found in netlink.dump(_kind(GETTABLE))]
        return tuple(
            user
            for family, table in tables
            if (FAMILIES.get(family), text_of(table)) not in OURS
            for user in _users(netlink, family, table)
            if user.sets or not user.table.startswith(TRIALS)
        )


def _users(netlink: Nfnetlink, family: int, table: bytes) -> Iterator[MarkUser]:
    """Yield the rules of a table that use the mark.

    `table` is its name as the kernel's bytes, which need not be text.
    """
    asked = attribute(RULE_TABLE, table)
    for _, found in netlink.dump(_kind(GETRULE), family, asked):
        user = parse_rule(family, found)
        if user is not None:
            yield user


def parse_rule(family: int, rule: Mapping[int, bytes]) -> MarkUser | None:
    """Read a rule from a message's attributes; None if it doesn't use the mark."""
    expressions = (parse_attributes(value) for _, value in list_attributes(rule.get(RULE_EXPRESSIONS, b"")))
    uses = [use for expression in expressions for use in _uses(expression)]
    if not uses:
        return None
    sets = any(is_set for is_set, _ in uses)
    return MarkUser(
        FAMILIES.get(family, str(family)),
        text_of(rule[RULE_TABLE]),
        text_of(rule[RULE_CHAIN]),
        uint(rule[RULE_HANDLE]),
        sets,
        ", ".join(dict.fromkeys(text for is_set, text in uses if is_set == sets)),
    )


def _uses(expression: Mapping[int, bytes]) -> Iterator[tuple[bool, str]]:
    """Yield whether the expression sets the mark (else it reads it), and in which words."""
    data = parse_attributes(expression.get(EXPRESSION_DATA, b""))
    match text_of(expression[EXPRESSION_NAME]):
        case "ct" if uint(data[CT_KEY]) == MARK:
            yield (True, "ct mark set") if CT_SOURCE in data else (False, "ct mark")
        case "target" if text_of(data[XT_NAME]) == "CONNMARK":
            mode = _mode(uint(data[XT_REVISION]), data[XT_INFO])
            yield mode != RESTORE, f"-j CONNMARK {OPTIONS.get(mode, '')}".strip()
        case "match" if text_of(data[XT_NAME]) == "connmark":
            yield False, "-m connmark"


def _mode(revision: int, info: bytes) -> int:
    """Return the mode of a CONNMARK target; -1 for a revision that isn't known."""
    place = MODE_AT.get(revision, len(info))
    return info[place] if place < len(info) else -1


def _kind(message: int) -> int:
    return message_kind(SUBSYSTEM, message)


GETFLOWTABLE = 23  # NFT_MSG_*
FLOWTABLE_TABLE, FLOWTABLE_NAME, FLOWTABLE_HOOK, FLOWTABLE_FLAGS = 1, 2, 3, 7  # NFTA_FLOWTABLE_*
HOOK_DEVICES = 3  # NFTA_FLOWTABLE_HOOK_DEVS
MAX_FLOWTABLES = 100  # flowtables of a namespace; that many warnings are enough
IN_HARDWARE = 1  # NFT_FLOWTABLE_HW_OFFLOAD
CONSEQUENCES = {  # by whether the placement is outside the instance
    False: "the fence drops what it sends out of an ENI, so the sessions that it takes over stall",
    True: "the fence drops what it sends out of the router, so the sessions that it takes over stall (without the "
    "fence, they are neither counted nor logged, and one that a change refuses stops once the change is applied)",
}


@dataclass(frozen=True, slots=True)
class Flowtable:
    """A flowtable as `nft list flowtables` shows it."""

    family: str
    table: str
    name: str
    devices: tuple[str, ...]
    """The interfaces where it takes packets from."""
    is_in_hardware: bool

    def warning(self, placement: Placement) -> str:
        """Return what somebody should know, in one line."""
        where = f"flowtable {self.family} {self.table} {self.name} ({', '.join(self.devices) or 'no device'})"
        hardware = ", some in hardware, where we don't see them" if self.is_in_hardware else ""
        return f"{where} carries sessions past the policy{hardware}: {CONSEQUENCES[placement.is_outside]}"


def read_flowtables() -> tuple[Flowtable, ...]:
    """Read the flowtables in the calling thread's namespace, in the order of tables, up to MAX_FLOWTABLES.

    Raises:
        HostError: The kernel refuses.
    """
    with Nfnetlink() as netlink, refusals_of("nftables flowtables"):
        found = netlink.dump(message_kind(SUBSYSTEM, GETFLOWTABLE))
        return tuple(parse_flowtable(*entry) for entry in found[:MAX_FLOWTABLES])


def parse_flowtable(family: int, found: Mapping[int, bytes]) -> Flowtable:
    """Read a flowtable from a message's attributes."""
    devices = parse_attributes(found.get(FLOWTABLE_HOOK, b"")).get(HOOK_DEVICES, b"")
    return Flowtable(
        FAMILIES.get(family, str(family)),
        text_of(found[FLOWTABLE_TABLE]),
        text_of(found[FLOWTABLE_NAME]),
        tuple(sorted(text_of(name) for _, name in list_attributes(devices))),
        bool(int.from_bytes(found.get(FLOWTABLE_FLAGS, b""), "big") & IN_HARDWARE),
    )
