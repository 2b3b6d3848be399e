"""What a relay remembers of hosts that have gone: what each one said last, for a while, and nothing that costs much."""

from __future__ import annotations

import json
import weakref
from typing import cast

import pytest
from websockets.asyncio.server import ServerConnection

from sgdataplane.relay import server
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.server import FORGET_S, Relay
from sgdataplane.relay.streams import Stream
from sgdataplane.relay.summary import summary_of
from sgdataplane.relay.wire import Reported
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Reading
from sgdataplane.store.summaries import read_summary


class Socket:
    """In place of a connection."""


REPORT = Reported(Version(0, 3), error="why")


def leave(relay: Relay, host: str, socket: Socket | None = None, report: Reported = REPORT) -> None:
    """A host's stream ends, which has reported."""
    stream = Stream(host, cast(ServerConnection, socket or Socket()), since=7.0)
    stream.report, stream.needed = report, 4
    relay._note_left(stream)


@pytest.fixture
def relay() -> Relay:
    return Relay(HeldDocuments.read(Reading(0, iter(()))))


def test_what_it_said_last_is_told_and_its_socket_is_let_go(relay: Relay) -> None:
    socket = Socket()
    gone = weakref.ref(socket)
    leave(relay, "host-1", socket)
    del socket
    assert gone() is None
    told = summary_of(relay, relay.left["host-1"].at)["hosts"]
    assert isinstance(told, dict)
    found = told["host-1"]
    assert isinstance(found, dict)
    assert (found["connected"], found["enforced"], found["needed"], found["error"]) == (False, [0, 3], 4, "why")
    assert (found["since"], "claims" in found) == (7.0, False)


def test_after_a_while_it_is_forgotten_without_another_that_leaves(relay: Relay) -> None:
    leave(relay, "host-1")
    at = relay.left["host-1"].at
    assert summary_of(relay, at + FORGET_S - 1)["hosts"] != {}
    assert summary_of(relay, at + FORGET_S + 1)["hosts"] == {}
    assert relay.left == {}


def test_of_too_many_the_first_ones_are_forgotten(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_LEFT", 3)
    for number in range(5):
        leave(relay, f"host-{number}")
    assert list(relay.left) == ["host-2", "host-3", "host-4"]


def test_a_summary_that_is_full_of_failures_can_still_be_read(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 hosts that all say as much as a report may have."""
    monkeypatch.setattr(server, "MAX_LEFT", 10_000)
    failed = tuple((f"eni-{number:020d}", "w" * 500) for number in range(100))
    for number in range(10_000):
        leave(relay, f"host-{number}", report=Reported(Version(0, 3), failed, error="e" * 500))
    body = summary_of(relay, relay.left["host-1"].at)
    assert len(read_summary(json.dumps(body).encode())["hosts"]) == 10_000
