"""Every store, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import Store
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.run.memorystore import MemoryStore
from tests.support.servers.etcdserver import Members, running


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """Where a test's stores are."""

    def __init__(self, request: pytest.FixtureRequest, path: Path, clock: Clock) -> None:
        self._request, self.path, self.clock = request, path, clock

    @property
    def access(self) -> EtcdAccess:
        """A name in etcd that is this test's alone."""
        return EtcdAccess.of(self._request.getfixturevalue("etcd_name"))


MAKERS: dict[str, Callable[[Place, int], Store]] = {
    "memory": lambda place, kept: MemoryStore(kept=kept, clock=place.clock),
    "sqlite": lambda place, kept: SqliteStore(place.path / "store", kept=kept, clock=place.clock),
    "etcd": lambda place, kept: EtcdStore(place.access, kept=kept, clock=place.clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """It keeps 120 revisions for those who watch."""
    made = MAKERS[request.param](Place(request, tmp_path, clock), 120)
    yield made
    made.close()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """One member, for all tests that don't hurt it."""
    with running(tmp_path_factory.mktemp("etcd")) as members:
        yield members


@pytest.fixture(scope="session")
def etcd_names() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def etcd_name(etcd: Members, etcd_names: Iterator[int]) -> str:
    """As `--store` names it."""
    return f"{etcd.store}/t{next(etcd_names)}"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store")
    yield made
    made.close()
