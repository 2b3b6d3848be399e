"""Relay and host of different versions: what peers of each protocol have said is recorded in protocols/, and is still
understood; what a newer peer says besides is left out, or refused in words.

protocols/1.json was said by a real relay and a real sync of version 0.1.0. Their store had `state_of(WEB)`, then it let
DNS in. It is never changed: what is said in another way is another protocol, with a file of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from sgdataplane.relay.tls import TlsFiles, relay_context
from sgdataplane.relay.wire import (
    BAD_MESSAGE,
    OTHER_PROTOCOL,
    PROTOCOL,
    Ask,
    Hello,
    HostChange,
    Refused,
    Reported,
    digest_of,
    read_from_host,
    read_from_relay,
    spell,
)
from sgdataplane.store.documents import Documents
from sgdataplane.store.history import Version
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.servers.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    change,
    hosts_of,
    ports_in,
    set_ports,
    url_of,
    version_in,
)

SAID: dict[str, str] = json.loads(Path(__file__).with_name("protocols").joinpath("1.json").read_text("ascii"))
OF_HOST, OF_RELAY = ("hello", "hello again", "report", "full report"), ("change", "difference", "refused")
OBJECTS: dict[str, Any] = json.loads(SAID["change"])["puts"]
Message: TypeAlias = Hello | Reported | HostChange | Ask | Refused
MORE = {"later": {"any": ["thing", 1]}, "another": None}  # fields of a newer peer


class Player:
    """An older or newer relay: answers each hello with these texts, and keeps what it hears. `url`: where it serves."""

    def __init__(self, *texts: str) -> None:
        self.texts: Sequence[str] = texts
        self.heard: list[str] = []
        self.url = ""

    def serve(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            self.heard.append(str(socket.recv(timeout=DEADLINE)))
            for text in self.texts:
                socket.send(text)
            while True:
                self.heard.append(str(socket.recv()))

    def reports(self) -> list[dict[str, Any]]:
        return [found for text in tuple(self.heard) if (found := json.loads(text))["kind"] == "report"]


@pytest.fixture
def played(plant: Plant) -> Iterator[Callable[..., Player]]:
    """Plays such a relay until the test ends."""
    servers = []

    def play(*texts: str) -> Player:
        player, signed = Player(*texts), plant.authority.sign("player", HERE)
        context = relay_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))
        server = serve(player.serve, HERE, 0, ssl=context, compression=None, max_size=None)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        player.url = f"wss://{HERE}:{server.socket.getsockname()[1]}"
        return player

    yield play
    for server in servers:
        server.shutdown()


def with_more(text: str, **more: object) -> str:
    return json.dumps({**json.loads(text), **MORE, **more})


# what was recorded


def test_what_older_peers_said_means_the_same_today() -> None:
    one, reported = Version(0, 1), Reported(error="no agent: /run/sgdataplane/agent.sock: no agent is running there")
    full = Reported(one, (("eni-a", "refused: not proven"),), "", ("eni-a", "eni-none"))
    digests = {path: digest_of(fields) for path, fields in OBJECTS.items()}
    meant = {
        "hello": Hello("0.1.0"),
        "hello again": Hello("0.1.0", one, digests),
        "report": reported,
        "full report": full,
    }
    assert {name: read_from_host(SAID[name]) for name in OF_HOST} == meant
    group = json.loads(SAID["difference"])["puts"]
    from_relay = {
        "change": HostChange(one, OBJECTS),
        "difference": HostChange(Version(0, 2), group),
        "refused": Refused({"eni-none": "the store has no such ENI"}),
    }
    assert {name: read_from_relay(SAID[name]) for name in OF_RELAY} == from_relay


@pytest.mark.parametrize("name", [*OF_HOST, *OF_RELAY])
def test_what_is_said_today_has_all_that_older_peers_read(name: str) -> None:
    """It may have more, which they leave out."""
    assert PROTOCOL == 1, "record what the new protocol says, and go on reading what is recorded"
    text = SAID[name]
    message: Message = read_from_host(text) if name in OF_HOST else read_from_relay(text)
    recorded, today = json.loads(text), json.loads(spell(message))
    assert {key: today.get(key, ...) for key in recorded} == recorded


# older peers and ours


def test_a_host_of_an_older_version_gets_what_it_understands(relay: Running, store: SqliteStore, plant: Plant) -> None:
    with RawHost(plant, url_of(relay), "host-1") as host:
        host.say(SAID["hello"])
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["change"])
        host.say(SAID["full report"])
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["refused"])
        set_ports(store, "sg-a", DNS)
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["difference"])
        wait_until(lambda: hosts_of(store).get("host-1", {}).get("enforced") == [0, 1])
    with RawHost(plant, url_of(relay), "host-1") as host:
        host.say(SAID["hello again"])
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["difference"]), "only what differs"


def has_all(text: str | bytes, recorded: str) -> bool:
    """Whether it says what was recorded, and perhaps more."""
    found, expected = json.loads(text), json.loads(recorded)
    return bool({key: found.get(key, ...) for key in expected} == expected)


def test_a_relay_of_an_older_version_is_followed(plant: Plant, folder: Path, played: Callable[..., Player]) -> None:
    older = played(SAID["change"])
    sync = plant.sync("host-1", older.url)
    wait_until(lambda: ports_in(folder) == {WEB} and bool(older.reports()))
    assert has_all(older.heard[0], SAID["hello"].replace("0.1.0", json.loads(older.heard[0])["version"]))
    assert older.reports()[-1].keys() >= json.loads(SAID["report"]).keys()
    sync.end()
    again = played(SAID["difference"])
    plant.sync("host-1", again.url)
    wait_until(lambda: ports_in(folder) == {DNS})
    assert json.loads(again.heard[0])["digests"] == json.loads(SAID["hello again"])["digests"]
    assert version_in(folder) == Version(0, 2)


# newer peers and ours


def test_a_relay_leaves_out_what_a_newer_host_says_besides(relay: Running, store: SqliteStore, plant: Plant) -> None:
    with RawHost(plant, url_of(relay), "host-1") as host:
        host.say(with_more(SAID["hello"]))
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["change"])
        failed = [{"eni": "eni-a", "why": "refused: not proven", **MORE}]
        host.say(with_more(SAID["full report"], failed=failed, enforced={"epoch": 0, "revision": 1, **MORE}))
        wait_until(lambda: hosts_of(store).get("host-1", {}).get("enforced") == [0, 1])
    assert hosts_of(store)["host-1"]["failed"] == [{"eni": "eni-a", "why": "refused: not proven"}]


def test_a_host_leaves_out_what_a_newer_relay_says_besides(
    plant: Plant, folder: Path, played: Callable[..., Player]
) -> None:
    newer = played(with_more(SAID["change"]), with_more(SAID["refused"]), with_more(SAID["difference"]))
    sync = plant.sync("host-1", newer.url)
    wait_until(lambda: ports_in(folder) == {DNS})
    sync.wait_for("attached here, but not this host's: eni-none: the store has no such ENI")
    assert sum('"hello"' in text for text in newer.heard) == 1, "the stream goes on"


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        pytest.param(
            with_more(SAID["hello"], protocol=2, digests="of another form"),
            OTHER_PROTOCOL,
            "this relay speaks protocol 1, and not 2",
            id="another-protocol",
        ),
        pytest.param(
            '{"kind": "later"}', BAD_MESSAGE, "not a message of a host: its kind is hello or report", id="kind"
        ),
        pytest.param(
            with_more(SAID["hello"], digests={"later_kind/one": "0" * 32}),
            BAD_MESSAGE,
            "later_kind/one: not a path of a state, such as security_group/sg-1",
            id="kind-of-document",
        ),
    ],
)
def test_what_a_relay_cant_leave_out_of_a_newer_host_is_refused_in_words(
    relay: Running, plant: Plant, text: str, code: int, why: str
) -> None:
    with RawHost(plant, url_of(relay), "host-1") as host:
        host.say(text)
        assert host.end() == (code, why)
    with RawHost(plant, url_of(relay), "host-1") as host:
        host.say(SAID["hello"])
        assert has_all(host.socket.recv(timeout=DEADLINE), SAID["change"]), "others are served"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param('{"kind": "later"}', "not a message of a relay: its kind is change, ask or refused", id="kind"),
        pytest.param(
            with_more(SAID["difference"], deletes=["later_kind/one"]),
            "later_kind/one: not a path of a state, such as security_group/sg-1",
            id="kind-of-document",
        ),
    ],
)
def test_what_a_host_cant_leave_out_of_a_newer_relay_is_refused_in_words(
    plant: Plant, folder: Path, played: Callable[..., Player], text: str, why: str
) -> None:
    """It goes to the next relay, and keeps what it has; the relay is told why."""
    newer, older = played(SAID["change"], text), played(SAID["difference"])
    sync = plant.sync("host-1", newer.url, older.url)
    sync.wait_for(f"no stream from the relay, all stays as it is: {newer.url}: {why}")
    wait_until(lambda: any(why in report["error"] for report in newer.reports()))
    wait_until(lambda: ports_in(folder) == {DNS})


def test_a_field_of_a_newer_api_that_an_older_host_doesnt_know_is_refused_and_told(
    relay: Running, store: SqliteStore, plant: Plant, folder: Path
) -> None:
    """An older host can't leave out what may decide about packets."""
    sync = plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(folder) == {WEB})
    set_ports(store, "sg-a", DNS)
    wait_until(lambda: ports_in(folder) == {DNS})
    path = "security_group/sg-a"
    body = Documents.of(store.snapshot()).get(path)
    assert body is not None
    state = dict(json.loads(json.dumps(body["state"])))
    change(store, {path: {**body, "state": {**state, "later_field": True}}})
    sync.wait_for(r"isn't published: .*UnknownKey")
    sync.wait_for(r"at: +.*later_field")
    wait_until(lambda: "later_field" in hosts_of(store).get("host-1", {}).get("error", ""))
    assert ports_in(folder) == {DNS}
    change(store, {path: {**body, "later_part": True}})
    wait_until(lambda: "later_field" not in hosts_of(store)["host-1"].get("error", ""))
