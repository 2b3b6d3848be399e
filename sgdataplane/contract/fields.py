"""What a rule can look at, and the hooks where it looks.

Owns the fields, the kind of value that each holds, and the kernel's numbers for states, directions and flags. Must not
know how a field is read from a packet, or what rules ask for.
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
    IP6_FRAGMENT = ("ip6_fragment", KeyType.NUMBER)  # 1 if the packet has a fragment header anywhere, else 0
    ICMP_TYPE = ("icmp_type", KeyType.NUMBER)
    ICMPV6_TYPE = ("icmpv6_type", KeyType.NUMBER)
    CT_STATE = ("ct_state", KeyType.CT_STATE)
    CT_DIRECTION = ("ct_direction", KeyType.CT_DIRECTION)
    CT_MARK = ("ct_mark", KeyType.MARK)
    CT_PROTOCOL = ("ct_protocol", KeyType.NUMBER)  # this and the next ones are the session's, whoever sent the packet
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
    ROUTE_REALM = ("route_realm", KeyType.MARK)  # a frame from a packet socket has none, as no route was asked
    ETHER_SADDR = ("ether_saddr", KeyType.MAC)
    ETHER_TYPE = ("ether_type", KeyType.ETHERTYPE)  # as in the frame, whose sender may choose PROTOCOL freely
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
    """Where a base chain stands. Its policy is drop. But a rule drops whatever must be dropped, since a base chain has
    to start with a policy that accepts (delta.py says why). `device`: the interface, in netdev tables."""

    name: str
    priority: int
    device: str = ""
