"""Define what a rule can look at, and the hooks where it looks.

Owns the fields, nft's word for each, the kind of value that it holds, and the kernel's numbers for states, directions
and flags. It must not know how a field is read from a packet, or what rules ask for.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sgdataplane.net.values import Family


class KeyType(enum.Enum):
    """What kind of value a field or map key holds."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    IFNAME = "ifname"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    NUMBER = "number"
    MARK = "mark"
    CLASSID = "classid"
    NFPROTO = "nfproto"
    CT_STATE = "ct_state"
    CT_DIRECTION = "ct_direction"
    MAC = "mac"
    ETHERTYPE = "ethertype"
    COUNTER = "counter"  # a map can hold it, by name; no key is of this kind
    BITS = "bits"  # the field has the size
    BITS128 = "bits128"
    MARK_IFNAME = "mark . ifname"
    CLASSID_IFNAME = "classid . ifname"
    IPV4_IFNAME = "ipv4 . ifname"
    IPV6_IFNAME = "ipv6 . ifname"
    NOTHING = "nothing"  # a set holds this


# For keys that are pairs: the kind of value beside the name of the interface.
PAIRED = {
    KeyType.MARK_IFNAME: KeyType.MARK,
    KeyType.CLASSID_IFNAME: KeyType.CLASSID,
    KeyType.IPV4_IFNAME: KeyType.IPV4,
    KeyType.IPV6_IFNAME: KeyType.IPV6,
}


class Field(enum.Enum):
    """What a rule can look at: a packet header, the interface, or the conntrack entry.

    Attributes:
        word: What nft calls it, and nothing else.
        key_type: The kind of value that it holds.
    """

    __hash__ = object.__hash__

    def __init__(self, word: str, key_type: KeyType) -> None:
        self.word, self.key_type = word, key_type

    IIFNAME = ("iifname", KeyType.IFNAME)
    OIFNAME = ("oifname", KeyType.IFNAME)
    NFPROTO = ("meta nfproto", KeyType.NFPROTO)
    L4PROTO = ("meta l4proto", KeyType.NUMBER)
    IP_SADDR = ("ip saddr", KeyType.IPV4)
    IP_DADDR = ("ip daddr", KeyType.IPV4)
    IP_FRAGMENT = ("ip frag-off", KeyType.NUMBER)  # flags and offset
    IP6_SADDR = ("ip6 saddr", KeyType.IPV6)
    IP6_DADDR = ("ip6 daddr", KeyType.IPV6)
    TH_SPORT = ("th sport", KeyType.NUMBER)
    TH_DPORT = ("th dport", KeyType.NUMBER)
    TCP_FLAGS = ("tcp flags", KeyType.NUMBER)
    IP6_HOPLIMIT = ("ip6 hoplimit", KeyType.NUMBER)
    IP6_FRAGMENT = ("exthdr frag", KeyType.NUMBER)  # 1 if the packet has a fragment header anywhere, else 0
    ICMP_TYPE = ("icmp type", KeyType.NUMBER)
    ICMPV6_TYPE = ("icmpv6 type", KeyType.NUMBER)
    CT_STATE = ("ct state", KeyType.CT_STATE)
    CT_DIRECTION = ("ct direction", KeyType.CT_DIRECTION)
    CT_MARK = ("ct mark", KeyType.MARK)
    CT_PROTOCOL = ("ct protocol", KeyType.NUMBER)  # this and the next ones are the session's, not the packet's
    CT_ORIGINAL_IP_SADDR = ("ct original ip saddr", KeyType.IPV4)
    CT_ORIGINAL_IP_DADDR = ("ct original ip daddr", KeyType.IPV4)
    CT_ORIGINAL_IP6_SADDR = ("ct original ip6 saddr", KeyType.IPV6)
    CT_ORIGINAL_IP6_DADDR = ("ct original ip6 daddr", KeyType.IPV6)
    CT_ORIGINAL_SPORT = ("ct original proto-src", KeyType.NUMBER)
    CT_ORIGINAL_DPORT = ("ct original proto-dst", KeyType.NUMBER)
    CT_REPLY_IP_SADDR = ("ct reply ip saddr", KeyType.IPV4)
    CT_REPLY_IP_DADDR = ("ct reply ip daddr", KeyType.IPV4)
    CT_REPLY_IP6_SADDR = ("ct reply ip6 saddr", KeyType.IPV6)
    CT_REPLY_IP6_DADDR = ("ct reply ip6 daddr", KeyType.IPV6)
    CT_REPLY_SPORT = ("ct reply proto-src", KeyType.NUMBER)
    CT_REPLY_DPORT = ("ct reply proto-dst", KeyType.NUMBER)
    PACKET_MARK = ("meta mark", KeyType.MARK)
    PACKET_PRIORITY = ("meta priority", KeyType.CLASSID)
    ROUTE_REALM = ("meta rtclassid", KeyType.MARK)  # a frame from a packet socket has none, as no route was asked
    # The class of the sending socket. None if there is no socket, or if it belongs to another network namespace.
    SOCKET_CLASS = ("meta cgroup", KeyType.MARK)
    ETHER_SADDR = ("ether saddr", KeyType.MAC)
    ETHER_TYPE = ("ether type", KeyType.ETHERTYPE)  # as the frame has it; its sender may choose PROTOCOL freely
    # The same two, without nft's question whether the link is an Ethernet, which costs a packet as much again. No rule
    # may compare both for equality: nft makes that one load, which doesn't see a tag that the kernel keeps beside the
    # frame (nft_payload.c: only loads that begin at the type do).
    LINK_SADDR = ("@ll,48,48", KeyType.BITS)
    LINK_TYPE = ("@ll,96,16", KeyType.BITS)
    PROTOCOL = ("meta protocol", KeyType.ETHERTYPE)
    ARP_HTYPE = ("arp htype", KeyType.NUMBER)
    ARP_PTYPE = ("arp ptype", KeyType.ETHERTYPE)
    ARP_HLEN = ("arp hlen", KeyType.NUMBER)
    ARP_PLEN = ("arp plen", KeyType.NUMBER)
    ARP_OPERATION = ("arp operation", KeyType.NUMBER)
    ARP_SENDER_MAC = ("arp saddr ether", KeyType.MAC)
    ARP_SENDER_IP = ("arp saddr ip", KeyType.IPV4)
    ARP_TARGET_IP = ("arp daddr ip", KeyType.IPV4)
    ND_TARGET = ("@th,64,128", KeyType.BITS128)  # nft 1.0.6 has no name for it


