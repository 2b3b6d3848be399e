"""The metrics of real relays and syncs: they show what happens to streams, and no peer chooses what is in them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgdataplane.relay.metrics import RELAY_METRICS, SYNC_METRICS
from sgdataplane.relay.wire import Hello, Reported
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.sqlite.store import SqliteStore
from tests.control.test_served import Service
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.etcdserver import running as etcd
from tests.support.servers.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    port_of,
    ports_in,
    put_host,
    set_ports,
    url_of,
    version_in,
    write_state,
)
from tests.support.servers.scraping import get, scrape

DAY = 86_400


@dataclass
class Measured:
    """A process that serves metrics. `kind`: relay or sync."""

    kind: str
    port: int
    running: Running

    def value(self, name: str, **labels: str) -> float:
        return scrape(self.port).value(f"{self.kind}_{name}", **labels)

    def reaches(self, expected: float, name: str, **labels: str) -> None:
        wait_until(lambda: self.value(name, **labels) == expected, must=False)
        assert self.value(name, **labels) == expected, (name, labels)


@pytest.fixture
def measured(store: SqliteStore, store_file: Path, plant: Plant) -> Measured:
    """A relay; its store has one ENI, which is host-1's."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    port, options = plant.measured()
    relay = plant.relay(store_file, 0, *options)
    url_of(relay)
    wait_until(lambda: get_or_nothing(port) == 200)
    return Measured("relay", port, relay)


def get_or_nothing(port: int) -> int:
    try:
        return get(port)[0]
    except ConnectionRefusedError:
        return 0


@contextmanager
def raw(measured: Measured, plant: Plant, name: str, hello: Hello = Hello("test")) -> Iterator[RawHost]:  # noqa: B008
    with RawHost(plant, url_of(measured.running), name) as host:
        host.greet(hello)
        yield host


def test_each_metric_is_served_with_all_values_of_its_label(measured: Measured, plant: Plant) -> None:
    port, options = plant.measured()
    plant.sync("host-1", url_of(measured.running), more=options)
    wait_until(lambda: get_or_nothing(port) == 200)
    for kind, at, metrics in (("relay", measured.port, RELAY_METRICS), ("sync", port, SYNC_METRICS)):
        found = scrape(at)
        for name, told in metrics.items():
            values = {
                sample.labels.get(told.label) for sample in found.samples if sample.name.endswith(f"{kind}_{name}")
            }
            assert values == set(told.values or [None]), name
        labels = {label for sample in found.samples for label in sample.labels}
        assert labels <= {told.label for told in metrics.values()} | {"version", "python"}


def test_a_relay_counts_streams_and_what_is_said(store: SqliteStore, measured: Measured, plant: Plant) -> None:
    assert measured.value("streams") == 0
    with raw(measured, plant, "host-1") as host:
        measured.reaches(1, "streams")
        assert measured.value("answers_total", kind="snapshot") == 1
        assert measured.value("lagging_hosts") == 1
        host.say(Reported(Version(0, 1), (("eni-a", "refused"),), claims=("eni-none",)))
        measured.reaches(0, "lagging_hosts")
        measured.reaches(1, "failing_hosts")
        measured.reaches(1, "claims_refused")
        revision = set_ports(store, "sg-a", DNS)
        measured.reaches(revision, "revision")
        measured.reaches(1, "lagging_hosts")
        assert measured.value("revisions_total") == 1
        assert measured.value("messages_total", kind="change") == 2
        assert measured.value("messages_total", kind="report") == 1
        assert measured.value("received_bytes_total") > 100
        assert measured.value("sent_bytes_total") > 400
    measured.reaches(0, "streams")
    measured.reaches(1, "left_hosts")
    assert measured.value("streams_ended_total", reason="closed") == 1
    with raw(measured, plant, "host-1", Hello("test", Version(0, 1))):
        measured.reaches(1, "answers_total", kind="resumed")
        measured.reaches(0, "left_hosts")


def test_each_refusal_is_counted_by_its_reason(store: SqliteStore, measured: Measured, plant: Plant) -> None:
    url = url_of(measured.running)
    for name, text in (("host-3", "{}"), ("host-4", '{"kind": "hello", "protocol": 99}')):
        with RawHost(plant, url, name) as host:
            host.say(text)
            assert host.end()[0] > 4000
    with RawHost(plant, url, "No Host") as host:
        assert host.end()[0] == 4001
    with raw(measured, plant, "host-1") as first, raw(measured, plant, "host-1"):
        assert first.end()[0] == 4004
        put_host(store, StoredHost("host-1", 1.0, is_revoked=True))
        measured.reaches(1, "streams_ended_total", reason="revoked")
    with RawHost(plant, url, "host-1") as host:  # it need not say anything
        assert host.end()[0] == 4001
    for reason, count in {
        "bad message": 1,
        "other protocol": 1,
        "certificate": 1,
        "newer stream": 1,
        "revoked": 2,
    }.items():
        measured.reaches(count, "streams_ended_total", reason=reason)
    assert measured.value("streams_ended_total", reason="closed") == 0


