"""A packet as a policy sees it: at which ENI, in which direction, and who is at the other end.

Owns Packet, and IcmpError. Is given plain values. Must not know scapy, rules or nftables.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Address, Direction, Family


@dataclass(frozen=True, slots=True)
class Packet:
    """The opening packet of a would-be session at one ENI."""

    eni_id: str
    direction: Direction
    remote: Address
    """The address of the other end, as the IP header has it."""
    local: Address
    """The address on the ENI's side, as the IP header has it."""
    protocol: int
    """The transport's IANA number, after IPv6 extension headers."""
    port: int | None = None
    """The header's destination port, 0..65535; None for protocols other than TCP and UDP."""
    source_port: int | None = None
    """The header's source port, 0..65535; None for protocols other than TCP and UDP."""
    icmp_type: int | None = None
    """None if it is unknown, or if the packet isn't ICMP."""
    hop_limit: int = 64
    """The header's hop limit (in IPv4, its time to live)."""
    is_syn: bool = True
    """Whether a TCP packet is a bare SYN; it stays True for other protocols."""

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return self.remote.family


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error at one ENI, which quotes a packet of a session.

    `direction`, `remote` and `local` are the error's own, as in its IP header.
    """

    direction: Direction
    remote: Address
    local: Address
    session: Packet
    """The opening packet of the session, as the policy of this ENI sees it."""

    @property
    def quoted_target(self) -> Address:
        """The address that the quoted packet was sent to. That packet went the other way than the error."""
        return self.session.local if self.direction is Direction.EGRESS else self.session.remote
