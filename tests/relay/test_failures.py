"""Whatever breaks between store and host: what the host has stays whole, is never older, and goes on by itself."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import Hello, HostChange, read_from_relay, spell
from sgdataplane.store.audit import local_call
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.history import Version, begin_epoch
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.etcdserver import running
from tests.support.servers.lossyproxy import LossyProxy
from tests.support.servers.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    hosts_of,
    port_of,
    ports_in,
    set_ports,
    url_of,
    version_in,
    write_state,
)

# the store


def test_without_its_store_a_relay_goes_on_with_what_it_has(plant: Plant, folder: Path, tmp_path: Path) -> None:
    """Also for hosts that come meanwhile; and once the store is back, with what came."""
    with running(tmp_path / "etcd") as members, closing(EtcdStore(EtcdAccess.of(members.store))) as store:
        write_state(store, state_of(WEB), {"eni-a": "host-1"})
        relay = plant.relay(members.store)
        plant.sync("host-1", url_of(relay))
        wait_until(lambda: ports_in(folder) == {WEB})
        members.stop()
        relay.wait_for("the store can't be read; hosts keep what they have")
        with RawHost(plant, url_of(relay), "host-2") as late:
            assert late.greet().version == Version(0, 1)
        assert ports_in(folder) == {WEB}
        members.start()
        relay.wait_for("the store can be read again")
        set_ports(store, "sg-a", DNS)
        wait_until(lambda: ports_in(folder) == {DNS})


def test_what_is_compacted_past_a_relay_arrives_as_one_change(store_file: Path, plant: Plant) -> None:
    with closing(SqliteStore(store_file, kept=3)) as store:
        write_state(store, state_of(WEB), {"eni-a": "host-1"})
        relay = plant.relay(store_file)
        url_of(relay)
        with RawHost(plant, url_of(relay), "host-1") as host:
            host.greet()
            relay.process.send_signal(signal.SIGSTOP)
            last = [set_ports(store, "sg-a", port) for port in range(1, 11)][-1]
            relay.process.send_signal(signal.SIGCONT)
            change = host.hear_change()
            relay.wait_for("a snapshot of revision")
            assert (change.version, set(change.puts), change.deletes) == (Version(0, last), {"security_group/sg-a"}, ())
            after = set_ports(store, "sg-a", DNS)
            assert host.hear_change().version == Version(0, after), "and it goes on"


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Where copies of the store's file may be made."""
    made = tmp_path / "copies"
    made.mkdir()
    return made


def copied(store_file: Path, to: Path) -> Path:
    """The store as it is now, with what SQLite has beside it."""
    for file in store_file.parent.glob(f"{store_file.name}*"):
        if file.is_file():
            shutil.copy(file, to / file.name)
    return to / store_file.name


