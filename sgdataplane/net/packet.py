"""A packet as a policy sees it: at which ENI, in which direction, and who is at the other end.

Owns Packet, and IcmpError. Is given plain values. Must not know scapy, rules or nftables.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Address, Direction, Family


@dataclass(frozen=True, slots=True)
class Packet:
    """The opening packet of a would-be session at one ENI.

    `remote` is the other end's address and `local` the ENI's side, as in the IP header; `protocol` is the
    transport's IANA number after IPv6 extension headers; `port` and `source_port` are the header's destination
    and source port, 0..65535, and None for protocols other than TCP and UDP. `icmp_type` is None when unknown
    or not ICMP. `hop_limit` is the header's (in IPv4 its time to live). `is_syn`: a TCP packet is a bare SYN; for other
    protocols it stays True.
    """

    eni_id: str
    direction: Direction
    remote: Address
    local: Address
    protocol: int
    port: int | None = None
    source_port: int | None = None
    icmp_type: int | None = None
    hop_limit: int = 64
    is_syn: bool = True

    @property
    def family(self) -> Family:
        return self.remote.family


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error at one ENI, which quotes a packet of a session.

    `direction`, `remote` and `local` are the error's own, as in its IP header. `session` is the opening packet of the
    session, as the policy of this ENI sees it.
    """

    direction: Direction
    remote: Address
    local: Address
    session: Packet

    @property
    def quoted_target(self) -> Address:
        """The address that the quoted packet was sent to. That packet went the other way than the error."""
        return self.session.local if self.direction is Direction.EGRESS else self.session.remote
