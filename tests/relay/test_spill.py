"""Texts on disk: they are read as they were written, or nothing is read any more; and a full disk loses none."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from bench.fleet import Fleet, host_name
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from sgdataplane.limitedlog import EVERY_S, RateLimitedLog
from sgdataplane.relay import spill
from sgdataplane.relay.closure import Closures
from sgdataplane.relay.held import hold
from sgdataplane.relay.server import Relay
from sgdataplane.relay.spill import SMALLEST, DamagedError, SpilledText, SpillFile
from sgdataplane.relay.streams import Stream
from sgdataplane.relay.summary import summary_of
from sgdataplane.relay.table import Lines
from sgdataplane.relay.topics import Topics
from sgdataplane.relay.watcher import Watcher
from sgdataplane.store.documents import Documents, state_in
from sgdataplane.store.interface import Revision, Write
from tests.support.run.memorystore import MemoryStore
from tests.support.run.spilling import flip, full_disk, size_of, tiny_texts, uncached, zero

FLEET = Fleet(4, enis_a_host=4, rules=4)
HOSTS = [host_name(host) for host in range(FLEET.hosts)]
DEADLINE_S = 20.0


@settings(max_examples=100, database=None)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=300), st.integers(0, 9)), max_size=60))
def test_each_text_is_read_as_it_was_written(actions: list[bytes | int]) -> None:
    """Texts come, and others go, whose places are taken again."""
    with tiny_texts():
        file, kept = SpillFile(), list[tuple[bytes, bytes | SpilledText]]()
        for action in actions:
            if isinstance(action, bytes):
                kept.append((action, file.keep(action)))
            elif kept:
                kept.pop(action % len(kept))
            assert [file.read(text) for _, text in kept] == [expected for expected, _ in kept]


def test_a_place_is_taken_again() -> None:
    file, chance = SpillFile(), random.Random(1)
    kept = [file.keep(chance.randbytes(SMALLEST + number)) for number in range(500)]
    size = size_of(file)
    for _ in range(5_000):
        kept[chance.randrange(len(kept))] = file.keep(chance.randbytes(chance.randrange(SMALLEST, SMALLEST + 500)))
    assert size >= 500 * SMALLEST
    assert size_of(file) < 2 * size


def test_small_texts_stay_in_memory() -> None:
    file = SpillFile()
    assert file.keep(b"a" * (SMALLEST - 1)) == b"a" * (SMALLEST - 1)
    assert isinstance(file.keep(b"a" * SMALLEST), SpilledText)


def test_threads_write_and_read_at_once() -> None:
    """A relay's watcher writes what its loop reads, and what nobody needs any more may go in either."""
    wrong = list[bytes]()
    with tiny_texts():
        file = SpillFile()

        def work(number: int) -> None:
            chance, kept = random.Random(number), dict[int, tuple[bytes, bytes | SpilledText]]()
            for _ in range(2_000):
                text = chance.randbytes(chance.randrange(2, 100))
                kept[chance.randrange(20)] = text, file.keep(text)
                expected, there = chance.choice([*kept.values()])
                if file.read(there) != expected:
                    wrong.append(expected)

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    file.require_whole()


@settings(max_examples=50, database=None)
@given(st.binary(min_size=8, max_size=200), st.integers(0, 1 << 20))
def test_one_changed_bit_is_noticed_and_nothing_is_read_after_it(text: bytes, bit: int) -> None:
    with tiny_texts(), uncached():
        file = SpillFile()
        small, kept = file.keep(b"a"), file.keep(text)
        flip(file, bit % (8 * len(text)))
        assert file.read(small) == b"a"
        for one in (kept, kept, small):
            with pytest.raises(DamagedError):
                file.read(one)


def test_nobody_else_can_read_the_file_and_it_goes_with_its_process(tmp_path: Path) -> None:
    """It has no name, not even while it is used, whatever the umask is."""
    before = os.umask(0)
    try:
        file = SpillFile(str(tmp_path))
    finally:
        os.umask(before)
    file.keep(b"a" * SMALLEST)
    status = os.stat(f"/proc/self/fd/{file._descriptor}")
    assert (status.st_size, stat.S_IMODE(status.st_mode), status.st_nlink) == (SMALLEST, 0o600, 0)
    assert [*tmp_path.iterdir()] == []


