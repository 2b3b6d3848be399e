"""Certificates that have ended or were revoked: a host's stays refused whatever becomes of the host."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sgdataplane.handover.agentplace import AgentPlace
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.server import Relay
from sgdataplane.relay.streams import Stream
from sgdataplane.relay.sync import Folder, HostSync
from sgdataplane.relay.tls import HostTls, Peer
from sgdataplane.relay.wire import REVOKED, Hello
from sgdataplane.store.audit import local_call
from sgdataplane.store.hosts import StoredHost, add_host, forget_host, revoke_host
from sgdataplane.store.interface import Reading
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import WEB, state_of
from tests.support.servers.certificates import Signed, serial_number_of, write_revoked
from tests.support.servers.relaying import (
    Plant,
    RawHost,
    Running,
    port_of,
    put_host,
    revision_seen,
    url_of,
    write_state,
)

SOON_S = 20.0  # in which a busy machine opens a stream


@pytest.fixture
def relay(store: SqliteStore, store_file: Path, plant: Plant) -> Iterator[Running]:
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    yield plant.relay(store_file)
    assert plant.is_running(0), "the relay has survived"


@pytest.fixture
def url(relay: Running) -> str:
    return url_of(relay)


def is_served(plant: Plant, url: str, signed: Signed, name: str = "host-1") -> bool:
    with RawHost(plant, url, name, signed) as host:
        try:
            host.greet()
        except ConnectionClosed:
            return False
        return True


def sign_apart(plant: Plant, name: str, *addresses: str) -> Signed:
    """A certificate that stays when another one is signed for the same name."""
    signed = plant.authority.sign(name, *addresses)
    serial = f"{serial_number_of(signed):x}"
    return Signed(*(file.rename(file.with_name(f"{serial}{file.suffix}")) for file in (signed.certificate, signed.key)))


def sign_now(plant: Plant, name: str = "host-1") -> Signed:
    """A certificate that is issued now: others of the plant say that they were a day ago."""
    return plant.authority.sign(name, begins=dt.datetime.now(dt.UTC))


def wait_until_new_certificates_are_later() -> None:
    """Certificates have whole seconds."""
    at = int(dt.datetime.now(dt.UTC).timestamp())
    wait_until(lambda: int(dt.datetime.now(dt.UTC).timestamp()) > at)


def test_a_host_that_is_revoked_before_it_says_hello_gets_no_stream(store: SqliteStore, plant: Plant, url: str) -> None:
    assert is_served(plant, url, plant.authority.sign("host-1"))
    with RawHost(plant, url, "host-1") as host:
        revoke_host(store, local_call("RevokeHost"), "host-1")
        revision = store.snapshot().revision
        wait_until(lambda: revision_seen(store) >= revision)
        host.say(Hello("test"))
        assert host.end() == (REVOKED, "the host host-1 is revoked")


def test_a_host_that_nobody_has_added_gets_no_stream(store: SqliteStore, plant: Plant, url: str) -> None:
    with RawHost(plant, url, "host-x") as unknown:
        code, reason = unknown.end()
    assert (code, "isn't known" in reason) == (REVOKED, True)
    add_host(store, local_call("AddHost"), "host-x")
    wait_until(lambda: is_served(plant, url, plant.authority.sign("host-x"), "host-x"))


def test_a_stream_ends_when_its_host_is_forgotten(store: SqliteStore, plant: Plant, url: str) -> None:
    with RawHost(plant, url, "host-1") as one:
        one.greet()
        forget_host(store, local_call("ForgetHost"), "host-1")
        assert one.end()[0] == REVOKED


@pytest.mark.parametrize("by", ["serial", "host", "earlier-version", "earlier-version-host"])
def test_what_is_revoked_stays_so_when_the_host_is_forgotten_and_added_again(
    store: SqliteStore, plant: Plant, url: str, by: str
) -> None:
    """Somebody has stolen a certificate. A new machine of that name must not hand its policy to the thief."""
    stolen = sign_apart(plant, "host-1")
    serial = f"{serial_number_of(stolen):X}"
    assert is_served(plant, url, stolen)
    if by == "serial":
        revoke_host(store, local_call("RevokeHost"), "host-1", serial)
    elif by == "host":
        revoke_host(store, local_call("RevokeHost"), "host-1")
    else:
        refused = (serial,) if by == "earlier-version" else ()
        put_host(store, StoredHost("host-1", 0.0, is_revoked=not refused, refused_serials=refused))
    wait_until(lambda: not is_served(plant, url, stolen))
    forget_host(store, local_call("ForgetHost"), "host-1")
    wait_until_new_certificates_are_later()
    assert not is_served(plant, url, stolen)
    add_host(store, local_call("AddHost"), "host-1")
    wait_until(lambda: is_served(plant, url, sign_now(plant)))
    assert not is_served(plant, url, stolen)


def test_certificates_from_before_a_revocation_count_again_if_the_operator_says_so(
    store: SqliteStore, plant: Plant, url: str
) -> None:
    signed, lost = sign_apart(plant, "host-1"), sign_apart(plant, "host-1")
    revoke_host(store, local_call("RevokeHost"), "host-1", f"{serial_number_of(lost):x}")
    revoke_host(store, local_call("RevokeHost"), "host-1")
    wait_until_new_certificates_are_later()
    add_host(store, local_call("AddHost"), "host-1")
    wait_until(lambda: is_served(plant, url, sign_now(plant)))
    assert not is_served(plant, url, signed)
    add_host(store, local_call("AddHost"), "host-1", accepts_issued=True)
    wait_until(lambda: is_served(plant, url, signed))
    assert not is_served(plant, url, lost), "what was revoked by its number stays so"


class Socket:
    """In place of a connection whose other end shows a certificate that ends then."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.closed: list[str] = []
        self.transport = self

    def get_extra_info(self, _: str) -> Socket:
        return self

    def getpeercert(self) -> dict[str, str]:
        return {"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(self.ends))}

    async def close(self, code: int, reason: bytes | str) -> None:
        self.closed.append(f"{int(code)} {reason if isinstance(reason, str) else reason.decode()}")


def test_the_relay_ends_streams_whose_certificate_has_ended_and_no_others() -> None:
    now = time.time()

    async def run() -> tuple[list[str], list[str]]:
        relay, sockets = Relay(HeldDocuments.read(Reading(0, iter(())))), (Socket(now + 5), Socket(now + 50))
        for number, socket in enumerate(sockets):
            peer = Peer(f"host-{number}", "1", 0.0, socket.ends)
            relay.streams[peer.host] = Stream(peer.host, cast(ServerConnection, socket), peer=peer)
        relay.end_expired(now)
        relay.end_expired(now + 5)
        await asyncio.gather(*relay._ending)
        return sockets[0].closed, sockets[1].closed

    assert asyncio.run(run()) == ([f"{REVOKED} the certificate has ended"], [])


@pytest.mark.parametrize("is_replaced", [False, True])
def test_the_host_ends_a_stream_whose_certificate_has_ended_or_may_be_revoked(
    tmp_path: Path, is_replaced: bool
) -> None:
    socket = Socket(time.time() + (50 if is_replaced else -5))

    class Tls:
        def __init__(self) -> None:
            self.is_replaced = is_replaced

    folder = Folder.open(tmp_path / "generations")
    sync = HostSync([], cast(HostTls, Tls()), folder, AgentPlace(folder.publisher, tmp_path / "none.sock"))
    asyncio.run(sync._watch_certificate(cast(ClientConnection, socket)))
    why = "another list of revoked certificates is there" if is_replaced else "the relay's certificate has ended"
    assert socket.closed == [f"1001 {why}"]


@pytest.mark.slow
def test_a_stream_ends_with_its_certificate_on_the_relay_s_side(plant: Plant, url: str) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=SOON_S)
    with (
        RawHost(plant, url, "host-2") as other,
        RawHost(plant, url, "host-1", plant.authority.sign("host-1", ends=ends)) as host,
    ):
        other.greet()
        host.greet()
        assert host.end() == (REVOKED, "the certificate has ended")
        other.socket.ping().wait(30)


