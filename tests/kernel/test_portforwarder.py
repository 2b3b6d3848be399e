"""The port behind which a lab's APIs answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sgdataplane.errors import EndpointError
from sgdataplane.host import netns
from sgdataplane.lab.hosts.portforwarder import forward_port
from sgdataplane.lab.hosts.sandbox import Sandbox

pytestmark = pytest.mark.kernel
HERE = "127.0.0.1"
LARGE = 1 << 20


@pytest.fixture
def inside() -> Iterator[str]:
    """A namespace with a loopback of its own."""
    with Sandbox() as sandbox:
        yield sandbox.namespace.netns


@contextmanager
def echoing(namespace: str) -> Iterator[int]:
    """A server in there that says everything back, until the client says no more; its port."""
    with netns.inside(namespace):
        listener = socket.create_server((HERE, 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                while data := client.recv(1 << 16):
                    client.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def said(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # whoever listens may be gone
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def asked(port: int, data: bytes) -> bytes:
    with socket.create_connection((HERE, port), timeout=20) as client:
        threading.Thread(target=said, args=(client, data), daemon=True).start()
        found = b""
        while part := client.recv(1 << 16):
            found += part
        return found


def test_bytes_pass_both_ways_and_the_end_does_too(inside: str) -> None:
    with echoing(inside) as port, forward_port(HERE, 0, inside, [(HERE, port)]) as door:
        assert asked(door, b"hello") == b"hello"
        assert asked(door, b"x" * LARGE) == b"x" * LARGE


def test_the_next_target_is_tried_and_without_any_the_connection_ends(inside: str) -> None:
    with echoing(inside) as port:
        with forward_port(HERE, 0, inside, [(HERE, 1), (HERE, port)]) as door:
            assert [asked(door, b"hello") for _ in range(3)] == [b"hello"] * 3
        with forward_port(HERE, 0, inside, [(HERE, 1)]) as door:
            assert asked(door, b"") == b""


def test_it_closes_with_the_block(inside: str) -> None:
    with echoing(inside) as port, forward_port(HERE, 0, inside, [(HERE, port)]) as door:
        client = socket.create_connection((HERE, door), timeout=20)
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    with client:
        assert client.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HERE, door), timeout=20)


def test_a_port_that_is_taken_is_refused(inside: str) -> None:
    with socket.create_server((HERE, 0)) as taken:
        door = forward_port(HERE, taken.getsockname()[1], inside, [(HERE, 1)])
        with pytest.raises(EndpointError, match="in use"):
            door.__enter__()