def test_without_a_folder_all_stays_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = SpillFile(str(tmp_path / "nowhere"))
    assert file.read(file.keep(b"a" * SMALLEST)) == b"a" * SMALLEST
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/nowhere can't be written, so documents stay in memory: No such file or directory"
    ]


def test_a_disk_that_is_full_now_and_then_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small texts may find room where large ones don't. However late it is, the log says no more."""
    told, clock = list[str](), itertools.count(0.0, 2 * EVERY_S)
    log = RateLimitedLog(told.append, lambda: next(clock))
    monkeypatch.setattr(spill, "limit_log", lambda _: log)
    file = SpillFile()
    for number in range(5):
        with full_disk():
            assert isinstance(file.keep(bytes(SMALLEST + number)), bytes)
        assert isinstance(file.keep(bytes(SMALLEST + number)), SpilledText)
    assert told == ["/var/tmp can't be written, so documents stay in memory: No space left on device"]


def test_a_thread_that_goes_on_writes_into_no_other_file(tmp_path: Path) -> None:
    """While a process ends, its threads may still write. Another file could have the number of a closed one."""
    other = tmp_path / "other"
    done = subprocess.run([sys.executable, "-c", LATE_WRITE, other], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert other.read_bytes() == b""


LATE_WRITE = f"""
import atexit, os, sys

file = None

def write_late():
    for _ in range(8):
        os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    file.keep(b"a" * {SMALLEST})

atexit.register(write_late)  # what is registered later is called first
from sgdataplane.relay.spill import SpillFile
file = SpillFile()
"""


# a whole relay


def moves(store: MemoryStore, number: int) -> Revision:
    """One more rule, and an ENI with another address, by one commit."""
    puts = dict([FLEET.group(0, 2, more=100 + number), next(FLEET.eni(1, 3, move=1 + number))])
    revision = store.commit(Write({}, puts))
    return Revision(revision, puts, frozenset(), frozenset())


def filled() -> MemoryStore:
    store = MemoryStore()
    store.commit(Write({}, dict(FLEET.documents())))
    return store


def of_store(store: MemoryStore) -> Closures:
    """What hosts are to get, without a relay's documents."""
    return Closures(Documents.of(store.snapshot()))


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_full_disk_changes_nothing_for_hosts(when: str, caplog: pytest.LogCaptureFixture) -> None:
    store = filled()
    with tiny_texts():
        if when == "from the start":
            with full_disk() as tried:
                held = hold(store)
                closures = Closures(held, file=held.file)
            assert len(tried) > 100
            assert size_of(held.file) == 0
        else:
            held = hold(store)
            closures = Closures(held, file=held.file)
        with full_disk() as tried:
            held = held.after(change := moves(store, 1))
            heard = closures.step(held, change)
        assert {*heard} == {*HOSTS}
        assert tried
        assert [closures.of(host) for host in HOSTS] == [of_store(store).of(host) for host in HOSTS]
        assert len({record.getMessage() for record in caplog.records}) == 1, "it is told"
        before = size_of(held.file)
        held = held.after(change := moves(store, 2))
        closures.step(held, change)
        assert [closures.of(host) for host in HOSTS] == [of_store(store).of(host) for host in HOSTS]
        assert size_of(held.file) > before or when == "later", "there is room again"


@settings(max_examples=30, database=None)
@given(st.integers(0, 1 << 40), st.booleans())
def test_a_changed_bit_gives_no_host_anything_wrong(bit: int, is_changed: bool) -> None:
    """Each host gets what it should. From the first text on that is damaged, nobody gets anything."""
    store = filled()
    with tiny_texts():
        held = hold(store)
        closures = Closures(held, file=held.file)
        flip(held.file, bit % (8 * size_of(held.file)))
        is_whole = True
        try:
            if is_changed:
                held = held.after(change := moves(store, 1))
                closures.step(held, change)
        except DamagedError:
            is_whole = False
        expected = of_store(store)
        for host in HOSTS:
            try:
                assert closures.of(host) == expected.of(host)
                assert is_whole
            except DamagedError:
                is_whole = False


def test_a_relay_ends_when_the_disk_is_wrong() -> None:
    """Whoever starts it again reads the store anew."""

    async def run() -> tuple[Exception, int]:
        store, failed = filled(), asyncio.get_running_loop().create_future()
        relay = Relay(hold(store))
        with Watcher(store, relay, failed.set_result):
            zero(relay.documents.file)
            revision = moves(store, 1).revision
            error: Exception = await asyncio.wait_for(failed, DEADLINE_S)
        for host in HOSTS:
            with pytest.raises(DamagedError):
                relay.closures.of(host)
        return error, revision

    with tiny_texts():
        error, revision = asyncio.run(run())
    assert (type(error), revision) == (DamagedError, 2)
    assert str(error) == "/var/tmp: what was written there isn't what is read now"


def test_an_idle_relay_ends_when_the_disk_is_wrong() -> None:
    """A host that comes is the first one to notice."""

    async def run() -> Exception:
        store, failed = filled(), asyncio.get_running_loop().create_future()
        relay = Relay(hold(store))
        with Watcher(store, relay, failed.set_result):
            zero(relay.documents.file)
            with pytest.raises(DamagedError):
                relay.closures.digests(HOSTS[0])
            error: Exception = await asyncio.wait_for(failed, DEADLINE_S)
            return error

    with tiny_texts():
        assert isinstance(asyncio.run(run()), DamagedError)


@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Lines, "change"), (Topics, "put_group"), (Topics, "put_eni"), (Topics, "hosts_in"), (Stream, "note")],
)
def test_a_step_that_ends_in_its_middle_is_seen_by_nobody(owner: type, name: str, calls: int) -> None:
    """Whatever the error is, and wherever it happens; and the relay ends with it."""

    async def run() -> Exception:
        store, failed = filled(), asyncio.get_running_loop().create_future()
        relay = Relay(hold(store))
        relay.streams = {host: Stream(host, cast(ServerConnection, None)) for host in HOSTS}
        loop = threading.current_thread()
        assert relay.closures.of(HOSTS[0])
        assert summary_of(relay, 0.0)["seen"] == 1
        with Watcher(store, relay, failed.set_result), fail_after(owner, name, calls, loop):
            puts = dict([FLEET.group(0, 2, more=100), FLEET.group(1, 2, more=100)])
            puts |= [*FLEET.eni(0, 3, move=1)][:1] + [*FLEET.eni(1, 3, move=1)][:1]
            store.commit(Write({}, puts))
            error: Exception = await asyncio.wait_for(failed, DEADLINE_S)
        for host in HOSTS:
            with pytest.raises(DamagedError, match="an error has ended a step in its middle"):
                relay.closures.digests(host)
        with pytest.raises(DamagedError):
            summary_of(relay, 0.0)
        return error

    assert isinstance(asyncio.run(run()), ZeroDivisionError)


@contextmanager
def fail_after(owner: type, name: str, calls: int, thread: threading.Thread) -> Iterator[None]:
    """A function fails in a thread after so many calls there."""
    inner, left = getattr(owner, name), iter(range(calls))

    def fail(*arguments: object, **named: object) -> object:
        if threading.current_thread() is thread and next(left, None) is None:
            raise ZeroDivisionError
        return inner(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


def test_documents_of_one_revision_stay_while_the_next_are_there() -> None:
    store = filled()
    with tiny_texts():
        held = hold(store)
        before = {kind: dict(bodies.items()) for kind, bodies in held.of_kind.items()}
        after = held.after(moves(store, 1))
        for number in range(2, 30):
            after = after.after(moves(store, number))
        assert {kind: dict(bodies.items()) for kind, bodies in held.of_kind.items()} == before
        for kind, found in Documents.of(store.snapshot()).of_kind.items():
            states = {name: state_in(body) for name, body in after.of_kind[kind].items()}
            assert states == {name: state_in(body) for name, body in found.items()}
