"""Messages of ctnetlink become sessions: both families, every kind of transport, states and counters."""

from __future__ import annotations

import pytest

from sgdataplane.host.conntrack import (
    ASSURED,
    CTA_COUNTERS_BYTES,
    CTA_COUNTERS_ORIG,
    CTA_COUNTERS_PACKETS,
    CTA_COUNTERS_REPLY,
    CTA_STATUS,
    CTA_TIMEOUT,
    OFFLOAD,
    SEEN_REPLY,
    Accounting,
    SessionTuple,
    parse_tracked,
)
from sgdataplane.host.netlink import attribute, nest, parse_attributes
from sgdataplane.net.values import GRE, ICMP, ICMPV6, TCP, UDP, Address, Family
from tests.support.kernel.conntrack import message, tuple_of

V4, V6 = "198.51.100.7/40000 10.0.0.1/22", "2001:db8::7/40000 2001:db8:a::1/22"


@pytest.mark.parametrize(("family", "text"), [(Family.IPV4, V4), (Family.IPV6, V6)], ids=["IPv4", "IPv6"])
def test_a_tcp_session_is_read_with_both_tuples(family: Family, text: str) -> None:
    opened = tuple_of(text)
    found = parse_tracked(family, parse_attributes(message(opened, mark=0x00410000, tcp_state=7)))
    assert (found.original, found.reply) == (opened, opened.reverse)
    assert (found.state, found.seconds_left, found.mark) == ("TIME_WAIT", 900, 0x00410000)
    assert (found.icmp_type, found.sent, found.answered) == (None, None, None)


def test_a_translated_session_keeps_the_reply_that_the_kernel_expects() -> None:
    opened, answer = tuple_of("198.51.100.7/40000 10.0.0.1/8080"), tuple_of("172.17.0.2/80 198.51.100.7/40000")
    found = parse_tracked(Family.IPV4, parse_attributes(message(opened, reply=answer)))
    assert (found.original, found.reply) == (opened, answer)


def test_counters_are_read_where_the_kernel_counts() -> None:
    counted = b"".join(
        nest(
            way,
            [
                attribute(CTA_COUNTERS_PACKETS, packets.to_bytes(8, "big")),
                attribute(CTA_COUNTERS_BYTES, (1 << 33).to_bytes(8, "big")),
            ],
        )
        for way, packets in ((CTA_COUNTERS_ORIG, 3), (CTA_COUNTERS_REPLY, 2))
    )
    found = parse_tracked(Family.IPV4, parse_attributes(message(tuple_of(V4)) + counted))
    assert (found.sent, found.answered) == (Accounting(3, 1 << 33), Accounting(2, 1 << 33))


def test_a_session_that_a_flowtable_carries_has_no_timeout_to_tell() -> None:
    entry = parse_attributes(message(tuple_of(V4)))
    assert not parse_tracked(Family.IPV4, entry).is_carried
    del entry[CTA_TIMEOUT]
    found = parse_tracked(Family.IPV4, {**entry, CTA_STATUS: (OFFLOAD | ASSURED).to_bytes(4, "big")})
    assert (found.is_carried, found.seconds_left) == (True, 0)


@pytest.mark.parametrize(
    ("status", "state"),
    [(0, "UNREPLIED"), (SEEN_REPLY, "REPLIED"), (SEEN_REPLY | ASSURED, "ASSURED")],
)
def test_a_protocol_without_states_says_how_much_was_seen(status: int, state: str) -> None:
    entry = parse_attributes(message(tuple_of(V4, UDP), tcp_state=None))
    assert parse_tracked(Family.IPV4, entry | {CTA_STATUS: (status | 8).to_bytes(4, "big")}).state == state


@pytest.mark.parametrize(
    ("family", "protocol", "kind"),
    [(Family.IPV4, ICMP, 8), (Family.IPV4, ICMP, 0), (Family.IPV6, ICMPV6, 128)],
    ids=["echo", "type 0", "IPv6 echo"],
)
def test_icmp_has_a_type_and_no_ports(family: Family, protocol: int, kind: int) -> None:
    ends = tuple_of(
        " ".join(text.partition("/")[0] for text in (V4 if family is Family.IPV4 else V6).split()), protocol
    )
    found = parse_tracked(family, parse_attributes(message(ends, tcp_state=None, icmp_type=kind)))
    assert (found.original, found.icmp_type) == (ends, kind)


def test_keys_of_gre_are_no_ports() -> None:
    ends = SessionTuple(GRE, Address.parse("10.0.0.1"), Address.parse("10.0.0.2"), 7, 9)
    found = parse_tracked(Family.IPV4, parse_attributes(message(ends, tcp_state=None)))
    assert (found.original.source_port, found.original.port) == (0, 0)


def test_an_unknown_tcp_state_is_shown_by_its_number() -> None:
    assert parse_tracked(Family.IPV4, parse_attributes(message(tuple_of(V4, TCP), tcp_state=77))).state == "77"
