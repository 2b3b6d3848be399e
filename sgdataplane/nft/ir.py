"""nftables objects as frozen values: what a table should hold, before any text.

Owns the types that compiler, text, delta and interpreter share. Is given nothing. Must not know clouds, nor nft syntax.
Keys are integers (addresses, ports, protocol numbers, marks) or interface names; ranges have both ends included.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from sgdataplane.nft import pages


class KeyType(enum.Enum):
    """What kind of value a field or map key holds."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    IFNAME = "ifname"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    NUMBER = "number"
    MARK = "mark"
    NFPROTO = "nfproto"
    CT_STATE = "ct_state"
    CT_DIRECTION = "ct_direction"
    MAC = "mac"
    ETHERTYPE = "ethertype"
    BITS128 = "bits128"


class Field(enum.Enum):
    """What a rule can look at: a packet header, the interface, or the conntrack entry."""

    __hash__ = object.__hash__

    IIFNAME = ("iifname", KeyType.IFNAME)
    OIFNAME = ("oifname", KeyType.IFNAME)
    NFPROTO = ("nfproto", KeyType.NFPROTO)
    L4PROTO = ("l4proto", KeyType.NUMBER)
    IP_SADDR = ("ip_saddr", KeyType.IPV4)
    IP_DADDR = ("ip_daddr", KeyType.IPV4)
    IP_FRAGMENT = ("ip_fragment", KeyType.NUMBER)  # flags and offset
    IP6_SADDR = ("ip6_saddr", KeyType.IPV6)
    IP6_DADDR = ("ip6_daddr", KeyType.IPV6)
    TH_SPORT = ("th_sport", KeyType.NUMBER)
    TH_DPORT = ("th_dport", KeyType.NUMBER)
    TCP_FLAGS = ("tcp_flags", KeyType.NUMBER)
    IP6_HOPLIMIT = ("ip6_hoplimit", KeyType.NUMBER)
    IP6_FRAGMENT = ("ip6_fragment", KeyType.NUMBER)  # 1: it has a fragment header, wherever; else 0
    ICMP_TYPE = ("icmp_type", KeyType.NUMBER)
    ICMPV6_TYPE = ("icmpv6_type", KeyType.NUMBER)
    CT_STATE = ("ct_state", KeyType.CT_STATE)
    CT_DIRECTION = ("ct_direction", KeyType.CT_DIRECTION)
    CT_MARK = ("ct_mark", KeyType.MARK)
    CT_PROTOCOL = ("ct_protocol", KeyType.NUMBER)  # this and what follows: of the packet's session, whoever sent it
    CT_ORIGINAL_IP_SADDR = ("ct_original_ip_saddr", KeyType.IPV4)
    CT_ORIGINAL_IP_DADDR = ("ct_original_ip_daddr", KeyType.IPV4)
    CT_ORIGINAL_IP6_SADDR = ("ct_original_ip6_saddr", KeyType.IPV6)
    CT_ORIGINAL_IP6_DADDR = ("ct_original_ip6_daddr", KeyType.IPV6)
    CT_ORIGINAL_SPORT = ("ct_original_sport", KeyType.NUMBER)
    CT_ORIGINAL_DPORT = ("ct_original_dport", KeyType.NUMBER)
    CT_REPLY_IP_SADDR = ("ct_reply_ip_saddr", KeyType.IPV4)
    CT_REPLY_IP_DADDR = ("ct_reply_ip_daddr", KeyType.IPV4)
    CT_REPLY_IP6_SADDR = ("ct_reply_ip6_saddr", KeyType.IPV6)
    CT_REPLY_IP6_DADDR = ("ct_reply_ip6_daddr", KeyType.IPV6)
    CT_REPLY_SPORT = ("ct_reply_sport", KeyType.NUMBER)
    CT_REPLY_DPORT = ("ct_reply_dport", KeyType.NUMBER)
    PACKET_MARK = ("packet_mark", KeyType.MARK)
    ROUTE_REALM = ("route_realm", KeyType.MARK)  # lacking where no route was asked: a frame from a packet socket
    ETHER_SADDR = ("ether_saddr", KeyType.MAC)
    ETHER_TYPE = ("ether_type", KeyType.ETHERTYPE)  # as in the frame; the sender of a frame chooses PROTOCOL freely
    PROTOCOL = ("protocol", KeyType.ETHERTYPE)
    ARP_HTYPE = ("arp_htype", KeyType.NUMBER)
    ARP_PTYPE = ("arp_ptype", KeyType.ETHERTYPE)
    ARP_HLEN = ("arp_hlen", KeyType.NUMBER)
    ARP_PLEN = ("arp_plen", KeyType.NUMBER)
    ARP_OPERATION = ("arp_operation", KeyType.NUMBER)
    ARP_SENDER_MAC = ("arp_sender_mac", KeyType.MAC)
    ARP_SENDER_IP = ("arp_sender_ip", KeyType.IPV4)
    ARP_TARGET_IP = ("arp_target_ip", KeyType.IPV4)
    ND_TARGET = ("nd_target", KeyType.BITS128)

    @property
    def key_type(self) -> KeyType:
        kind: KeyType = self.value[1]
        return kind


