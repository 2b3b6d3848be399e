"""Whatever breaks between store and host: what the host has stays whole, is never older, and goes on by itself."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from sgdataplane.cli.output import Exit
from sgdataplane.control.audit import local_call
from sgdataplane.control.etcd import EtcdStore
from sgdataplane.control.etcdaccess import EtcdAccess
from sgdataplane.control.history import Version, begin_epoch
from sgdataplane.control.publishing import Publisher
from sgdataplane.control.sqlite import SqliteStore
from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState
from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import Hello, HostChange, read_from_relay, spell
from sgdataplane.statefile import load
from tests.support.attachbench import DNS, WEB, state_of
from tests.support.builders import make_eni, make_group, make_rule, make_state
from tests.support.etcdserver import running
from tests.support.flood import DEADLINE, wait_until
from tests.support.lossyproxy import LossyProxy
from tests.support.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    hosts_of,
    ports_in,
    rebind,
    set_ports,
    url_of,
    write_state,
)

ESTABLISHED = "01"  # in /proc/net/tcp
SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))


@pytest.fixture
def relay(store: SqliteStore, store_file: Path, plant: Plant) -> Running:
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    return plant.relay(store_file)


@pytest.fixture
def folder(plant: Plant) -> Path:
    return plant.folder_of("host-1")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def version_in(folder: Path) -> Version:
    found = Publisher(folder).version()
    assert found is not None
    return found


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
            assert time.monotonic() - begun < 15.0 + 5.0
            sync.wait_for("the relay has said nothing for 15 s")
        else:
            sync.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: hosts_of(store)["host-1"]["connected"] is False)
            assert time.monotonic() - begun < 15.0 + 5.0
    finally:
        proxy.close()


def test_many_hosts_that_connect_at_once_are_answered_in_turn(
    store: SqliteStore, store_file: Path, plant: Plant
) -> None:
    """None is dropped, and no more are answered in a second than the relay is to."""
    write_state(store, state_of(WEB), {"eni-a": "host-7"})
    url = url_of(plant.relay(store_file, 0, "--snapshots", "20"))
    names = [f"host-{number}" for number in range(60)]
    contexts = {}
    for name in names:
        signed = plant.authority.sign(name)
        contexts[name] = host_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))

    async def answer(name: str) -> HostChange:
        async with connect(url, ssl=contexts[name], compression=None, proxy=None, open_timeout=60) as socket:
            await socket.send(spell(Hello("test")))
            found = read_from_relay(await socket.recv())
            assert isinstance(found, HostChange)
            return found

    async def all_at_once() -> list[HostChange]:
        return await asyncio.gather(*map(answer, names))

    begun = time.monotonic()
    answers = asyncio.run(all_at_once())
    assert time.monotonic() - begun > (len(names) - 2) / 20
    assert [bool(found.puts) for found in answers] == [name == "host-7" for name in names]


# the host


@pytest.mark.slow
def test_a_host_that_does_not_read_is_ended_and_holds_up_no_other(
    store: SqliteStore, store_file: Path, plant: Plant
) -> None:
    """It is sent more than its kernel and ours keep for it."""
    write_state(store, large_state(), {"eni-a": "host-1", "eni-b": "host-3"})
    relay = plant.relay(store_file)
    url = url_of(relay)
    door = socket.create_connection((HERE, port_of(url)))
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with RawHost(plant, url, "host-2") as beside, silent_host(plant, door):
        beside.greet()
        assert streams_of(relay) == 2
        begun = time.monotonic()
        rebind(store, "eni-b", "host-2")
        assert "network_interface/eni-b" in beside.hear_change().puts
        assert time.monotonic() - begun < 5.0, "nobody waits for the other"
        wait_until(lambda: streams_of(relay) == 1)
        assert time.monotonic() - begun < 15.0 + 5.0
    with RawHost(plant, url, "host-1") as again:
        assert len(again.greet().puts) > 5


def streams_of(relay: Running) -> int:
    """The connections that its process has."""
    table = Path(f"/proc/{relay.process.pid}/net/tcp").read_text("utf-8").splitlines()[1:]
    inodes = {line.split()[9] for line in table if line.split()[3] == ESTABLISHED}
    links = (str(entry.readlink()) for entry in Path(f"/proc/{relay.process.pid}/fd").iterdir())
    return sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in links)


@contextmanager
def silent_host(plant: Plant, door: socket.socket) -> Iterator[None]:
    """It says hello and reads nothing, not even pings."""
    signed = plant.authority.sign("host-1")
    context = host_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))
    with context.wrap_socket(door, server_hostname=HERE) as secured:
        host = f"Host: {HERE}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        secured.sendall(f"GET / HTTP/1.1\r\n{host}{key}\r\n".encode())
        hello = spell(Hello("test")).encode()
        assert 126 > len(hello) > 10, "one frame with the shortest head; its mask is zero"
        secured.sendall(bytes((0x81, 0x80 | len(hello), 0, 0, 0, 0)) + hello)
        yield


def large_state() -> CloudState:
    """An ENI with groups of more than a megabyte, and one with little."""
    rules = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in range(1, 201)]
    groups = [make_group(f"sg-{number}", rules) for number in range(40)]
    names = " ".join(group.security_group_id for group in groups)
    enis = [make_eni("eni-a", "10.0.0.1", names), make_eni("eni-b", "10.0.0.2", "sg-few")]
    return make_state([*groups, make_group("sg-few")], enis)


@contextmanager
def reading(folder: Path) -> Iterator[list[Version]]:
    """While the block runs, generations are read as an agent reads them: each is whole. The versions that were there,
    in order."""
    seen: list[Version] = []
    broken: list[str] = []
    is_over = threading.Event()

    def read() -> None:
        current = Publisher(folder).current
        while not is_over.is_set():
            version = Publisher(folder).version()
            if version is None:
                continue
            try:
                state = load(current, profile="unlimited").state
            except StateFileError as error:
                if Publisher(folder).version() == version:  # it wasn't turned twice meanwhile
                    broken.append(str(error))
                continue
            if not state.security_groups:
                broken.append(f"{version} is torn")
            if not seen or seen[-1] != version:
                seen.append(version)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
    assert broken == []


def test_a_sync_that_is_killed_leaves_a_whole_generation_and_never_an_older_one(
    relay: Running, store: SqliteStore, plant: Plant, folder: Path
) -> None:
    chance, url = random.Random(SEED), url_of(relay)
    first = plant.sync("host-1", url)
    wait_until(lambda: ports_in(folder) == {WEB})
    first.end(signal.SIGKILL)
    with reading(folder) as seen:
        for life in range(6):
            sync = plant.sync("host-1", url)
            sync.wait_for("current has")
            ends = time.monotonic() + chance.uniform(0.2, 0.8)
            while time.monotonic() < ends:
                set_ports(store, "sg-a", chance.randrange(1, 60_000))
            sync.end(signal.SIGKILL)
            assert version_in(folder).revision > 0, life
        last = set_ports(store, "sg-a", DNS)
        plant.sync("host-1", url)
        wait_until(lambda: version_in(folder) == Version(0, last))
    assert seen == sorted(seen)
    assert len(seen) > 6, "it was read while it changed"
    assert ports_in(folder) == {DNS}


def test_one_sync_writes_a_folder(relay: Running, plant: Plant, folder: Path) -> None:
    first = plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(folder) == {WEB})
    second = plant.sync("host-1", url_of(relay))
    second.wait_for("another `sgdp sync` writes there")
    assert second.process.wait(DEADLINE) == Exit.KERNEL
    first.end(signal.SIGKILL)
    third = plant.sync("host-1", url_of(relay))
    third.wait_for("current has revision 1")


def test_a_generation_that_cannot_be_read_is_written_anew(relay: Running, plant: Plant, folder: Path) -> None:
    """At the same version: nothing has changed in the store."""
    sync = plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(folder) == {WEB})
    sync.end()
    damaged = next(file for file in Publisher(folder).current.iterdir() if file.name.startswith("security_groups"))
    damaged.write_text('{"security_groups": [', "utf-8")
    again = plant.sync("host-1", url_of(relay))
    again.wait_for("can't be used, all is fetched anew")
    wait_until(lambda: is_whole(folder))
    assert ports_in(folder) == {WEB}


def is_whole(folder: Path) -> bool:
    try:
        return bool(load(Publisher(folder).current, profile="unlimited").state.security_groups)
    except StateFileError:
        return False


def test_a_full_disk_leaves_the_generation_before_and_is_reported(
    relay: Running, store: SqliteStore, plant: Plant, folder: Path
) -> None:
    """As far as a folder that can't be written is a full disk."""
    plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(folder) == {WEB})
    generations = folder / "generations"
    kept = generations.rename(folder / "kept")
    generations.write_text("no folder", "utf-8")
    set_ports(store, "sg-a", DNS)
    wait_until(lambda: "folder" in str(hosts_of(store).get("host-1", {}).get("error")))
    generations.unlink()
    kept.rename(generations)
    wait_until(lambda: ports_in(folder) == {DNS})
