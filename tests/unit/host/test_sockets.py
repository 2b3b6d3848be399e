"""Which end opened a session, as far as the namespace's sockets show; and the kernel's messages about sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import pytest

from sgdataplane.host.conntrack import SessionTuple
from sgdataplane.host.netlink import attribute
from sgdataplane.host.sockets import (
    IN_USE,
    INET_DIAG_SKV6ONLY,
    LISTEN,
    RUNNING,
    SOCKET,
    TcpSocket,
    find_sessions,
    parse_socket,
)
from sgdataplane.net.values import TCP, Address, PortRange, Prefix
from tests.support.kernel.conntrack import tuple_of

EPHEMERAL = PortRange(32768, 60999)
OWN = tuple(map(Prefix.parse, ("10.0.0.1", "10.0.9.0/24", "2001:db8::1")))


def ends(text: str) -> tuple[tuple[Address, int], tuple[Address, int]]:
    pair = tuple_of(text)
    return (pair.source, pair.source_port), (pair.target, pair.port)


def running(*texts: str) -> list[TcpSocket]:
    return [TcpSocket(RUNNING["ESTABLISHED"], *ends(text)) for text in texts]


def listening(*texts: str, only: bool = False) -> list[TcpSocket]:
    return [TcpSocket(LISTEN, *ends(f"{text} {text.partition('/')[0]}"), only) for text in texts]


def found(sockets: Iterable[TcpSocket]) -> list[SessionTuple]:
    return find_sessions(sockets, OWN, EPHEMERAL)


CLIENT, SERVER = "10.0.0.1/40000 8.8.8.8/443", "10.0.0.1/443 8.8.8.8/40000"
CLIENT6, SERVER6 = "2001:db8::1/40000 2001:db8:8::8/443", "2001:db8::1/443 2001:db8:8::8/40000"


@pytest.mark.parametrize(
    ("local", "listeners", "is_inbound"),
    [
        pytest.param(CLIENT, [], False, id="nobody listens"),
        pytest.param(CLIENT, listening("10.0.0.1/443", "0.0.0.0/40001"), False, id="somebody listens elsewhere"),
        pytest.param(CLIENT, listening("10.0.0.1/40000"), True, id="somebody listens there"),
        pytest.param(CLIENT, listening("0.0.0.0/40000"), True, id="somebody listens at all addresses"),
        pytest.param(CLIENT, listening("10.0.9.1/40000"), False, id="somebody listens at another address"),
        pytest.param(CLIENT, listening("::/40000"), True, id="at all addresses of both families"),
        pytest.param(CLIENT, listening("::/40000", only=True), False, id="at all addresses of IPv6 only"),
        pytest.param(CLIENT6, listening("::/40000", only=True), True, id="IPv6: at all of its addresses"),
        pytest.param(CLIENT6, listening("0.0.0.0/40000"), False, id="IPv6: at all of IPv4's"),
        pytest.param(CLIENT6, listening("2001:db8::1/40000"), True, id="IPv6: there"),
        pytest.param(SERVER, [], True, id="no client's port, and the other is one"),
        pytest.param(SERVER6, [], True, id="IPv6: no client's port, and the other is one"),
        pytest.param("10.0.0.1/800 8.8.8.8/2049", [], False, id="neither is a client's port"),
        pytest.param("10.0.0.1/40000 8.8.8.8/50000", [], False, id="both are"),
    ],
)
def test_who_opened_it(local: str, listeners: list[TcpSocket], is_inbound: bool) -> None:
    as_opened_here = tuple_of(local)
    assert found([*listeners, *running(local)]) == [as_opened_here.reverse if is_inbound else as_opened_here]


def test_sessions_of_other_addresses_and_within_the_namespace_are_left_out() -> None:
    within = ("10.0.0.1/40000 10.0.9.9/80", "10.0.9.9/80 10.0.0.1/40000")
    others = ("127.0.0.1/40000 127.0.0.2/80", "10.0.8.1/40000 8.8.8.8/80", "fe80::1/40000 fe80::2/80")
    assert found(running(*within, *others, CLIENT)) == [tuple_of(CLIENT)]
    assert found(running(within[0])) == [tuple_of(within[0])]  # its other end isn't here, whatever its address


def test_delegated_and_allowed_addresses_are_own_and_a_listener_is_no_session() -> None:
    sockets = [*listening("10.0.9.7/22"), *running("10.0.9.7/22 8.8.8.8/40000")]
    assert found(sockets) == [tuple_of("8.8.8.8/40000 10.0.9.7/22")]


def test_nothing_runs() -> None:
    assert found(listening("0.0.0.0/22", "::/22")) == []


def message(family: int, state: int, local: str, remote: str, attributes: bytes = b"") -> bytes:
    packed = (socket.inet_pton(family, text.partition("/")[0]) for text in (local, remote))
    ports = (int(text.partition("/")[2]) for text in (local, remote))
    return SOCKET.pack(family, state, *ports, *packed) + attributes


@pytest.mark.parametrize(
    ("family", "local", "remote"),
    [
        pytest.param(socket.AF_INET, "10.0.0.1/40000", "8.8.8.8/443", id="IPv4"),
        pytest.param(socket.AF_INET6, "2001:db8::1/40000", "2001:db8::2/443", id="IPv6"),
        pytest.param(socket.AF_INET6, "::ffff:10.0.0.1/40000", "::ffff:8.8.8.8/443", id="IPv4 through IPv6"),
    ],
)
def test_a_message_about_a_session(family: int, local: str, remote: str) -> None:
    wanted = tuple_of(f"{local} {remote}".replace("::ffff:", ""))
    read = parse_socket(message(family, RUNNING["CLOSE_WAIT"], local, remote))
    assert (read.state, SessionTuple(TCP, read.local[0], read.remote[0], read.local[1], read.remote[1])) == (8, wanted)


@pytest.mark.parametrize(
    ("attributes", "is_v6only"),
    [
        (attribute(INET_DIAG_SKV6ONLY, b"\1"), True),
        (attribute(8, b"\1") + attribute(INET_DIAG_SKV6ONLY, b"\0"), False),
        (b"", False),
    ],
)
def test_a_message_about_a_listener(attributes: bytes, is_v6only: bool) -> None:
    read = parse_socket(message(socket.AF_INET6, LISTEN, "::/22", "::/0", attributes))
    assert (read.state, read.local, read.is_v6only) == (LISTEN, (Address(128, 0), 22), is_v6only)


@pytest.mark.parametrize(
    ("text", "is_in_use"),
    [
        pytest.param("TCP: inuse 0 orphan 3 tw 0 alloc 435 mem 116\n", False, id="the-machine's-are-others'"),
        pytest.param("UDP: inuse 4 mem 360\n", False, id="other-protocols"),
        pytest.param("sockets: used 9\nTCP: inuse 12 orphan 0 tw 0 alloc 435 mem 116\n", True, id="ipv4"),
        pytest.param("TCP6: inuse 1\n", True, id="ipv6"),
        pytest.param("TCP: inuse 0 orphan 0 tw 2 alloc 435 mem 116\n", True, id="closed-by-one-end"),
    ],
)
def test_a_namespace_without_tcp_is_known_by_its_counts(text: str, is_in_use: bool) -> None:
    assert bool(IN_USE.search(text)) == is_in_use
