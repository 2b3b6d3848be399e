"""From the store to a host's folder: a real relay and a real sync, as processes."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.handover.publishing import Publisher
from sgdataplane.store.interface import Write
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.relaying import Plant, ports_in, rebind, set_ports, url_of, write_state


def test_a_change_of_the_store_arrives_as_a_generation(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    sync = plant.sync("host-1", url_of(plant.relay(store_file)))
    folder = plant.folder_of("host-1")
    wait_until(lambda: ports_in(folder) == {WEB})
    revision = set_ports(store, "sg-a", DNS)
    wait_until(lambda: ports_in(folder) == {DNS})
    version = Publisher(folder).version()
    assert version is not None
    assert version.revision == revision
    assert sync.process.poll() is None


def test_a_host_that_has_no_eni_hears_of_none(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """Until one is bound to it; and the other one hears that it is gone."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    url = url_of(plant.relay(store_file))
    for host in ("host-1", "host-2"):
        plant.sync(host, url)
    one, two = map(plant.folder_of, ("host-1", "host-2"))
    wait_until(lambda: Publisher(one).version() is not None and Publisher(two).version() is not None)
    assert (ports_in(one), ports_in(two)) == ({WEB}, set())
    rebind(store, "eni-a", "host-2")
    wait_until(lambda: (ports_in(one), ports_in(two)) == (set(), {WEB}))


def test_both_end_at_sigterm_without_an_error(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    relay = plant.relay(store_file)
    sync = plant.sync("host-1", url_of(relay))
    wait_until(lambda: ports_in(plant.folder_of("host-1")) == {WEB})
    assert relay.end() == 0
    sync.wait_for("no stream from the relay")
    assert sync.end() == 0
    assert ports_in(plant.folder_of("host-1")) == {WEB}, "what is there stays"


def test_what_a_newer_api_has_besides_ends_no_relay(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """A kind of document that this version doesn't know: in the snapshot, and in a revision."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    store.commit(Write({}, {"later_kind/one": {"state": {"vpc_id": "vpc-1"}}}))
    relay = plant.relay(store_file)
    plant.sync("host-1", url_of(relay))
    folder = plant.folder_of("host-1")
    wait_until(lambda: ports_in(folder) == {WEB})
    store.commit(Write({}, {"later_kind/two": {"state": {}}}, frozenset({"later_kind/one"})))
    store.commit(Write({}, {}, frozenset({"later_kind/two"})))
    set_ports(store, "sg-a", DNS)
    wait_until(lambda: ports_in(folder) == {DNS})
    assert relay.process.poll() is None
