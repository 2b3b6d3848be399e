"""Parsing and normal form of the small values."""

from __future__ import annotations

import pytest

from sgdataplane.net.values import ALL, Address, Family, PortRange, Prefix, Protocol


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("10.0.0.5/8", "10.0.0.0/8"),
        ("10.0.0.5", "10.0.0.5/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::5/64", "2001:db8::/64"),
        ("::/0", "::/0"),
        ("255.255.255.255/32", "255.255.255.255/32"),
    ],
)
def test_prefix_is_masked(text: str, normal: str) -> None:
    assert str(Prefix.parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/", "a/8", "010.0.0.1", "fe80::1%eth0", "1/2/3"],
)
def test_malformed_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Prefix.parse(text)


def test_strict_prefix_refuses_host_bits() -> None:
    assert Prefix.parse("10.0.0.0/8", strict=True).last == Address.parse("10.255.255.255").value
    with pytest.raises(ValueError, match="host bits"):
        Prefix.parse("10.0.0.1/8", strict=True)


@pytest.mark.parametrize(
    ("address", "prefix", "inside"),
    [
        ("10.1.0.0", "10.1.0.0/16", True),
        ("10.1.255.255", "10.1.0.0/16", True),
        ("10.2.0.0", "10.1.0.0/16", False),
        ("::a01:1", "10.1.0.0/16", False),
    ],
)
def test_membership_never_crosses_families(address: str, prefix: str, inside: bool) -> None:
    assert (Address.parse(address) in Prefix.parse(prefix)) is inside


@pytest.mark.parametrize("text", ["0/1", "2/1", "1/65536", "-1/-1", "80", "80-90", " 80/80", "80/80\n", "\uff11/2"])
def test_malformed_ports_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PortRange.parse(text)


@pytest.mark.parametrize(
    ("text", "number"), [("TCP", 6), ("Icmp", 1), ("icmpv6", 58), ("GRE", 47), ("0", 0), ("255", 255), ("All", -1)]
)
def test_protocol_names_and_numbers(text: str, number: int) -> None:
    assert Protocol.parse(text).number == number


@pytest.mark.parametrize("text", ["256", "-1", "sctp", "", "6.0", "tcp udp", "²"])
def test_unknown_protocol_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not tcp"):
        Protocol.parse(text)


def test_icmp_is_of_one_family() -> None:
    icmp, icmpv6 = Protocol.parse("icmp"), Protocol.parse("icmpv6")
    assert [icmp.exists_in(family) for family in Family] == [True, False]
    assert [icmpv6.exists_in(family) for family in Family] == [False, True]
    assert all(ALL.exists_in(family) for family in Family)
