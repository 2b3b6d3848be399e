"""What nobody has foreseen ends a relay, or a stream, instead of leaving it there in silence."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.cli.output import Exit
from sgdataplane.control.sqlite import SqliteStore
from sgdataplane.control.store import Write
from tests.support.flood import DEADLINE
from tests.support.relaying import Plant, RawHost, Running, url_of


def test_a_relay_that_cannot_follow_ends(relay: Running, store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """A document that isn't what all of its kind are."""
    with RawHost(plant, url_of(relay), "host-1") as host:
        assert host.greet().puts
        store.commit(Write({}, {"security_group/odd": {"state": {"rules": [7]}}}))
        assert relay.process.wait(DEADLINE) == Exit.INTERNAL
        relay.wait_for("Error")
    again = plant.relay(store_file)
    assert again.process.wait(DEADLINE) == Exit.INTERNAL
