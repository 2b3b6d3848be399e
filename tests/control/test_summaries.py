"""What relays say of their hosts, in every store."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sgdataplane.store.etcd import summaries
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import SUMMARY_S, Body, Store, Write
from tests.control.conftest import Clock
from tests.control.test_etcd import require_history
from tests.control.test_store import DEADLINE_S, ODD_TEXTS, put
from tests.support.run.memorystore import MemoryStore
from tests.support.servers.etcdserver import Members


def test_a_summary_takes_the_place_of_the_one_before_it(store: Store) -> None:
    assert store.summaries() == {}
    for relay, number in (("r1", 1), ("r2", 2), ("r1", 3)):
        store.put_summary(relay, {"n": number})
    assert store.summaries() == {"r1": {"n": 3}, "r2": {"n": 2}}


def test_a_summary_is_no_revision(store: Store) -> None:
    put(store, "kind/id", {"n": 1})
    before = store.snapshot()
    store.put_summary("r1", {"n": 1})
    assert store.snapshot() == before
    assert list(store.watch(1, timeout=0)) == []
    assert len(store.events()) == 1
    assert put(store, "kind/id", {"n": 2}) == 2


def test_a_summary_is_forgotten_a_day_after_it_was_put(store: Store, clock: Clock) -> None:
    store.put_summary("r1", {})
    clock.now += SUMMARY_S - 1
    store.put_summary("r2", {})
    assert set(store.summaries()) == {"r1", "r2"}
    clock.now += 1
    assert set(store.summaries()) == {"r2"}


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if text != "\ud800"], ids=ascii)
def test_any_summary_comes_back_as_it_was(store: Store, text: str) -> None:
    body: Body = {text: [text, {"in": "\ud800"}], "none": None, "float": 1.5}
    store.put_summary(text, body)
    assert store.summaries() == {text: body}


def test_a_large_summary(store: Store) -> None:
    host: Body = {"connected": True, "enforced": [0, 12345], "claims": [f"eni-{number:017d}" for number in range(20)]}
    body: Body = {"hosts": {f"host-{number}": dict(host) for number in range(1_250)}}
    written, whole = store.put_summary("r1", body), len(json.dumps(body))
    assert written < (whole + 1 if isinstance(store, MemoryStore) else whole / 5)
    assert store.summaries() == {"r1": body}


@pytest.mark.parametrize(("relay", "body"), [("\ud800", {}), ("r1", {"n": float("nan")})])
def test_a_summary_that_no_store_can_hold_is_refused(store: Store, relay: str, body: Body) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own words)
        store.put_summary(relay, body)
    assert store.summaries() == {}


def test_a_summary_is_out_of_reach(store: Store) -> None:
    inner: list[object] = [1]
    store.put_summary("r1", {"inner": inner})  # type: ignore[dict-item]
    inner.append(2)
    store.summaries()["r1"]["inner"].append(3)  # type: ignore[union-attr]
    assert store.summaries() == {"r1": {"inner": [1]}}


def test_relays_put_summaries_while_others_commit(store: Store) -> None:
    def say(relay: int) -> None:
        for number in range(10):
            store.put_summary(f"r{relay}", {"n": number})

    def write(part: int) -> None:
        for number in range(10):
            put(store, f"kind/{part}-{number}", {"n": number})

    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(work, part) for work in (say, write) for part in range(4)]
        for one in done:
            one.result(DEADLINE_S)
    assert store.summaries() == {f"r{relay}": {"n": 9} for relay in range(4)}
    assert store.snapshot().revision == 40


def test_etcd_doesn_t_keep_what_summaries_were_before(
    etcd: Members, etcd_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody commits meanwhile, and all goes on: watches, and commits that would compact, too."""
    monkeypatch.setattr(summaries, "COMPACT_S", 0.0)
    with closing(EtcdStore(EtcdAccess.of(etcd_name), kept=5)) as store:
        for number in range(1, 4):
            store.commit(Write({}, {"kind/id": {"n": number}}))
        for number in range(20):
            store.put_summary("r1", {"n": number})
        key = EtcdAccess.of(etcd_name).name + "/summary/r1"
        with pytest.raises(AssertionError, match="compacted"):
            require_history(etcd, key, 10)
        for number in range(4, 11):
            store.commit(Write({}, {"kind/id": {"n": number}}))
        assert [change.revision for change in store.watch(5, timeout=0)] == [6, 7, 8, 9, 10]
        assert store.summaries() == {"r1": {"n": 19}}
    assert caplog.messages == []
