"""One probe, and what its packets showed.

Owns these records. Must not know how packets are sent or judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sgdataplane.lab import frames
from sgdataplane.net.ports import Traffic
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Family, PortRange, Protocol

ACCEPT, DROP, UNKNOWN = "accept", "drop", "unknown"
EGRESS, INGRESS = "egress", "ingress"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a probe: an address of a node's interface. `eni_id` is empty outside. `device`: bind to it."""

    node: str
    ifname: str
    address: Address
    eni_id: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked for: a protocol number, and the destination port of TCP and UDP (0 for all others)."""

    protocol: int
    port: int = 0

    def __str__(self) -> str:
        return str(Traffic(Protocol(self.protocol), PortRange(self.port, self.port) if self.port else None))


@dataclass(frozen=True, slots=True)
class Probe:
    """One exchange to try. `source_port` 0: any free one."""

    source: End
    target: End
    service: Service
    source_port: int = 0

    @property
    def family(self) -> Family:
        return self.target.address.family

    @property
    def is_tuple_reused(self) -> bool:
        """Whether another probe's session may look the same to conntrack: no free port or identifier is in it."""
        return bool(self.source_port) or self.service.protocol not in (TCP, UDP, ICMP, ICMPV6)

    @property
    def pair(self) -> tuple[int, frozenset[Address]]:
        """What probes must share to disturb each other when their tuples are reused."""
        return (self.service.protocol, frozenset((self.source.address, self.target.address)))

    def session(self) -> dict[str, Any]:
        """Its session, as agents take it (Agent.forget)."""
        ends = [str(self.source.address), str(self.target.address)]
        is_sctp = self.service.protocol == frames.SCTP  # which has ports, but no rule names them
        ports = [frames.SCTP_PORT] * 2 if is_sctp else [self.source_port, self.service.port]
        return {"protocol": self.service.protocol, "ends": ends, "ports": ports}

    def question(self, token: str) -> dict[str, Any]:
        """As an agent takes it (exchange.Question)."""
        return {
            "protocol": self.service.protocol,
            "source": str(self.source.address),
            "target": str(self.target.address),
            "token": token,
            "port": self.service.port,
            "source_port": self.source_port,
            "device": self.source.device,
        }

    def self_question(self, token: str) -> dict[str, Any]:
        """The same put by the receiver to itself."""
        return self.question(token) | {"source": str(self.target.address), "source_port": 0, "device": ""}


@dataclass(frozen=True, slots=True)
class Observation:
    """What packets showed: accept, drop (and where) or unknown, with the evidence in words. `source_port` as sent."""

    verdict: str
    where: str = ""
    evidence: tuple[str, ...] = ()
    source_port: int = 0
