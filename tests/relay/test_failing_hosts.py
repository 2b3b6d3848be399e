"""Whatever breaks at a host: its generations are whole and never older, and no other host notices."""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.handover.publishing import Publisher
from sgdataplane.model.state import CloudState
from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import Hello, spell
from sgdataplane.statefile import load
from sgdataplane.store.history import Version
from sgdataplane.store.sqlite.store import SqliteStore
from sgdataplane.terminal.output import Exit
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    hosts_of,
    port_of,
    ports_in,
    rebind,
    set_ports,
    url_of,
    version_in,
    write_state,
)

ESTABLISHED = "01"  # in /proc/net/tcp
SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))


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
        wait_until(lambda: streams_of(relay) == 2)
        begun = time.monotonic()
        rebind(store, "eni-b", "host-2")
        assert "network_interface/eni-b" in beside.hear_change().puts
        assert time.monotonic() - begun < 15.0, "the other one is ended after 15 s: nobody waits for that"
        wait_until(lambda: streams_of(relay) == 1)
        assert time.monotonic() - begun < 2 * 15.0
    with RawHost(plant, url, "host-1") as again:
        assert len(again.greet().puts) > 5


@pytest.mark.slow
def test_a_host_that_pings_on_and_does_not_read_is_ended(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """The relay hears from it all the time, and keeps what it can't tell it. One that reads stays."""
    write_state(store, state_of(WEB), {"eni-a": "host-2"}, ["host-1", "host-2"])
    relay = plant.relay(store_file)
    url = url_of(relay)
    door = socket.create_connection((HERE, port_of(url)))
    with RawHost(plant, url, "host-2") as beside, silent_host(plant, door) as secured, pinging(secured) as pings:
        beside.greet()
        wait_until(lambda: streams_of(relay) == 2)
        wait_until(lambda: streams_of(relay) == 1)
        assert pings[0] > 10_000
        set_ports(store, "sg-a", DNS)
        assert "security_group/sg-a" in beside.hear_change().puts


@contextmanager
def pinging(secured: ssl.SSLSocket) -> Iterator[list[int]]:
    """While the block runs, it sends ten pings each millisecond, of 125 bytes. The number of those that were sent."""
    sent, is_over = [0], threading.Event()
    ping = bytes((0x89, 0x80 | 125, 0, 0, 0, 0)) + bytes(125)

    def ping_on() -> None:
        with suppress(OSError):
            while not is_over.wait(0.001):
                secured.sendall(10 * ping)
                sent[0] += 10

    thread = threading.Thread(target=ping_on)
    thread.start()
    try:
        yield sent
    finally:
        is_over.set()
        thread.join()


def streams_of(relay: Running) -> int:
    """The connections that its process has."""
    table = Path(f"/proc/{relay.process.pid}/net/tcp").read_text("utf-8").splitlines()[1:]
    inodes = {line.split()[9] for line in table if line.split()[3] == ESTABLISHED}
    links = []
    for entry in Path(f"/proc/{relay.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(str(entry.readlink()))
    return sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in links)


@contextmanager
def silent_host(plant: Plant, door: socket.socket) -> Iterator[ssl.SSLSocket]:
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
        yield secured


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


@pytest.mark.slow
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
