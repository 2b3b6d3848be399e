"""A policy packet as the fields that the kernel would read at a hook: the bridge from decide() to the interpreter."""

from __future__ import annotations

from sgdataplane.contract.fields import TCP_ACK, TCP_SYN, CtDirection, CtState, Field, Nfproto
from sgdataplane.model.options import Placement
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, ICMPV6, TCP, Direction, Family
from sgdataplane.nft.ir import Key

# Written here once more on purpose: a field swapped in the compiler must not be swapped here too.
SOURCE = {Family.IPV4: Field.IP_SADDR, Family.IPV6: Field.IP6_SADDR}
DESTINATION = {Family.IPV4: Field.IP_DADDR, Family.IPV6: Field.IP6_DADDR}
INTERFACE = {
    (Placement.INSTANCE, Direction.INGRESS): Field.IIFNAME,
    (Placement.INSTANCE, Direction.EGRESS): Field.OIFNAME,
    (Placement.HOST, Direction.INGRESS): Field.OIFNAME,
    (Placement.HOST, Direction.EGRESS): Field.IIFNAME,
}
NFPROTO = {Family.IPV4: Nfproto.IPV4, Family.IPV6: Nfproto.IPV6}
UNTRACKED_TYPES = (130, 131, 132, 133, 134, 135, 136, 137, 143)  # nf_conntrack_proto_icmpv6.c leaves these untracked


def opening(packet: Packet, ifname: str, placement: Placement = Placement.INSTANCE) -> dict[Field, Key]:
    """The packet as the first of its session, at the hook of its direction."""
    return {INTERFACE[placement, packet.direction]: ifname, **_fields(packet, packet.direction, is_reply=False)}


def reply(packet: Packet, ifname: str, mark: int, placement: Placement = Placement.INSTANCE) -> dict[Field, Key]:
    """The answer to the packet, at the other hook, when its session's entry carries `mark`."""
    hook = packet.direction.other
    fields = {INTERFACE[placement, hook]: ifname, **_fields(packet, hook, is_reply=True)}
    return {**fields, Field.CT_MARK: mark} if Field.CT_MARK in fields else fields


def _fields(packet: Packet, hook: Direction, *, is_reply: bool) -> dict[Field, Key]:
    far, near = (SOURCE, DESTINATION) if hook is Direction.INGRESS else (DESTINATION, SOURCE)
    fields: dict[Field, Key] = {
        Field.NFPROTO: NFPROTO[packet.family],
        far[packet.family]: packet.remote.value,
        near[packet.family]: packet.local.value,
        Field.L4PROTO: packet.protocol,
        Field.CT_STATE: CtState.ESTABLISHED if is_reply else CtState.NEW,
        Field.CT_DIRECTION: CtDirection.REPLY if is_reply else CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }
    if packet.port is not None and packet.source_port is not None:
        ports = (packet.source_port, packet.port)
        fields[Field.TH_SPORT], fields[Field.TH_DPORT] = reversed(ports) if is_reply else ports
    if packet.protocol == TCP:
        fields[Field.TCP_FLAGS] = TCP_SYN if packet.is_syn and not is_reply else TCP_ACK
    if packet.family is Family.IPV6:
        fields[Field.IP6_HOPLIMIT] = packet.hop_limit
    if packet.protocol == ICMP and packet.family is Family.IPV4 and packet.icmp_type is not None:
        fields[Field.ICMP_TYPE] = packet.icmp_type
    if packet.protocol == ICMPV6 and packet.family is Family.IPV6 and packet.icmp_type is not None:
        fields[Field.ICMPV6_TYPE] = packet.icmp_type
        if packet.icmp_type in UNTRACKED_TYPES:
            fields |= {Field.CT_STATE: CtState.UNTRACKED}
            del fields[Field.CT_DIRECTION], fields[Field.CT_MARK]
    return fields
