"""What a watch of the store in etcd asks for, on one member."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.client import Cluster
from sgdataplane.store.etcd.messages import Message
from sgdataplane.store.etcd.store import AT_ONCE, EtcdStore
from sgdataplane.store.interface import Write

DEADLINE_S = 60.0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the thread that tests."""
    found, tester, call = list[str](), threading.get_ident(), Cluster.call

    def note(cluster: Cluster, request: Message) -> Message:
        if threading.get_ident() == tester:
            found.append(request.DESCRIPTOR.name)
        return call(cluster, request)

    monkeypatch.setattr(Cluster, "call", note)
    return found


def test_a_watch_that_waits_for_nothing_asks_again_only_if_there_is_more(etcd_name: str, asked: list[str]) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        for _ in range(AT_ONCE):
            store.commit(Write({}))
        asked.clear()
        assert len(list(store.watch(0, timeout=0))) == AT_ONCE
        assert len(asked) == 1
        store.commit(Write({}))
        asked.clear()
        assert len(list(store.watch(0, timeout=0))) == AT_ONCE + 1
        assert len(asked) == 2


def test_a_watch_that_has_read_all_hears_of_each_further_commit(etcd_name: str) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store, closing(EtcdStore(EtcdAccess.of(etcd_name))) as other:
        changes = store.watch(0, timeout=DEADLINE_S)
        for revision in range(1, 6):  # the first ones may come before etcd's own watch does
            other.commit(Write({}))
            assert next(changes).revision == revision
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(next, changes)
            other.commit(Write({}))
            assert told.result(DEADLINE_S).revision == 6