def test_a_relay_without_its_store_shows_since_when(plant: Plant, tmp_path: Path) -> None:
    with etcd(tmp_path / "etcd") as members:
        port, options = plant.measured()
        measured = Measured("relay", port, plant.relay(members.store, 0, *options))
        url_of(measured.running)
        wait_until(lambda: get_or_nothing(port) == 200)
        read = measured.value("store_read_timestamp_seconds")
        wait_until(lambda: measured.value("store_read_timestamp_seconds") > read)
        members.stop()
        wait_until(lambda: measured.value("errors_total", kind="store") > 0)
        stands, errors = measured.value("store_read_timestamp_seconds"), measured.value("errors_total", kind="store")
        wait_until(lambda: measured.value("errors_total", kind="store") > errors)
        assert measured.value("store_read_timestamp_seconds") == stands
        members.start()
        wait_until(lambda: measured.value("store_read_timestamp_seconds") > stands)


def test_certificates_show_when_they_end(measured: Measured) -> None:
    for certificate in ("own", "authority"):
        left = measured.value("certificate_expiry_timestamp_seconds", certificate=certificate) - time.time()
        assert 0.9 * DAY < left <= DAY, "the authority of tests signs for a day"


def test_a_sync_shows_how_far_it_is(store: SqliteStore, measured: Measured, plant: Plant, store_file: Path) -> None:
    url, (port, options) = url_of(measured.running), plant.measured()
    sync = Measured("sync", port, plant.sync("host-1", url, more=options))
    folder = plant.folder_of("host-1")
    wait_until(lambda: ports_in(folder) == {WEB})
    sync.reaches(1, "connected")
    revision = set_ports(store, "sg-a", DNS)
    for stage in ("received", "written"):
        sync.reaches(revision, "revision", stage=stage)
    assert sync.value("revision", stage="enforced") == 0
    assert sync.value("generations_total") == 2
    assert sync.value("error") == 1, "there is no agent"
    assert time.time() - sync.value("relay_heard_timestamp_seconds") < 5
    measured.running.end()
    sync.reaches(0, "connected")
    wait_until(lambda: sync.value("failures_total", kind="unreachable") > 0)
    assert sync.value("failures_total", kind="ended") == 1
    heard = sync.value("relay_heard_timestamp_seconds")
    plant.relay(store_file, port_of(url))
    sync.reaches(1, "connected")
    assert sync.value("relay_heard_timestamp_seconds") > heard
    assert version_in(folder).revision == revision


def test_a_generation_that_cant_be_written_is_counted(store: SqliteStore, measured: Measured, plant: Plant) -> None:
    port, options = plant.measured()
    sync = Measured("sync", port, plant.sync("host-1", url_of(measured.running), more=options))
    folder = plant.folder_of("host-1")
    wait_until(lambda: ports_in(folder) == {WEB})
    assert sync.value("failures_total", kind="publish") == 0
    current = folder / "current"
    current.unlink()
    current.mkdir()
    (current / "x").touch()  # no link can take its place
    revision = set_ports(store, "sg-a", DNS)
    wait_until(lambda: sync.value("failures_total", kind="publish") > 0)
    assert sync.value("revision", stage="received") == revision > sync.value("revision", stage="written")


@contextmanager
def served(store: Path) -> Iterator[Service]:
    api = Service(store, keys=("full",))
    try:
        yield api
    finally:
        api.stop(kill=True)


def test_the_api_counts_hosts(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """By what a real relay says of them."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"}, ("host-1", "host-2"))
    with served(store_file) as api:
        at = Measured("api", port_of(api.url), plant.relay(store_file))
        at.reaches(2, "hosts", standing="unknown")
        at.reaches(1, "relays")
        with raw(at, plant, "host-1") as one, raw(at, plant, "host-2") as two:
            at.reaches(2, "hosts", standing="lagging")
            last = store.snapshot().revision
            one.say(Reported(Version(0, last)))
            two.say(Reported(Version(0, last - 1), error="disk full"))
            at.reaches(1, "hosts", standing="enforced")
            at.reaches(1, "hosts", standing="failed")
            wait_until(lambda: at.value("hosts_lag_seconds") > 1)
            two.say(Reported(Version(0, last)))
            at.reaches(2, "hosts", standing="enforced")
            at.reaches(0, "hosts_lag_seconds")


def test_an_address_that_is_taken_ends_no_relay(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """It is told, and once the address is free, metrics are there."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    port, options = plant.measured()
    with occupied(port):
        relay = plant.relay(store_file, 0, *options)
        relay.wait_for(rf"metrics aren't served at {HERE}:{port}: Address already in use")
        plant.sync("host-1", url_of(relay))
        wait_until(lambda: ports_in(plant.folder_of("host-1")) == {WEB})
    wait_until(lambda: get_or_nothing(port) == 200)
    assert relay.process.poll() is None


@contextmanager
def occupied(port: int) -> Iterator[None]:
    with socket.create_server((HERE, port)):
        yield


@pytest.mark.slow
def test_two_relays_of_one_name_are_told(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """And only they: a relay that starts anew under its own name isn't."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    port, options = plant.measured()
    first = Measured("relay", port, plant.relay(store_file, 0, "--name", "same", *options))
    url_of(first.running)
    plant.relay(store_file, 0, "--name", "other")
    wait_until(lambda: set(store.summaries()) == {"same", "other"})
    assert first.running.found("also called") is None
    second = plant.relay(store_file, 0, "--name", "same")
    for relay in (first.running, second):
        relay.wait_for(
            "another relay is also called same, and each of them writes over what the other one says: rename"
        )
    assert first.value("name_taken") == 1
    first.running.end()
    second.end()
    again = plant.relay(store_file, 0, "--name", "same")
    url_of(again)
    began = store.summaries()["same"]["time"]
    assert isinstance(began, float)
    wait_until(lambda: float(str(store.summaries()["same"]["time"])) > began + 11)
    assert again.found("also called") is None
