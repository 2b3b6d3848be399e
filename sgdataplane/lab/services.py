"""What probes ask for: from text (`tcp/22,udp/53,icmp,gre`, in the words of net/ports.py), or from a state.

Owns what the lab can send, and what is asked for where nothing is said. Must not do I/O.
"""

from __future__ import annotations

from sgdataplane.errors import LabError
from sgdataplane.lab.probe import Service
from sgdataplane.model.state import CloudState
from sgdataplane.net.headers import EXTENSIONS
from sgdataplane.net.ports import FORMS, Traffic, parse_traffic
from sgdataplane.net.values import AH, ICMP, TCP, UDP, PortRange

EVERY_PORT = PortRange(1, 65535)
MOST_SERVICES = 1000  # of a matrix: each is tried between all pairs
MOST_PORTS = 12  # of those that the rules name, for a matrix that wasn't told which
IN_BETWEEN = EXTENSIONS | {AH}  # not the protocol of a packet but of what comes before it (RFC 8200)
# conntrack reads their headers and refuses what isn't one; the lab doesn't build them
UNBUILT = {33: "DCCP", 136: "UDP-Lite"}


def parse_services(text: str) -> tuple[Service, ...]:
    """Services from e.g. `tcp/22,udp/53,icmp,gre`; `icmp` is an echo of each pair's family. LabError if malformed, with
    all that is wrong."""
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
    if len(services) > MOST_SERVICES:
        raise LabError(f"services {text!r}", f"these are {len(services)}; a matrix tries at most {MOST_SERVICES}")
    return tuple(services)


def parse_service(text: str) -> Service:
    """One of them, of one port. LabError if malformed."""
    try:
        first, *others = services_of(parse_traffic(text))
    except ValueError as error:
        raise LabError(f"service {text!r}", str(error)) from error
    if others:
        raise LabError(f"service {text!r}", "a probe is of one port")
    return first


def services_of(asked: Traffic) -> tuple[Service, ...]:
    """One for each port of a range. ValueError for what the lab can't send."""
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
