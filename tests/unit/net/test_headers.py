"""Where headers are: in IPv4, and in packets that are cut short or lie. Chains: tests/property/test_headers.py."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from sgdataplane.net.headers import Fragment, Upper, ends_of, family_of, find_upper
from sgdataplane.net.values import Family

FOUR, SIX = {"src": "192.0.2.1", "dst": "192.0.2.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        pytest.param(IP(**FOUR) / UDP(), Upper(17, 20), id="udp"),
        pytest.param(IP(**FOUR, options=[IPOption_NOP()] * 8) / UDP(), Upper(17, 28), id="options"),
        pytest.param(IP(**FOUR, flags="DF") / UDP(), Upper(17, 20), id="not to be cut"),
        pytest.param(
            IP(**FOUR, id=7, flags="MF") / UDP(), Upper(17, 20, (Fragment(7, 0, False, 20),)), id="first piece"
        ),
        pytest.param(
            IP(**FOUR, id=7, frag=4, proto=17) / Raw(bytes(8)),
            Upper(17, 20, (Fragment(7, 32, True, 20),)),
            id="last piece",
        ),
        pytest.param(IPv6(**SIX) / IPv6ExtHdrDestOpt() / UDP(), Upper(17, 48), id="options of IPv6"),
        pytest.param(
            IPv6(**SIX) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=7, offset=4, nh=60) / Raw(bytes(16)),
            Upper(60, 56, (Fragment(7, 32, True, 56, 40),)),
            id="the octets of a later piece are no headers",
        ),
    ],
)
def test_what_follows_ip(packet: Packet, wanted: Upper) -> None:
    data = bytes(packet)
    assert find_upper(data) == wanted
    ends = FOUR if family_of(data) is Family.IPV4 else SIX
    assert tuple(map(str, ends_of(data))) == (ends["src"], ends["dst"])


def test_a_packet_has_a_family_if_its_own_header_is_whole() -> None:
    four, six = bytes(IP(**FOUR, options=[IPOption_NOP()] * 4)), bytes(IPv6(**SIX))
    assert [family_of(four[:size]) for size in (0, 1, 23, 24)] == [None, None, None, Family.IPV4]
    assert [family_of(six[:size]) for size in (0, 39, 40)] == [None, None, Family.IPV6]
    assert [family_of(bytes([first]) + four[1:]) for first in (0x44, 0x50, 0x64)] == [None, None, None]


def test_a_chain_that_is_cut_ends_at_the_header_that_is_not_whole() -> None:
    data = bytes(IPv6(**SIX) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / UDP())
    ends = (
        {find_upper(data[:size]).protocol for size in range(40, 48)},
        {find_upper(data[:size]).protocol for size in range(48, 56)},
    )
    assert ends == ({60}, {44})
    longer = data[:41] + b"\xff" + data[42:]  # claims to be longer than the packet
    assert (find_upper(longer).protocol, find_upper(longer).at) == (44, 40 + 8 * 256)
