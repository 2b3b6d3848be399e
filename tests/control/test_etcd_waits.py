"""etcd's watch wakes those who wait for summaries of relays, and ends when nobody waits any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.client import WatchNotifier
from sgdataplane.store.etcd.messages import Message
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.etcd.summaries import Mark
from tests.support.probes.flood import DEADLINE
from tests.support.servers.etcdserver import until


@pytest.fixture
def store(etcd_name: str) -> Iterator[EtcdStore]:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        yield store


def test_who_waits_for_summaries_is_woken_by_the_next_one_and_only_then(store: EtcdStore) -> None:
    store.await_summaries(store.new_summaries().mark, DEADLINE)  # which begins to listen
    mark = store.new_summaries().mark
    assert isinstance(mark, Mark)
    store.await_summaries(mark, 0.2)
    assert store._summaries.notifier.notices == mark.notices, "nothing was written"
    timer = threading.Timer(0.2, store.put_summary, ("r1", {"n": 1}))
    timer.start()
    began = time.monotonic()
    store.await_summaries(mark, DEADLINE)
    assert time.monotonic() - began < DEADLINE / 2
    found = store.new_summaries(mark)
    assert found.bodies == {"r1": {"n": 1}}
    store.put_summary("r2", {"n": 2})
    store.await_summaries(found.mark, DEADLINE)
    assert store.new_summaries(found.mark).bodies == {"r2": {"n": 2}}
    timer.join()


def test_a_summary_between_a_reading_and_the_wait_isn_t_missed(store: EtcdStore) -> None:
    store.await_summaries(store.new_summaries().mark, DEADLINE)
    mark = store.new_summaries().mark
    store.put_summary("r1", {"n": 1})
    began = time.monotonic()
    store.await_summaries(mark, DEADLINE)
    assert time.monotonic() - began < DEADLINE / 2


def test_etcd_sends_summaries_only_while_somebody_waits(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = store._summaries.notifier
    monkeypatch.setattr(notifier, "_idle_s", 0.1)
    for _ in range(2):
        assert not is_listening(notifier)
        store.await_summaries(store.new_summaries().mark, DEADLINE)
        assert is_listening(notifier)
        until(lambda: not is_listening(notifier), "the watch to end")


def test_whoever_waits_for_long_is_woken(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd says each second that its watch is alive, which is when the watch would end if nobody waited."""
    notifier, signs = store._summaries.notifier, list[Message]()
    note = notifier._note_change

    def note_sign(answer: Message) -> None:
        signs.append(answer)
        note(answer)

    monkeypatch.setattr(notifier, "_note_change", note_sign)
    store.await_summaries(store.new_summaries().mark, DEADLINE)  # which begins to listen
    mark = store.new_summaries().mark
    waiting = threading.Thread(target=store.await_summaries, args=(mark, DEADLINE))
    waiting.start()
    until(lambda: notifier._waiting == 1, "the wait to begin")
    monkeypatch.setattr(notifier, "_idle_s", 0.0)
    before = len(signs)
    until(lambda: len(signs) >= before + 2, "signs of life")
    assert waiting.is_alive()
    began = time.monotonic()
    store.put_summary("r1", {"n": 1})
    waiting.join()
    assert time.monotonic() - began < DEADLINE / 2


def is_listening(notifier: WatchNotifier) -> bool:
    return notifier._thread is not None