@pytest.mark.slow
def test_a_stream_ends_with_the_relay_s_certificate_on_the_host_s_side(
    store: SqliteStore, store_file: Path, plant: Plant
) -> None:
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=SOON_S)
    relay = plant.relay(store_file, signed=plant.authority.sign("relay", "127.0.0.1", ends=ends))
    sync = plant.sync("host-1", url_of(relay))
    sync.wait_for("it was ended here: the relay's certificate has ended")


def test_a_host_believes_no_relay_whose_certificate_is_revoked(
    store: SqliteStore, store_file: Path, plant: Plant
) -> None:
    """As docs/operations.md says: the list of the authority, in the place of the one before."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    lost = sign_apart(plant, "relay", "127.0.0.1")
    relay = plant.relay(store_file, signed=lost)
    url = url_of(relay)
    crl = write_revoked(plant.authority, plant.folder / "revoked.pem")
    sync = plant.sync("host-1", url, more=("--tls-crl", crl))
    wait_until((plant.folder_of("host-1") / "current").exists)
    write_revoked(plant.authority, crl, lost)
    sync.wait_for("it was ended here: another list of revoked certificates is there")
    sync.wait_for("certificate revoked")
    relay.end()
    plant.relay(store_file, port_of(url), signed=plant.authority.sign("relay", "127.0.0.1"))
    assert (plant.folder_of("host-1") / "current").exists(), "what is in force stays"
