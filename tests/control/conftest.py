"""Every store, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.control.memory import MemoryStore
from sgdataplane.control.sqlite import SqliteStore
from sgdataplane.control.store import Store


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


MAKERS: dict[str, Callable[[Path, int, Clock], Store]] = {
    "memory": lambda _, kept, clock: MemoryStore(kept=kept, clock=clock),
    "sqlite": lambda path, kept, clock: SqliteStore(path / "store", kept=kept, clock=clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """It keeps 120 revisions for those who watch."""
    made = MAKERS[request.param](tmp_path, 120, clock)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store")
    yield made
    made.close()
