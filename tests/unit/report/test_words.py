"""Sets of sessions and addresses in words."""

from __future__ import annotations

import ipaddress

import pytest

from sgdataplane.analyse.passing import OTHER, Passing, PassingRow
from sgdataplane.net.ranges import Ranges, minus, unite
from sgdataplane.net.values import Family
from sgdataplane.report import words

V4, V6 = Family.IPV4, Family.IPV6
ALL_V4: Ranges = ((0, V4.last),)


def spans(text: str) -> Ranges:
    networks = [ipaddress.ip_network(word) for word in text.split()]
    return unite((int(net[0]), int(net[-1])) for net in networks)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        pytest.param(Passing(), (), id="nothing"),
        pytest.param(Passing((PassingRow(OTHER),)), ("everything",), id="everything"),
        pytest.param(Passing((PassingRow(OTHER),), (6,)), ("everything but tcp",), id="everything-but-one"),
        pytest.param(
            Passing((PassingRow(OTHER), PassingRow(6, ((22, 22),))), (6, 17)),
            ("everything but tcp, udp", "tcp 22"),
            id="everything-but-two-and-a-part-of-one",
        ),
        pytest.param(
            Passing((PassingRow(1), PassingRow(6, ((80, 80), (443, 443)))), (1, 6)),
            ("icmp", "tcp 80, 443"),
            id="some-of-two",
        ),
        pytest.param(
            Passing((PassingRow(6, ((1, 21), (23, 65535))),), (6,)), ("tcp all but 22",), id="all-ports-but-one"
        ),
        pytest.param(
            Passing((PassingRow(17, ((53, 53),), (((1, 1023),),)),), (17,)),
            ("udp 53 from source ports 1\N{EN DASH}1023",),
            id="source-ports",
        ),
        pytest.param(Passing((PassingRow(200),), (200,)), ("200",), id="a-protocol-without-name"),
    ],
)
def test_what_passes_reads_so(what: Passing, said: tuple[str, ...]) -> None:
    assert words.services(what) == said


def test_many_ports_are_cut_short() -> None:
    some = tuple((n, n) for n in range(1, 40, 2))
    assert words.ports(some) == "1, 3, 5, 7, 9, 11, 13, 15 and 12 more"


@pytest.mark.parametrize(
    ("some", "said"),
    [
        pytest.param(ALL_V4, "anyone", id="all"),
        pytest.param(minus(ALL_V4, spans("203.0.113.0/24")), "anyone but 203.0.113.0/24", id="most"),
        pytest.param(spans("192.0.2.0/25 198.51.100.7"), "192.0.2.0/25, 198.51.100.7", id="few"),
        pytest.param(
            minus(spans("192.0.2.0/25"), spans("192.0.2.66")), "192.0.2.0/25 but 192.0.2.66", id="a-block-with-a-hole"
        ),
        pytest.param(spans("192.0.2.1 192.0.2.2/31"), "192.0.2.1, 192.0.2.2/31", id="no-block"),
    ],
)
def test_addresses_read_so(some: Ranges, said: str) -> None:
    assert words.addresses(some, ALL_V4, V4) == said


def test_addresses_of_ipv6_and_of_all_but_the_vpc() -> None:
    outside = minus(((0, V6.last),), spans("2001:db8::/48"))
    assert words.addresses(outside, outside, V6) == "anyone"
    assert words.addresses(spans("2001:db8:1::/64"), outside, V6) == "2001:db8:1::/64"
    assert words.addresses(minus(outside, spans("2001:db8:1::/64")), outside, V6) == "anyone but 2001:db8:1::/64"


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "0.0.0.0/32", "255.255.255.255/32", "10.0.0.0/8", "10.0.0.1/32 10.0.0.2/31"]
)
def test_blocks_are_those_of_the_range(text: str) -> None:
    some = spans(text)
    said = words.addresses(some, ((0, V4.last),) if text != "0.0.0.0/0" else ((5, 6),), V4)
    if not said.startswith("anyone"):
        assert spans(said.replace(",", "")) == some