@pytest.mark.slow
def test_a_store_that_went_back_is_refused_until_somebody_says_so(
    store: SqliteStore, store_file: Path, plant: Plant, folder: Path, copies: Path
) -> None:
    """In the store, for all hosts; or at one host."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    old = copied(store_file, copies)
    set_ports(store, "sg-a", DNS)
    relay = plant.relay(store_file)
    port = port_of(url_of(relay))
    sync = plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(folder) == {DNS})
    relay.end()
    older = plant.relay(old, port)
    url_of(older)
    sync.wait_for(r"the relay has revision 1, which is older than revision 2 here: .*sgdp api restored")
    assert ports_in(folder) == {DNS}
    with closing(SqliteStore(old)) as restored:
        wait_until(lambda: "is older than revision 2 here" in hosts_of(restored).get("host-1", {}).get("error", ""))
        begun = begin_epoch(restored, local_call("RestoreStore"))
    wait_until(lambda: ports_in(folder) == {WEB})
    assert version_in(folder) == begun
    older.end()
    url_of(plant.relay(store_file, port))
    sync.wait_for(r"the relay has revision 2, which is older than revision \d+ of epoch")
    assert ports_in(folder) == {WEB}
    sync.end()
    plant.sync("host-1", f"wss://{HERE}:{port}", more=("--accept-epoch",))
    wait_until(lambda: ports_in(folder) == {DNS})
    assert version_in(folder) == Version(0, 2)


# the relay, and the network


def test_a_relay_that_is_killed_is_found_again(
    relay: Running, store: SqliteStore, store_file: Path, plant: Plant, folder: Path
) -> None:
    url = url_of(relay)
    sync = plant.sync("host-1", url)
    wait_until(lambda: ports_in(folder) == {WEB})
    relay.end(signal.SIGKILL)
    sync.wait_for("no stream from the relay, all stays as it is")
    assert ports_in(folder) == {WEB}
    set_ports(store, "sg-a", DNS)
    url_of(plant.relay(store_file, port_of(url)))
    wait_until(lambda: ports_in(folder) == {DNS})


def test_a_host_goes_to_the_next_relay(
    relay: Running, store: SqliteStore, store_file: Path, plant: Plant, folder: Path
) -> None:
    urls = [url_of(relay), url_of(plant.relay(store_file))]
    plant.sync("host-1", *urls)
    for port, ends in ((WEB, relay), (DNS, None)):
        set_ports(store, "sg-a", port)
        wait_until(lambda port=port: ports_in(folder) == {port})  # type: ignore[misc]
        if ends is not None:
            ends.end(signal.SIGKILL)


def test_a_host_stays_at_its_relay_when_the_other_one_comes_back(
    relay: Running, store: SqliteStore, store_file: Path, plant: Plant, folder: Path
) -> None:
    """Nobody is dropped so that relays have equally many. When its own one ends, the host goes to the other one."""
    urls = [url_of(relay), url_of(plant.relay(store_file))]
    sync = plant.sync("host-1", *urls)
    wait_until(lambda: ports_in(folder) == {WEB})
    relay.end(signal.SIGKILL)
    sync.wait_for(f"no stream from the relay.*{urls[0]}")
    set_ports(store, "sg-a", DNS)
    wait_until(lambda: ports_in(folder) == {DNS})
    back = plant.relay(store_file, port_of(urls[0]))
    assert url_of(back) == urls[0]
    for port in (WEB, DNS, WEB):
        set_ports(store, "sg-a", port)
        wait_until(lambda port=port: ports_in(folder) == {port})  # type: ignore[misc]
    back.end(signal.SIGKILL)
    set_ports(store, "sg-a", DNS)
    wait_until(lambda: ports_in(folder) == {DNS})
    assert len([line for line in sync.said if "no stream" in line]) == 1, "of the relay that was killed"


@pytest.mark.slow
@pytest.mark.parametrize("side", ["host", "relay"])
def test_a_silent_network_ends_a_stream_in_15_s(
    relay: Running, store: SqliteStore, plant: Plant, folder: Path, side: str
) -> None:
    """No packet says that the other side is gone. The host goes on where the network is whole."""
    proxy = LossyProxy(port_of(url_of(relay)))
    try:
        sync = plant.sync("host-1", f"wss://{HERE}:{proxy.port}", *([url_of(relay)] if side == "host" else []))
        wait_until(lambda: ports_in(folder) == {WEB})
        wait_until(lambda: hosts_of(store).get("host-1", {}).get("connected") is True)
        begun = time.monotonic()
        if side == "host":
            proxy.go_deaf()
            set_ports(store, "sg-a", DNS)
            wait_until(lambda: ports_in(folder) == {DNS})
            assert time.monotonic() - begun < 2 * 15.0
            sync.wait_for("the relay has said nothing for 15 s")
        else:
            sync.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: hosts_of(store)["host-1"]["connected"] is False)
            assert time.monotonic() - begun < 2 * 15.0
    finally:
        proxy.close()


def test_many_hosts_that_connect_at_once_are_answered_in_turn(
    store: SqliteStore, store_file: Path, plant: Plant
) -> None:
    """None is dropped, and no more are answered in a second than the relay is to."""
    names = [f"host-{number}" for number in range(60)]
    write_state(store, state_of(WEB), {"eni-a": "host-7"}, names)
    url = url_of(plant.relay(store_file, 0, "--snapshots", "20"))
    contexts = {}
    for name in names:
        signed = plant.authority.sign(name)
        contexts[name] = host_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))

    async def answer(name: str) -> HostChange:
        async with connect(url, ssl=contexts[name], compression=None, proxy=None, open_timeout=60) as socket:
            await socket.send(spell(Hello("test", None, {"vpc/vpc-gone": "0" * 32})))
            found = read_from_relay(await socket.recv())
            assert isinstance(found, HostChange)
            assert found.deletes == ("vpc/vpc-gone",)
            return found

    async def all_at_once() -> list[HostChange]:
        return await asyncio.gather(*map(answer, names))

    begun = time.monotonic()
    answers = asyncio.run(all_at_once())
    assert time.monotonic() - begun > (len(names) - 2) / 20
    assert [bool(found.puts) for found in answers] == [name == "host-7" for name in names]
