"""A store, and relays and hosts as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.run.warmprocess import warm_programs
from tests.support.scenes.attachbench import WEB, state_of
from tests.support.servers.relaying import Plant, Running, plant_in, write_state


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Relays and syncs fork from a process that has imported everything."""
    with warm_programs(tmp_path_factory.mktemp("warm")):
        yield


@pytest.fixture
def store_file(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(store_file: Path) -> Iterator[SqliteStore]:
    """What tests write; relays open its file."""
    made = SqliteStore(store_file)
    yield made
    made.close()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with plant_in(tmp_path / "plant") as plant:
        yield plant


@pytest.fixture
def relay(store: SqliteStore, store_file: Path, plant: Plant) -> Running:
    """Its store has one ENI, which is host-1's."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    return plant.relay(store_file)


@pytest.fixture
def folder(plant: Plant) -> Path:
    """Where host-1's generations are."""
    return plant.folder_of("host-1")
