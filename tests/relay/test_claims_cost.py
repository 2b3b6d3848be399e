"""A host that repeats its claims, or changes them all the time, doesn't keep its relay busy."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest
from websockets.asyncio.server import ServerConnection

from sgdataplane.relay import streams
from sgdataplane.relay.streams import Stream, refusals, send_refusals
from sgdataplane.relay.wire import Reported, read_from_host, spell
from sgdataplane.store.documents import Documents
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Snapshot

NOTHING = Documents.of(Snapshot(1, {}, {}))


class Socket:
    """In place of a connection: notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, text: str) -> None:
        self.sent.append(text)


def claiming(*enis: str) -> Reported:
    return Reported(Version(0, 1), claims=enis)


def test_claims_are_looked_at_when_they_or_the_documents_have_changed_and_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[tuple[str, ...]] = []

    def note(stream: Stream, documents: Documents) -> dict[str, str]:
        assert stream.report is not None
        looked.append(stream.report.claims)
        return refusals(stream, documents)

    monkeypatch.setattr(streams, "refusals", note)
    socket = Socket()

    async def scene() -> None:
        stream = Stream("host-1", cast(ServerConnection, socket))
        stream.report = claiming("eni-1")
        for _ in range(100):
            await send_refusals(stream, NOTHING)
        assert looked == [("eni-1",)]
        for number in range(100):
            stream.report = claiming(f"eni-{number}")
            await send_refusals(stream, NOTHING)
        assert len(looked) == 1
        stream.claims_asked_at -= streams.CLAIMS_S
        await send_refusals(stream, NOTHING)
        assert looked[1:] == [("eni-99",)]
        stream.news.clear()
        stream.report = claiming("eni-7")
        monkeypatch.setattr(streams, "CLAIMS_S", 0.05)
        await send_refusals(stream, NOTHING)
        async with asyncio.timeout(30):
            await stream.news.wait()
        await send_refusals(stream, NOTHING)
        assert looked[2:] == [("eni-7",)], "what was claimed last is looked at, however soon it came"

    asyncio.run(scene())
    assert [sorted(json.loads(text)["enis"]) for text in socket.sent] == [["eni-1"], ["eni-99"], ["eni-7"]]


def test_an_eni_that_is_claimed_twice_counts_once() -> None:
    said = json.loads(spell(claiming("eni-1")))
    said["claims"] = ["eni-1"] * 5_000
    read = read_from_host(json.dumps(said))
    assert isinstance(read, Reported)
    assert read.claims == ("eni-1",)
