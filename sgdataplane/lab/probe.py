"""A probe: the two ends, the service that it asks for, and what its packets showed.

Owns these records, and how services are read from text (`tcp/22,udp/53,icmp,gre`, in the words of net/ports.py) or
chosen from a state. Must not know how packets are sent or judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sgdataplane.errors import LabError
from sgdataplane.lab import frames
from sgdataplane.model.state import CloudState
from sgdataplane.net.headers import EXTENSIONS
from sgdataplane.net.ports import FORMS, Traffic, parse_traffic
from sgdataplane.net.values import AH, ICMP, ICMPV6, TCP, UDP, Address, Family, PortRange, Protocol

ACCEPT, DROP, UNKNOWN = "accept", "drop", "unknown"
EGRESS, INGRESS = "egress", "ingress"


@dataclass(frozen=True, slots=True)
class ProbeEnd:
    """One end of a probe."""

    node: str
    ifname: str
    address: Address
    eni_id: str = ""
    """Empty on a host outside."""
    device: str = ""
    """The interface to bind to; empty if the address alone says which way to go."""

    def __str__(self) -> str:
        return f"{self.node} {self.address}"


@dataclass(frozen=True, slots=True)
class Service:
    """The service that a probe asks for."""

    protocol: int
    """The protocol's number."""
    port: int = 0
    """The destination port of TCP and UDP; 0 for all others."""

    def __str__(self) -> str:
        return str(Traffic(Protocol(self.protocol), PortRange(self.port, self.port) if self.port else None))

    @property
    def column(self) -> str:
        """The name of its column in a matrix, where the echo of each family is one service."""
        return "icmp" if self.protocol in (ICMP, ICMPV6) else str(self)


@dataclass(frozen=True, slots=True)
class Probe:
    """One exchange to try."""

    source: ProbeEnd
    target: ProbeEnd
    service: Service
    source_port: int = 0
    """The source port to send from; 0 for any free one."""

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} {self.service}"

    @property
    def family(self) -> Family:
        """The address family of both ends."""
        return self.target.address.family

    @property
    def is_tuple_reused(self) -> bool:
        """Whether neither a free port nor an identifier tells its session from another probe's in conntrack."""
        return bool(self.source_port) or self.service.protocol not in (TCP, UDP, ICMP, ICMPV6)

    @property
    def pair(self) -> tuple[int, frozenset[Address]]:
        """A key that is equal for two probes with reused tuples if they disturb each other."""
        return (self.service.protocol, frozenset((self.source.address, self.target.address)))

    def session(self) -> dict[str, Any]:
        """Return its session, as Prober.forget takes it."""
        ends = [str(self.source.address), str(self.target.address)]
        is_sctp = self.service.protocol == frames.SCTP  # it has ports, but no rule names them
        ports = [frames.SCTP_PORT] * 2 if is_sctp else [self.source_port, self.service.port]
        return {"protocol": self.service.protocol, "ends": ends, "ports": ports}

    def question(self, token: str) -> dict[str, Any]:
        """Return the fields of exchange.ProbeQuestion."""
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
        """Return the same question, put by the receiver to itself."""
        return self.question(token) | {"source": str(self.target.address), "source_port": 0, "device": ""}


@dataclass(frozen=True, slots=True)
class Observation:
    """The observed fate of a probe's packets."""

    verdict: str
    """`accept`, `drop` or `unknown`."""
    where: str = ""
    """The direction of the policy that dropped; empty unless the verdict is a drop."""
    evidence: tuple[str, ...] = ()
    """What was seen, in words."""
    source_port: int = 0
    """The port it was sent from; 0 if it has none, or wasn't sent."""


EVERY_PORT = PortRange(1, 65535)
MAX_SERVICES = 1000  # in a matrix, where each is tried between all pairs
MAX_PORTS = 12  # of those that the rules name, for a matrix without a list of services
IN_BETWEEN = EXTENSIONS | {AH}  # headers in front of the transport protocol (RFC 8200)
# conntrack refuses packets without a valid header of these, and the lab doesn't build them
UNBUILT = {33: "DCCP", 136: "UDP-Lite"}


def parse_services(text: str) -> tuple[Service, ...]:
    """Parse services such as `tcp/22,udp/53,icmp,gre`; `icmp` is an echo in each pair's family.

    Raises:
        LabError: Something is wrong; the message lists everything.
    """
    services: dict[Service, None] = {}
    problems: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            services |= dict.fromkeys(services_of(parse_traffic(part)))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise LabError(f"services {text!r}", "; ".join(problems))
    if not services:
        raise LabError(f"services {text!r}", "name at least one, e.g. tcp/22,udp/53,icmp")
    if len(services) > MAX_SERVICES:
        raise LabError(f"services {text!r}", f"these are {len(services)}; a matrix tries at most {MAX_SERVICES}")
    return tuple(services)


def services_of(asked: Traffic) -> tuple[Service, ...]:
    """Return a service for each port of a range. ValueError for what the lab can't send."""
    number = asked.protocol.number
    if asked.protocol.is_all or number in IN_BETWEEN:
        raise ValueError(f"'{asked}': a probe is of one transport protocol, e.g. {FORMS}")
    if number in UNBUILT:
        raise ValueError(f"'{asked}': the lab can't send {UNBUILT[number]}")
    if asked.ports is not None and not asked.ports.first:
        raise ValueError(f"'{asked}': the port must be 1..65535")
    if asked.ports is None:
        return (Service(number),)
    return tuple(Service(number, port) for port in range(asked.ports.first, asked.ports.last + 1))


def default_services(state: CloudState) -> tuple[Service, ...]:
    """Choose services from the state's rules, for a matrix without a list.

    These are the first port of each range, then SSH and DNS if room is left, and echo.
    """
    ranges = {
        (rule.ip_protocol.number, entry.first)
        for group in state.security_groups
        for rule in group.rules
        for entry in (rule.port_range,)
        if entry is not None and entry != EVERY_PORT
    }
    usual = [Service(TCP, 22), Service(UDP, 53)]
    named = [Service(number, port) for number, port in sorted(ranges) if number in (TCP, UDP)]
    return (*sorted(dict.fromkeys((named + usual)[:MAX_PORTS]), key=_order), Service(ICMP))


def _order(service: Service) -> tuple[int, int]:
    return service.protocol, service.port
