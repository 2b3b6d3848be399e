"""Ports and services as people write them."""

from __future__ import annotations

import re
import socket

import pytest

from sgdataplane.net.ports import Port, Traffic, parse_port, parse_traffic
from sgdataplane.net.values import GRE, ICMP, TCP, UDP, PortRange, Protocol

SERVICES = {("ssh", "tcp"): 22, ("domain", "tcp"): 53, ("domain", "udp"): 53, ("ntp", "udp"): 123}


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known /etc/services."""

    def look_up(name: str, protocol: str) -> int:
        if (name, protocol) not in SERVICES:
            raise OSError("service/proto not found")
        return SERVICES[name, protocol]

    monkeypatch.setattr(socket, "getservbyname", look_up)


def ports(protocol: int, first: int, last: int) -> Traffic:
    return Traffic(Protocol(protocol), PortRange(first, last))


@pytest.mark.parametrize(
    ("text", "traffic", "printed"),
    [
        ("tcp/22", ports(TCP, 22, 22), "tcp/22"),
        (" UDP/53 ", ports(UDP, 53, 53), "udp/53"),
        ("tcp/8000-8100", ports(TCP, 8000, 8100), "tcp/8000-8100"),
        ("tcp/ssh", ports(TCP, 22, 22), "tcp/22"),
        ("ssh", ports(TCP, 22, 22), "tcp/22"),
        ("NTP", ports(UDP, 123, 123), "udp/123"),
        ("icmp", Traffic(Protocol(ICMP)), "icmp"),
        ("proto/132", Traffic(Protocol(132)), "proto/132"),
        ("proto/47", Traffic(Protocol(GRE)), "gre"),
    ],
)
def test_what_is_read_is_printed_so_that_it_is_read_again(text: str, traffic: Traffic, printed: str) -> None:
    assert parse_traffic(text) == traffic
    assert str(traffic) == printed
    assert parse_traffic(printed) == traffic


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("22", r"could be a port (tcp/22 or udp/22) or a protocol (proto/22): write which"),
        ("8080", r"could be a port (tcp/8080 or udp/8080): write which"),
        ("70000", "is neither a port nor a protocol"),
        ("domain", "could be tcp/domain or udp/domain: write which"),
        ("tcp", "take a port"),
        ("icmp/8", "other protocols none"),
        ("tcp/", "the port must be 1..65535"),
        ("tcp/0", "the port must be 1..65535"),
        ("udp/65536", "the port must be 1..65535"),
        ("udp/-1", "the port must be 1..65535"),
        ("udp/٣", "the port must be 1..65535"),
        ("tcp/9-8", "the port must be 1..65535"),
        ("tcp/0-8", "the port must be 1..65535"),
        ("udp/ssh", "a service of /etc/services"),
        ("proto/256", "a protocol's number is 0..255"),
        ("proto/6", "is tcp, which takes a port"),
        ("proto/", "a protocol's number is 0..255"),
        ("quic", "neither a protocol nor a service"),
        ("", "neither a protocol nor a service"),
    ],
)
def test_what_is_no_traffic_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_traffic(text)


def test_a_port_is_a_number_or_a_service() -> None:
    assert [parse_port(text).number for text in ("0", "22", "ssh", "ntp", "65535")] == [0, 22, 22, 123, 65535]
    for text in ("65536", "-1", "٣", "", "quic"):
        with pytest.raises(ValueError, match=r"neither a port 0\.\.65535 nor a service"):
            parse_port(text)


def test_a_port_may_say_its_protocol() -> None:
    assert parse_port("tcp/22") == parse_port("TCP/ssh") == Port(22, Protocol(TCP))
    assert [str(parse_port(text)) for text in ("22", "udp/domain")] == ["22", "udp/53"]
    for text in ("tcp/8000-8100", "proto/132"):
        with pytest.raises(ValueError, match="is not one port"):
            parse_port(text)
    with pytest.raises(ValueError, match="other protocols none"):
        parse_port("icmp/8")


def test_a_service_of_one_protocol_tells_it() -> None:
    assert [parse_port(text).usual for text in ("ssh", "ntp", "domain", "22")] == [
        Protocol(TCP),
        Protocol(UDP),
        None,
        None,
    ]
