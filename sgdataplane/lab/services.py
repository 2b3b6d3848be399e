"""What probes ask for, as text: `tcp/22,udp/53,icmp,gre`.

Owns this small grammar, and what is asked for where nothing is said. Must not do I/O.
"""

from __future__ import annotations

import re

from sgdataplane.errors import LabError
from sgdataplane.lab.probe import Service
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import ICMP, TCP, UDP, PortRange, Protocol

EVERY_PORT = PortRange(1, 65535)
MOST_PORTS = 12  # of those that the rules name, for a matrix that wasn't told which
EXTENSION_HEADERS = (0, 43, 44, 51, 60)  # not the protocol of a packet but of what comes before it (RFC 8200)
# conntrack reads their headers and refuses what isn't one; the lab doesn't build them
UNBUILT = {33: "DCCP", 136: "UDP-Lite"}


def parse_services(text: str) -> tuple[Service, ...]:
    """Services from e.g. `tcp/22,udp/53,icmp,gre`; `icmp` is an echo of each pair's family. LabError if malformed."""
    services = tuple(dict.fromkeys(parse_service(part.strip()) for part in text.split(",") if part.strip()))
    if not services:
        raise LabError(f"services {text!r}", "name at least one, e.g. tcp/22,udp/53,icmp")
    return services


def parse_service(text: str) -> Service:
    """One of them."""
    name, slash, port = text.partition("/")
    try:
        protocol = Protocol.parse(name)
    except ValueError as error:
        raise LabError(f"service {text!r}", str(error)) from error
    if protocol.is_all or protocol.number in EXTENSION_HEADERS:
        raise LabError(f"service {text!r}", "a probe is of one transport protocol, e.g. tcp/22, udp/53, icmp, gre, 132")
    if protocol.number in UNBUILT:
        raise LabError(f"service {text!r}", f"the lab can't send {UNBUILT[protocol.number]}")
    if protocol.has_ports != bool(slash):
        raise LabError(f"service {text!r}", "tcp and udp take a port (tcp/22), other protocols none")
    return Service(protocol.number, parse_port(port, text) if slash else 0)


def parse_port(port: str, text: str) -> int:
    """A port that can be listened on."""
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise LabError(f"service {text!r}", "the port must be 1..65535")
    return int(port)


def default_services(state: CloudState) -> tuple[Service, ...]:
    """What the state's rules speak of: the first port of each range, echo, and SSH and DNS if room is left."""
    ranges = {
        (rule.ip_protocol.number, entry.first)
        for group in state.security_groups
        for rule in group.rules
        for entry in (rule.port_range,)
        if entry is not None and entry != EVERY_PORT
    }
    usual = [Service(TCP, 22), Service(UDP, 53)]
    named = [Service(number, port) for number, port in sorted(ranges) if number in (TCP, UDP)]
    return (*sorted(dict.fromkeys((named + usual)[:MOST_PORTS]), key=_order), Service(ICMP))


def _order(service: Service) -> tuple[int, int]:
    return service.protocol, service.port
