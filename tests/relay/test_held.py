"""Documents as a relay holds them: hosts get the same, secrets aren't there, and they take little memory."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from bench.fleet import Fleet, host_name
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.model.state import CloudState
from sgdataplane.relay.closure import Closures
from sgdataplane.relay.held import HeldDocuments, PackedBodies, hold
from sgdataplane.relay.sent import MAX_MISSED, ResumePoint, ResumePoints, Sent
from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.streams import PackedHello
from sgdataplane.relay.wire import Hello, digest_of_all
from sgdataplane.store.documents import Documents, ResourceKind, about, name_of
from sgdataplane.store.history import EPOCH, Version
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Body, GoneError, Path, Reading, Revision, Write
from tests.support.inputs import gen
from tests.support.inputs.tenants import HOSTS, Tenants
from tests.support.run.memorystore import MemoryStore
from tests.support.run.spilling import tiny_texts, uncached


@settings(max_examples=8, database=None)
@given(gen.states(), gen.states(), st.integers(0, 1 << 32))
def test_hosts_get_the_same(one: CloudState, other: CloudState, number: int) -> None:
    with tiny_texts():
        tenants = Tenants((one, other), random.Random(number))
        held = HeldDocuments.read(reading(1, everything(tenants.documents)))
        closures, expected = Closures(held), Closures(tenants.documents)
        for _, after, change in tenants.revisions(10):
            held = held.after(change)
            assert closures.step(held, change) == expected.step(after, change)
            assert [closures.of(host) for host in HOSTS] == [expected.of(host) for host in HOSTS]


@settings(max_examples=8, database=None)
@given(gen.states(), gen.states(), st.integers(0, 1 << 32))
def test_a_snapshot_is_taken_over_as_one_revision(one: CloudState, other: CloudState, number: int) -> None:
    """Whatever came between: hosts get what they would get of the snapshot alone, and what didn't change isn't read."""
    with tiny_texts():
        tenants = Tenants((one, other), random.Random(number))
        held = HeldDocuments.read(reading(1, everything(tenants.documents)))
        closures, before = Closures(held), everything(tenants.documents)
        for _ in tenants.revisions(10):
            pass
        after = everything(tenants.documents)
        change = held.change_to(reading(11, after))
        assert change.deletes == before.keys() - after.keys()
        assert change.puts.keys() <= {path for path, body in after.items() if before.get(path) != body}
        held = held.after(change)
        closures.step(held, change)
        assert [closures.of(host) for host in HOSTS] == [Closures(tenants.documents).of(host) for host in HOSTS]
        assert not held.change_to(reading(12, after)).puts


def test_another_order_of_fields_is_no_change() -> None:
    group: Body = {"state": {"security_group_id": "sg-1", "vpc_id": "vpc-1"}, "about": {}}
    turned: Body = {"about": {}, "state": {"vpc_id": "vpc-1", "security_group_id": "sg-1"}}
    held = HeldDocuments.read(reading(1, {"security_group/sg-1": group}))
    assert not held.change_to(reading(2, {"security_group/sg-1": turned})).puts
    renamed: Body = {**turned, "state": {"vpc_id": "vpc-2", "security_group_id": "sg-1"}}
    assert held.change_to(reading(2, {"security_group/sg-1": renamed})).puts == {"security_group/sg-1": renamed}


def reading(revision: int, documents: Mapping[Path, Body]) -> Reading:
    return Reading(revision, iter(documents.items()))


def everything(documents: Documents) -> dict[str, Body]:
    return {f"{kind}/{name}": body for kind, found in documents.of_kind.items() for name, body in found.items()}


KEY: Body = {"state": {}, "about": {"secret": "sealed", "name": "k"}}
ENI: Body = {
    "state": {"network_interface_id": "eni-1", "vpc_id": "vpc-1", "security_group_ids": ["sg-1"]},
    "about": {"host": "a", "name": "a name", "tags": {"a": "b"}, "vswitch_id": "vsw-1"},
}


def test_what_no_host_needs_is_not_held() -> None:
    store = MemoryStore()
    puts = {"access_key/k": KEY, "network_interface/eni-1": ENI, "host/a": StoredHost("a", 1.0, is_revoked=True).body()}
    store.commit(Write({}, {**puts, EPOCH: {"state": {}, "about": {"epoch": 7}}, "vswitch/vsw-1": ENI}))
    held = hold(store)
    held = held.after(Revision(2, {"access_key/other": KEY}, frozenset({"vswitch/vsw-1"}), frozenset()))
    assert (held.get("access_key/k"), held.get("access_key/other"), held.get("vswitch/vsw-1")) == (None, None, None)
    assert held.get("network_interface/eni-1") == {**ENI, "about": {"host": "a"}}
    assert StoredHost.of("a", held.of_kind[ResourceKind.HOST]["a"]).is_revoked
    assert (held.version.epoch, held.version.revision) == (7, 2)
    assert "k" not in held.of_kind[ResourceKind.ACCESS_KEY]


class Busy(MemoryStore):
    """So much is committed while it is read for the first time that it can't be read on."""

    reads = 0

    @contextmanager
    def open_reading(self) -> Iterator[Reading]:
        with super().open_reading() as seen:
            self.reads += 1
            yield Reading(seen.revision, self._cut(seen) if self.reads == 1 else seen.documents)

    @staticmethod
    def _cut(seen: Reading) -> Iterator[tuple[Path, Body]]:
        yield next(seen.documents)
        raise GoneError("more was committed meanwhile than is kept")