class Nfproto(enum.IntEnum):
    IPV4 = 2
    IPV6 = 10


class CtState(enum.IntEnum):
    """NF_CT_STATE_BIT values (include/uapi/linux/netfilter/nf_conntrack_common.h)."""

    INVALID = 1
    ESTABLISHED = 2
    RELATED = 4
    NEW = 8
    UNTRACKED = 64


class CtDirection(enum.IntEnum):
    ORIGINAL = 0
    REPLY = 1


# The ports of packets, and of sessions: only TCP and UDP have any, other protocols have other bytes there.
PORTS = (Field.TH_SPORT, Field.TH_DPORT)
SESSION_PORTS = (
    Field.CT_ORIGINAL_SPORT,
    Field.CT_ORIGINAL_DPORT,
    Field.CT_REPLY_SPORT,
    Field.CT_REPLY_DPORT,
)


TCP_FIN, TCP_SYN, TCP_RST, TCP_ACK = 0x01, 0x02, 0x04, 0x10

Key = int | str
LOGGED_BYTES = 256  # of each packet that is logged: headers, extension headers of IPv6 included


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Keys `first..last`; a single key has both equal."""

    first: Key
    last: Key

    @classmethod
    def of(cls, key: Key) -> Range:
        return cls(key, key)


class VerdictKind(enum.Enum):
    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`chain` is the target of a jump or goto, else empty."""

    kind: VerdictKind
    chain: str = ""


ACCEPT, DROP, RETURN = (Verdict(kind) for kind in (VerdictKind.ACCEPT, VerdictKind.DROP, VerdictKind.RETURN))


@lru_cache(maxsize=1 << 16)
def goto(chain: str) -> Verdict:
    """The same object for the same chain: maps have many equal values."""
    return Verdict(VerdictKind.GOTO, chain)


def jump(chain: str) -> Verdict:
    return Verdict(VerdictKind.JUMP, chain)


@dataclass(frozen=True, slots=True)
class Match:
    """Holds when `field & mask` lies in one of `ranges` (disjoint, sorted), or in none of them if `negate`.

    A field that the packet lacks never holds, negated or not: the kernel ends the rule there.
    """

    field: Field
    ranges: tuple[Range, ...]
    negate: bool = False
    mask: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether the kernel makes it a set without a name. Conntrack states are bits of one comparison."""
        return len(self.ranges) > 1 and self.field is not Field.CT_STATE


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """Take the verdict of the entry that holds the field's value; go on with the next rule when there is none.

    Either a named map or the entries themselves (disjoint, sorted).
    """

    field: Field
    entries: tuple[tuple[Range, Verdict], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet in a named counter."""

    counter: str


@dataclass(frozen=True, slots=True)
class Log:
    """Tell whoever listens to the nflog group of a packet, and which counter has just counted it; of so many packets a
    second, and no more. Nothing may follow it in its rule, as that would happen to these packets only."""

    counter: str
    group: int
    per_second: int


@dataclass(frozen=True, slots=True)
class Exceeds:
    """Holds for what comes faster than this to its rule: packets a second, or bytes; so many at once are none too many.
    The kernel keeps the count with the rule."""

    per_second: int
    burst: int
    is_bytes: bool = False

    def times(self, factor: int) -> Exceeds:
        return Exceeds(self.per_second * factor, self.burst * factor, self.is_bytes)


