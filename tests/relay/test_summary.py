"""What a relay says of its hosts in the store."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.relaying import Plant, hosts_of, set_ports, url_of, write_state


def test_a_relay_says_what_each_host_needs_and_has(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    first = write_state(store, state_of(WEB), {"eni-a": "host-1"})
    relay = plant.relay(store_file, 0, "--name", "relay-1")
    sync = plant.sync("host-1", url_of(relay))
    plant.sync("host-2", url_of(relay))
    wait_until(lambda: all(hosts_of(store).get(host, {}).get("age") is not None for host in ("host-1", "host-2")))
    assert set(store.summaries()) == {"relay-1"}
    found = hosts_of(store)["host-1"]
    assert (found["connected"], found["enforced"], found["needed"]) == (True, None, first)
    assert "no agent" in found["error"]
    later = set_ports(store, "sg-a", DNS)
    wait_until(lambda: bool(hosts_of(store)["host-1"]["needed"] == later))
    assert hosts_of(store)["host-2"]["needed"] == first, "nothing of it has changed"
    sync.end()
    wait_until(lambda: not hosts_of(store)["host-1"]["connected"])
    assert hosts_of(store)["host-2"]["connected"]
    assert next(iter(store.summaries().values()))["seen"] == later
