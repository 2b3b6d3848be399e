"""A relay that somebody has taken over can send any policy. It can write nowhere else, fill nothing, and take nothing
back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from sgdataplane.handover.publishing import Publisher
from sgdataplane.relay.tls import TlsFiles, relay_context
from sgdataplane.relay.wire import (
    BAD_MESSAGE,
    LARGEST_FROM_RELAY,
    Ask,
    Hello,
    HostChange,
    Objects,
    Refused,
    read_from_host,
    spell,
)
from sgdataplane.store.documents import Fields
from sgdataplane.store.history import Version
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.servers.certificates import Authority
from tests.support.servers.relaying import HERE, Plant, document_in


class FakeRelay:
    """Answers each `hello` with the next of these lists of messages, and the last one for ever. `greeted`: what it was
    greeted with."""

    def __init__(self, *answers: Sequence[str | bytes]) -> None:
        self._answers = list(answers)
        self.greeted: list[Hello] = []
        self.url = ""

    def serve(self, socket: ServerConnection) -> None:
        hello = read_from_host(socket.recv(timeout=DEADLINE))
        assert isinstance(hello, Hello)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.greeted.append(hello)
        with suppress(ConnectionClosed):
            for message in answer:
                socket.send(message)
            while True:
                socket.recv()


class Serving(Protocol):
    """Serves a relay; its certificate is of the plant's authority, or of another one."""

    def __call__(self, relay: FakeRelay, authority: Authority | None = None) -> FakeRelay: ...


@pytest.fixture
def fake(plant: Plant) -> Iterator[Serving]:
    """Serves a fake relay until the test ends."""
    servers = []

    def serving(relay: FakeRelay, authority: Authority | None = None) -> FakeRelay:
        signed = (authority or plant.authority).sign("fake", HERE)
        context = relay_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))
        server = serve(relay.serve, HERE, 0, ssl=context, compression=None, max_size=None)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        relay.url = f"wss://{HERE}:{server.socket.getsockname()[1]}"
        return relay

    yield serving
    for server in servers:
        server.shutdown()


def change(revision: int, *names: str, more: bool = False, **other: object) -> str:
    """That host gets these VPCs."""
    puts: Objects = {f"vpc/{name}": {"vpc_id": name, "cidr_blocks": ["10.0.0.0/8"]} for name in names}
    said = json.loads(spell(HostChange(Version(0, revision), puts, has_more=more)))
    return json.dumps({**said, **other})


def vpcs_in(folder: Path) -> set[str]:
    return {vpc["vpc_id"] for vpc in document_in(folder).get("vpcs", [])}


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """At the end, there is nothing new around the folder."""

    def found() -> set[Path]:
        return {path for path in folder.parent.rglob("*") if folder not in (path, *path.parents)}

    before = found()
    yield
    assert found() == before


def vpc(name: str, **other: object) -> dict[str, Fields]:
    fields = {"vpc_id": name, "cidr_blocks": ["10.0.0.0/8"], **other}
    return {f"vpc/{name}": fields}  # type: ignore[dict-item]


DEEP: object = "x"
for _ in range(200):
    DEEP = [DEEP]
ENDED: dict[str, list[str | bytes]] = {
    "path": [change(7, puts={"vpc/../../../x": {"vpc_id": "../../../x"}})],
    "absolute path": [change(7, puts={"/etc/passwd": {"vpc_id": "x"}})],
    "another's id": [change(7, puts={"vpc/vpc-x": {"vpc_id": "../../x"}})],
    "kind": [change(7, puts={"current/x": {"x": "x"}})],
    "revision": [change(7).replace("7", '"../../x"')],
    "epoch": [change(7, epoch=-1)],
    "deep": [change(7, puts=vpc("vpc-x", description=DEEP))],
    "bytes": [b"\x00" * 100],
    "not JSON": ["{"],
    "older": [change(2, "vpc-old")],
    "asks late": [spell(Ask())],
    "older at last": [change(7, "vpc-new", more=True), change(2, "vpc-old")],
    "too long": [change(7, puts=vpc("vpc-x", description="x" * LARGEST_FROM_RELAY))],
}
NOT_A_STATE: dict[str, dict[str, Fields]] = {
    "unknown key": vpc("vpc-x", command="rm"),
    "no CIDR": vpc("vpc-x", cidr_blocks=["10.0.0.0/8; drop"]),
    "a reference to nothing": {"security_group/sg-1": {"security_group_id": "sg-1", "vpc_id": "vpc-none"}},
    "control characters": vpc("vpc-x", vpc_name="\x1b[2J\n"),
}