class Nfproto(enum.IntEnum):
    """The families of packets, as the kernel numbers them (NFPROTO_*)."""

    IPV4 = 2
    IPV6 = 10


class CtState(enum.IntEnum):
    """The states of a packet's session, as bits: NF_CT_STATE_BIT in nf_conntrack_common.h."""

    INVALID = 1
    ESTABLISHED = 2
    RELATED = 4
    NEW = 8
    UNTRACKED = 64


class CtDirection(enum.IntEnum):
    """The direction of a packet in its session: that of the opening packet, or the other one (IP_CT_DIR_*)."""

    ORIGINAL = 0
    REPLY = 1


# The ports of packets and of sessions. Only TCP and UDP have ports; other protocols have other bytes in their place.
PORTS = (Field.TH_SPORT, Field.TH_DPORT)
SESSION_PORTS = (
    Field.CT_ORIGINAL_SPORT,
    Field.CT_ORIGINAL_DPORT,
    Field.CT_REPLY_SPORT,
    Field.CT_REPLY_DPORT,
)


TCP_FIN, TCP_SYN, TCP_RST, TCP_ACK = 0x01, 0x02, 0x04, 0x10
NFPROTO = {Family.IPV4: Nfproto.IPV4, Family.IPV6: Nfproto.IPV6}
SOURCE = {Family.IPV4: Field.IP_SADDR, Family.IPV6: Field.IP6_SADDR}
DESTINATION = {Family.IPV4: Field.IP_DADDR, Family.IPV6: Field.IP6_DADDR}


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain stands.

    Its policy is drop. But a rule drops whatever must be dropped, since a base chain has to start with a policy that
    accepts (delta.py says why).
    """

    name: str
    """The kernel's name of the hook, such as prerouting."""
    priority: int
    """Chains with a smaller one come first."""
    device: str = ""
    """The interface, in netdev tables; else ""."""