def test_what_can_t_be_read_on_is_read_again() -> None:
    store = Busy()
    store.commit(Write({}, {"network_interface/eni-1": ENI, "network_interface/eni-2": ENI}))
    assert {*hold(store).of_kind[ResourceKind.ENI]} == {"eni-1", "eni-2"}
    assert store.reads == 2


def test_an_instance_keeps_its_tags() -> None:
    body: Body = {"state": {"instance_id": "i-1"}, "about": {"tags": {"sgdp:host": "b"}, "created": "now"}}
    held = HeldDocuments.read(reading(1, {"instance/i-1": body}))
    assert about(held.of_kind[ResourceKind.INSTANCE]["i-1"]) == {"tags": {"sgdp:host": "b"}}


MAX_BYTES, TIMES_LESS = 60, 30  # an ENI, with half an instance, its share of groups, and what leads to its hosts


def test_an_eni_takes_little_memory() -> None:
    """The texts that were used last don't count, as there are no more of them beside more ENIs.

    One of two measurements is enough: Python's own table of interned strings may double in one of them, and takes 4 MB
    more then.
    """
    fleet = Fleet(600)
    assert any(is_little(*measure(fleet), fleet.enis) for _ in range(2))


def is_little(small: int, whole: int, enis: int) -> bool:
    print(f"bytes an ENI: {small / enis:.1f} of {whole / enis:.1f}")
    return small < MAX_BYTES * enis and small * TIMES_LESS < whole


def measure(fleet: Fleet) -> tuple[int, int]:
    """The bytes of memory that a relay takes beside a fleet, and those of the fleet's documents."""
    with uncached():
        file = SpillFile()
    tracemalloc.start()
    try:
        documents = dict(fleet.documents())
        whole = tracemalloc.get_traced_memory()[0]
        held = HeldDocuments.read(reading(1, documents), file)
        closures = Closures(held, file=file)
        small = tracemalloc.get_traced_memory()[0] - whole
    finally:
        tracemalloc.stop()
    assert len(closures.hosts()) == fleet.hosts
    return small, whole


def test_what_was_sent_takes_little_and_says_the_same() -> None:
    digests = {hash(f"network_interface/eni-{number}"): number.to_bytes(16, "big") for number in range(400)}
    with uncached():
        file = SpillFile()
    tracemalloc.start()
    try:
        sent = [Sent.of(digests, file) for _ in range(10)]
        size = tracemalloc.get_traced_memory()[0] / len(sent)
    finally:
        tracemalloc.stop()
    assert all(one.by_path() == digests for one in sent)
    assert all(one.digest_of_all() == digest_of_all(digests.values()) for one in sent)
    few = {-1: bytes(16), 1: bytes(range(16))}
    assert Sent.of(few, file).by_path() == few
    assert (Sent().by_path(), Sent().digest_of_all()) == ({}, digest_of_all(()))
    assert size < 300, "what finds them on disk"


def resume_point(*missed: str) -> ResumePoint:
    return ResumePoint(Sent(), frozenset(missed))


def test_the_oldest_resume_points_are_forgotten_and_another_digest_finds_none() -> None:
    points, nothing = ResumePoints(most=2), Sent().digest_of_all()
    for host in ("host-1", "host-2", "host-1", "host-3"):
        points.keep(host, resume_point(host))
    assert points.find("host-1", nothing) == resume_point("host-1")
    assert points.find("host-2", nothing) is None
    assert points.find("host-3", nothing) == resume_point("host-3")
    assert [points.find("host-1", digest) for digest in ("b" * 32, "")] == [None, None]
    points.forget("host-1")
    points.forget("host-2")
    assert points.find("host-1", nothing) is None


def test_a_host_that_misses_too_much_isn_t_resumed() -> None:
    points, nothing = ResumePoints(), Sent().digest_of_all()
    many = [f"group/sg-{number}" for number in range(MAX_MISSED)]
    points.keep("host-1", resume_point("group/sg-a"))
    points.note("host-1", many[1:])
    points.note("host-2", ["group/sg-a"])
    assert points.find("host-1", nothing) == resume_point("group/sg-a", *many[1:])
    assert points.find("host-2", nothing) is None
    points.note("host-1", many[:1])
    assert points.find("host-1", nothing) is None
    points.keep("host-1", resume_point("group/sg-a", *many))
    assert points.find("host-1", nothing) is None


def test_a_hello_that_waits_takes_little_and_says_the_same() -> None:
    digests = {f"network_interface/eni-{number:017x}": f"{number:032x}" for number in range(400)}
    hello = Hello("1", Version(0, 7), digests)
    tracemalloc.start()
    try:
        packed = PackedHello.of(hello)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert packed.unpack() == hello
    assert PackedHello.of(Hello("1")).unpack() == Hello("1")
    assert size < 80 * len(digests), "a dict of texts takes 200 bytes each"


def test_a_document_is_read_once_for_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay unpacks a document each time that it reads it."""
    fleet, read = Fleet(20), Counter[str]()
    held = HeldDocuments.read(reading(1, dict(fleet.documents())))
    closures, unpack = Closures(held), PackedBodies.__getitem__

    def count(bodies: PackedBodies, name: str) -> Body:
        read[name] += 1
        return unpack(bodies, name)

    monkeypatch.setattr(PackedBodies, "__getitem__", count)
    digests, _ = closures.digests(host_name(0))
    assert {name_of(path) for path in digests} <= read.keys()
    assert {*read.values()} == {1}
