"""Ports and traffic as people write them: `22`, `ssh`, `tcp/22`; `tcp/ssh`, `tcp/8000-8100`, `icmp`, `proto/132`.

Owns this grammar and its printing. Is given text. Must not know who asks, nor what can be sent.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import NoReturn

from sgdataplane.net.values import TCP, UDP, PortRange, Protocol

NUMBER = re.compile(r"[0-9]{1,5}")
SERVICE_NAME = re.compile(r"(?=.*[a-z])[a-z0-9][a-z0-9+._-]{0,63}", re.IGNORECASE)
FORMS = "tcp/22, udp/53, tcp/8000-8100, tcp/ssh, icmp or proto/132"
EPHEMERAL = 49152  # the first of IANA's dynamic ports (RFC 6335), from which a client would send
OF_PORTS = {"tcp": TCP, "udp": UDP}


@dataclass(frozen=True, slots=True)
class Traffic:
    """A protocol, with the destination ports of TCP and UDP."""

    protocol: Protocol
    ports: PortRange | None = None

    def __str__(self) -> str:
        if self.ports is None:
            name = str(self.protocol)
            return f"proto/{name}" if name.isdigit() else name
        first, last = self.ports.first, self.ports.last
        return f"{self.protocol}/{first}" if first == last else f"{self.protocol}/{first}-{last}"


@dataclass(frozen=True, slots=True)
class Port:
    """A packet's port."""

    number: int
    protocol: Protocol | None = None
    """Its protocol, if that was named (tcp/22)."""
    usual: Protocol | None = None
    """The only protocol of a service that was named (ssh)."""

    def __str__(self) -> str:
        return str(self.number) if self.protocol is None else f"{self.protocol}/{self.number}"


def parse_port(text: str) -> Port:
    """Return a port given by number (0..65535; rules have 1..65535), by service, or as tcp/22.

    Raises:
        ValueError: the text is none of these.
    """
    if "/" in text:
        return _port_of(parse_traffic(text))
    if NUMBER.fullmatch(text) and int(text) <= 0xFFFF:
        return Port(int(text))
    found = {protocol: port for protocol in OF_PORTS if (port := _of_service(text, protocol)) is not None}
    if not found:
        raise ValueError(f"{text!r} is neither a port 0..65535 nor a service of /etc/services, nor of the form tcp/22")
    protocol, number = next(iter(found.items()))
    return Port(number, usual=Protocol(OF_PORTS[protocol]) if len(found) == 1 else None)


def _port_of(traffic: Traffic) -> Port:
    """Return the port of traffic that has just one; ValueError otherwise."""
    ports = traffic.ports
    if ports is None or ports.first != ports.last:
        raise ValueError(f"'{traffic}' is not one port, such as 22, ssh or tcp/22")
    return Port(ports.first, traffic.protocol)


def parse_traffic(text: str) -> Traffic:
    """Return traffic given in one of FORMS.

    Raises:
        ValueError: the text is none of these. A bare number is refused, too, because it could be a port or a protocol.
    """
    name, slash, what = text.strip().partition("/")
    name = name.lower()
    if not slash:
        return _parse_name(name)
    if name == "proto":
        return _parse_number(what)
    if name not in OF_PORTS:
        raise ValueError(f"{text!r}: tcp and udp take a port (tcp/22), other protocols none (icmp, proto/132)")
    return Traffic(Protocol(OF_PORTS[name]), _ports(name, what))


def _parse_name(name: str) -> Traffic:
    if NUMBER.fullmatch(name):
        refuse_bare(name)
    if name in OF_PORTS:
        raise ValueError(f"{name!r}: tcp and udp take a port, e.g. {name}/22")
    try:
        return Traffic(Protocol.parse(name))
    except ValueError:
        return _of_name(name)


def refuse_bare(number: str) -> NoReturn:
    """Raise a ValueError that names what a bare number could mean."""
    port = f"a port (tcp/{number} or udp/{number})" if int(number) <= 0xFFFF else ""
    protocol = f"a protocol (proto/{number})" if int(number) <= 0xFF else ""
    could = " or ".join(filter(None, (port, protocol)))
    if not could:
        raise ValueError(f"{number!r} is neither a port nor a protocol; write {FORMS}")
    raise ValueError(f"{number!r} alone could be {could}: write which")


def _of_name(name: str) -> Traffic:
    """Return the traffic of a service, with its own protocol.

    ValueError if the service has both TCP and UDP, as either could be meant.
    """
    found = {protocol: port for protocol in OF_PORTS if (port := _of_service(name, protocol)) is not None}
    if len(found) > 1:
        raise ValueError(
            f"{name!r} alone could be {' or '.join(f'{protocol}/{name}' for protocol in found)}: write which"
        )
    for protocol, port in found.items():
        return Traffic(Protocol(OF_PORTS[protocol]), PortRange(port, port))
    raise ValueError(f"{name!r} is neither a protocol nor a service of /etc/services; write {FORMS}")


def _parse_number(text: str) -> Traffic:
    if not NUMBER.fullmatch(text) or int(text) > 0xFF:
        raise ValueError(f"'proto/{text}': a protocol's number is 0..255")
    protocol = Protocol(int(text))
    if protocol.has_ports:
        raise ValueError(f"'proto/{text}' is {protocol}, which takes a port, e.g. {protocol}/22")
    return Traffic(protocol)


def _ports(protocol: str, text: str) -> PortRange:
    first, dash, last = text.partition("-")
    if dash and NUMBER.fullmatch(first) and NUMBER.fullmatch(last) and 1 <= int(first) <= int(last) <= 0xFFFF:
        return PortRange(int(first), int(last))
    port = int(text) if NUMBER.fullmatch(text) else _of_service(text, protocol)
    if port is None or not 1 <= port <= 0xFFFF:
        expected = "the port must be 1..65535, a range of these (8000-8100) or a service of /etc/services"
        raise ValueError(f"'{protocol}/{text}': {expected}")
    return PortRange(port, port)


def _of_service(name: str, protocol: str) -> int | None:
    if not SERVICE_NAME.fullmatch(name):
        return None
    try:
        return socket.getservbyname(name.lower(), protocol)
    except OSError:
        return None
