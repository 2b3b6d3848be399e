"""How many hosts have come how far, and for how long the slowest one hasn't: from what relays write."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sgdataplane.control.hosts.lags import HostCounts, HostLags
from sgdataplane.control.hosts.status import HostBoard, HostStanding
from sgdataplane.store.documents import Documents
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Json, Write
from tests.support.inputs.summaries import host, summary
from tests.support.run.memorystore import MemoryStore

NOW = 1_000_000.0


class Site:
    """A store with the hosts a and b, and an API that looks at it. `passed`: seconds since it began."""

    def __init__(self) -> None:
        self.store, self.passed = MemoryStore(), 0.0
        self.board = HostBoard(self.store, lambda: NOW + self.passed)
        self.lags = HostLags(lambda: Documents.of(self.store.snapshot()), self.board, lambda: self.passed)
        self.commit(*(StoredHost(name, 1.0) for name in ("a", "b")))

    def commit(self, *hosts: StoredHost) -> int:
        return self.store.commit(Write({}, {one.path: one.body() for one in hosts}))

    def after(self, seconds: float, said: Mapping[str, dict[str, Json]] | None = None, seen: int = 0) -> HostCounts:
        """What is counted then, if a relay has said that last."""
        self.passed += seconds
        if said is not None:
            self.store.put_summary("r", summary(seen, said, time=NOW + self.passed))
        self.board.look()
        return self.lags.look()


@pytest.fixture
def site() -> Site:
    return Site()


def counted(counts: HostCounts) -> dict[str, int]:
    return {standing.value: count for standing, count in counts.standings.items() if count}


def test_hosts_are_counted_by_standing(site: Site) -> None:
    assert counted(site.after(0)) == {"Unknown": 2}
    found = site.after(1, {"a": host(1), "b": host(0, 1)}, seen=1)
    assert (counted(found), found.relays) == ({"Enforced": 1, "Lagging": 1}, 1)
    found = site.after(1, {"a": host(1), "b": host(0, 1, error="disk full")}, seen=1)
    assert counted(found) == {"Enforced": 1, "Failed": 1}
    assert set(found.standings) == set(HostStanding), "those that none has are counted, too"


def test_one_that_is_revoked_or_was_never_added_isnt_counted(site: Site) -> None:
    site.commit(StoredHost("b", 1.0, is_revoked=True))
    found = site.after(5, {"a": host(2), "b": host(0), "stranger": host(0)}, seen=2)
    assert (counted(found), found.lag_s) == ({"Enforced": 1}, 0)


def test_a_silent_relay_isnt_counted(site: Site) -> None:
    assert site.after(0, {"a": host(1), "b": host(1)}, seen=1).relays == 1
    found = site.after(20)
    assert (found.relays, counted(found), found.lag_s) == (0, {"Unknown": 2}, 20)


def test_the_lag_is_that_of_the_slowest(site: Site) -> None:
    assert site.after(0).lag_s == 0, "nothing is known from before"
    assert site.after(10).lag_s == 10, "no host was ever heard"
    assert site.after(10, {"a": host(1), "b": host(1)}, seen=1).lag_s == 0
    site.commit()
    for seconds in (10, 20, 30):
        found = site.after(10, {"a": host(1, 1), "b": host(1, 2)}, seen=2)
        assert (found.lag_s, counted(found)) == (seconds, {"Enforced": 1, "Lagging": 1})
    assert site.after(10, {"a": host(1, 1), "b": host(2)}, seen=2).lag_s == 0


def test_a_host_that_follows_commits_lags_no_longer_than_between_two_askings(site: Site) -> None:
    """It is always one behind."""
    site.after(0, {"a": host(1), "b": host(1)}, seen=1)
    for revision in range(2, 90):
        site.commit()
        found = site.after(15, {"a": host(revision - 1, revision), "b": host(revision)}, seen=revision)
        assert (found.lag_s, counted(found)) == (15, {"Enforced": 1, "Lagging": 1})


def test_what_did_not_concern_a_host_is_no_lag_of_it(site: Site) -> None:
    site.after(0, {"a": host(1), "b": host(1)}, seen=1)
    for revision in range(2, 10):
        site.commit()
        assert site.after(60, {"a": host(1), "b": host(1)}, seen=revision).lag_s == 0
    site.commit()
    assert site.after(1, {"a": host(1, 10), "b": host(1)}, seen=10).lag_s == 1


def test_a_host_that_fails_lags_since_it_last_did_not(site: Site) -> None:
    site.after(0, {"a": host(1), "b": host(1)}, seen=1)
    said: dict[str, dict[str, Json]] = {"a": host(1), "b": host(1, failed=[{"eni": "eni-1", "why": "refused"}])}
    assert [site.after(10, said, seen=1).lag_s for _ in range(3)] == [10, 20, 30]


def test_without_the_store_the_last_word_gets_old(site: Site) -> None:
    site.after(0, {"a": host(1), "b": host(1)}, seen=1)
    site.store.close()
    documents = Documents.of(MemoryStore().snapshot())
    lags = HostLags(lambda: documents, site.board, lambda: site.passed)
    assert lags.look().relays == 1
    site.passed += 20
    assert lags.look().relays == 0