@dataclass(frozen=True, slots=True)
class SetMark:
    """Write the conntrack mark: `(mark & keep) | value`. Does nothing for a packet without a conntrack entry."""

    keep: int
    value: int


@dataclass(frozen=True, slots=True)
class SetTimeout:
    """Give the session, at its first packet, the idle timeouts of a named timeout object."""

    timeout: str


@dataclass(frozen=True, slots=True)
class SetPacketMark:
    """Write the packet's own mark, which goes with it to the device and no further."""

    value: int


Statement = Match | Exceeds | VerdictMap | Count | Log | SetMark | SetPacketMark | SetTimeout | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    statements: tuple[Statement, ...]
    comment: str = ""


def rule(*statements: Statement, comment: str = "") -> Rule:
    return Rule(statements, comment)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain stands. Its policy is drop, but what must be dropped is dropped by a rule, as a base chain is
    made with a policy that accepts (delta.py says why). `device`: of a netdev table's, the interface."""

    name: str
    priority: int
    device: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """`origin` names the user's rule (or other input) that it was made for, for messages; "" if none. `texts`: the
    rules as text, where it was made already; a copy with other rules has none."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    comment: str = ""
    origin: str = ""
    texts: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    _ways: Ways | None = field(default=None, init=False, compare=False, repr=False)

    def with_texts(self, texts: tuple[str, ...]) -> Chain:
        """Remember the rules' text."""
        object.__setattr__(self, "texts", texts)
        return self

    @property
    def ways(self) -> Ways:
        """Where its rules send packets; found out once."""
        if self._ways is None:
            object.__setattr__(self, "_ways", Ways.of(self.rules))
        assert self._ways is not None
        return self._ways


@dataclass(frozen=True, slots=True)
class Ways:
    """The chains that rules name, and the named maps that they ask."""

    chains: tuple[str, ...]
    maps: tuple[str, ...]

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> Ways:
        statements = [statement for entry in rules for statement in entry.statements]
        maps = [entry for entry in statements if isinstance(entry, VerdictMap)]
        verdicts = [entry for entry in statements if isinstance(entry, Verdict)]
        verdicts += [verdict for entry in maps for _, verdict in entry.entries]
        chains = dict.fromkeys(verdict.chain for verdict in verdicts if verdict.chain)
        return cls(tuple(chains), tuple(dict.fromkeys(entry.name for entry in maps if entry.name)))


Elements = pages.Elements[Key, Verdict | int]
Page = pages.Page[Key, Verdict | int]
Paged = pages.Paged[Key, Verdict | int]


@dataclass(frozen=True, slots=True)
class Map:
    """A named map of single keys; its values are verdicts, or marks (integers). A large one has its elements in pages.

    `lifetime`: milliseconds after which each element goes by itself, 0: never. Only the kernel knows what is left in
    such a map; its `elements` here are those to add, and all of them have the verdict `return`.
    """

    name: str
    key_type: KeyType
    elements: Elements
    comment: str = ""
    holds_marks: bool = False
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Idle timeouts in seconds by conntrack state, for one transport and family (nf_conntrack_timeout)."""

    name: str
    protocol: str
    family: str
    policy: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Table:
    """Everything one table holds; each tuple sorted by name, so that equal tables have equal text."""

    name: str
    chains: tuple[Chain, ...] = ()
    maps: tuple[Map, ...] = ()
    counters: tuple[Counter, ...] = ()
    timeouts: tuple[Timeout, ...] = ()
    family: str = field(default="inet")

    @cached_property
    def chain(self) -> dict[str, Chain]:
        return {chain.name: chain for chain in self.chains}

    @cached_property
    def map(self) -> dict[str, Map]:
        return {entry.name: entry for entry in self.maps}

    @cached_property
    def counter(self) -> dict[str, Counter]:
        return {entry.name: entry for entry in self.counters}

    @cached_property
    def _elements(self) -> dict[str, dict[Key, Verdict | int]]:
        return {}

    def elements_of(self, name: str) -> dict[Key, Verdict | int]:
        """A named map's elements by key."""
        if name not in self._elements:
            self._elements[name] = dict(self.map[name].elements)
        return self._elements[name]
