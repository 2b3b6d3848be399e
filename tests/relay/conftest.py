"""A store, and relays and hosts as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.control.sqlite import SqliteStore
from tests.support.relaying import Plant, plant_in


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
