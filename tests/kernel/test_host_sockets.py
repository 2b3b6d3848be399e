"""Which namespaces are asked for their TCP sockets."""

from __future__ import annotations

import socket
from collections.abc import Collection

import pytest

from sgdataplane.host import netns, sockets
from sgdataplane.host.conntrack import SessionTuple
from sgdataplane.host.links import Links
from sgdataplane.host.sockets import seed_sessions
from sgdataplane.net.values import Prefix

pytestmark = pytest.mark.kernel


def test_a_namespace_without_tcp_is_not_listed(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Collection[Prefix]] = []

    def note(own: Collection[Prefix]) -> list[SessionTuple]:
        asked.append(own)
        return []

    monkeypatch.setattr(sockets, "list_tcp_sessions", note)
    with Links(namespace) as links:
        links.set_up("lo")
    with netns.inside(namespace):
        seed_sessions([])
        assert asked == []
        with socket.create_server(("127.0.0.1", 0)):
            seed_sessions([])
        assert asked == [[]]