@pytest.mark.parametrize("messages", [pytest.param(messages, id=name) for name, messages in ENDED.items()])
def test_what_is_no_change_is_not_written_and_ends_the_stream(
    fake: Serving, plant: Plant, messages: list[str | bytes]
) -> None:
    """Beside a change that is one, before and after."""
    folder = plant.folder_of("host-1")
    relay = fake(FakeRelay([change(5, "vpc-1"), *messages], [change(6, "vpc-2")]))
    sync = plant.sync("host-1", relay.url)
    sync.wait_for("nothing yet")
    with untouched(folder):
        sync.wait_for("no stream from the relay, all stays as it is")
        wait_until(lambda: vpcs_in(folder) == {"vpc-1", "vpc-2"})
    assert relay.greeted[1].have == Version(0, 5)
    assert len(sync.said) < 20, "a relay can't fill the log"
    assert all(line.isprintable() for line in sync.said)


@pytest.mark.parametrize("puts", [pytest.param(puts, id=name) for name, puts in NOT_A_STATE.items()])
def test_what_is_no_state_is_not_published(fake: Serving, plant: Plant, puts: Objects) -> None:
    folder = plant.folder_of("host-1")
    relay = fake(FakeRelay([change(5, "vpc-1"), spell(HostChange(Version(0, 6), puts))]))
    sync = plant.sync("host-1", relay.url)
    sync.wait_for(r"revision 6 isn't published|revision 5 isn't published")
    with untouched(folder):
        current = Publisher(folder).version()
        assert current in (None, Version(0, 5)), "the two may have come at once"
    assert all(line.isprintable() for line in sync.said)


def test_a_relay_asks_once(fake: Serving, plant: Plant) -> None:
    """Each answer costs the host the digests of all that it has."""
    folder = plant.folder_of("host-1")
    relay = fake(FakeRelay([spell(Ask())] * 1000, [spell(Ask()), change(5, "vpc-1")]))
    sync = plant.sync("host-1", relay.url)
    sync.wait_for("a relay asks once, before it sends anything else")
    wait_until(lambda: vpcs_in(folder) == {"vpc-1"})
    assert len(relay.greeted) == 2


def test_a_change_without_an_end_is_bounded(fake: Serving, plant: Plant) -> None:
    """300 MB of parts: nothing of them is kept."""
    folder = plant.folder_of("host-1")
    endless = change(6, puts=vpc("vpc-x", description="x" * 15_000_000), more=True)
    relay = fake(FakeRelay([change(5, "vpc-1"), *[endless] * 20], [change(6, "vpc-2")]))
    sync = plant.sync("host-1", relay.url)
    sync.wait_for("one change has more than")
    wait_until(lambda: vpcs_in(folder) == {"vpc-1", "vpc-2"})


def test_another_authoritys_relay_gets_no_stream(fake: Serving, plant: Plant, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    relay = fake(FakeRelay([change(5, "vpc-1")]), other)
    sync = plant.sync("host-1", relay.url)
    sync.wait_for("certificate verify failed")
    assert relay.greeted == []


def test_a_relays_certificate_must_name_its_host(fake: Serving, plant: Plant) -> None:
    relay = fake(FakeRelay([change(5, "vpc-1")]))
    sync = plant.sync("host-1", relay.url.replace(HERE, "localhost"))
    sync.wait_for("certificate verify failed")
    assert relay.greeted == []
    plant.sync("host-2", relay.url)
    wait_until(lambda: vpcs_in(plant.folder_of("host-2")) == {"vpc-1"})


def test_the_reason_of_an_end_is_shown_and_cannot_control_the_log(fake: Serving, plant: Plant) -> None:
    class Ending(FakeRelay):
        def serve(self, socket: ServerConnection) -> None:
            socket.recv(timeout=DEADLINE)
            socket.close(BAD_MESSAGE, "so \x1b[2J\nit is")

    sync = plant.sync("host-1", fake(Ending([])).url)
    assert r"so \x1b[2J\nit is (4002)" in sync.wait_for("the relay has ended it: .*").string


def test_refusals_are_shown_once(fake: Serving, plant: Plant) -> None:
    refused = spell(Refused({"eni-a": "another host has \x1b it"}))
    sync = plant.sync("host-1", fake(FakeRelay([change(5, "vpc-1"), *[refused] * 10])).url)
    sync.wait_for(r"attached here, but not this host's: eni-a: another host has \\x1b it")
    wait_until(lambda: vpcs_in(plant.folder_of("host-1")) == {"vpc-1"})
    assert len([line for line in sync.said if "eni-a" in line]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:1",
        "http://127.0.0.1:1",
        "wss://127.0.0.1",
        "127.0.0.1:1",
        "wss://a:b@h:1",
        "wss://h:1/?x",
        "wss://h:x",
    ],
)
def test_only_tls_is_followed(plant: Plant, url: str) -> None:
    sync = plant.sync("host-1", url)
    sync.wait_for("is not the URL of a relay: wss://HOST:PORT")
    assert sync.process.wait(DEADLINE) == 2
