"""A store's epoch, and what was pruned of its audit: both are told, and survive copies."""

from __future__ import annotations

from hashlib import sha256

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store import audit
from sgdataplane.store.audit import local_call
from sgdataplane.store.history import PRUNED, Pruned, Version, begin_epoch, find_last_pruned, prune_audit
from sgdataplane.store.interface import Store
from sgdataplane.visible import json_text
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.run.memorystore import MemoryStore
from tests.support.servers.storewriting import count_up

PRUNE = local_call("PruneAudit")


def test_what_was_pruned_is_recorded_and_can_be_proven(store: Store) -> None:
    for number in range(1, 8):
        count_up(store, "a", number)
    lines = [f"{json_text(record)}\n" for record in audit.read(store)]
    first = prune_audit(store, PRUNE, 3)
    assert first == Pruned(3, 3, sha256("".join(lines[:3]).encode()).hexdigest(), 8)
    record = store.events(7)[0].record
    assert (record["action"], record["pruned"]) == ("PruneAudit", {"after": 0, "revision": 3, "sha256": first.sha256})
    second = prune_audit(store, PRUNE, 5)
    assert (second.count, second.last, second.sha256) == (2, 5, sha256("".join(lines[3:5]).encode()).hexdigest())
    assert [event.revision for event in store.events()] == [6, 7, 8, 9]
    assert find_last_pruned(store.snapshot().documents[PRUNED]) == 5


@pytest.mark.parametrize("last", [0, 2])
def test_where_nothing_is_to_be_pruned_nothing_is_written(store: Store, last: int) -> None:
    for number in range(1, 4):
        count_up(store, "a", number)
    prune_audit(store, PRUNE, 2)
    assert prune_audit(store, PRUNE, last).count == 0
    assert store.snapshot().revision == 4


def test_more_than_there_is_leaves_the_record_of_it(store: Store) -> None:
    count_up(store, "a", 1)
    assert prune_audit(store, PRUNE, 999).last == 1
    assert [event.record["action"] for event in store.events()] == ["PruneAudit"]
    assert count_up(store, "a", 2) == 3


def test_an_epoch_is_later_than_any_before(store: Store) -> None:
    versions = [begin_epoch(store, local_call("RestoreStore")) for _ in range(3)]
    assert [version.revision for version in versions] == [1, 2, 3]
    assert len({version.epoch for version in versions}) == 3
    assert versions == sorted(versions)
    assert Engine(store).version == versions[-1]


def test_a_watch_sees_a_new_epoch(store: Store) -> None:
    engine = Engine(store)
    began = begin_epoch(store, local_call("RestoreStore"))
    engine.follow(timeout=0)
    assert engine.version == began


class Restorable(MemoryStore):
    """It can go back to what it was, as etcd can under those who use it."""

    def went_back(self, former: MemoryStore) -> None:
        self.__dict__.update(former.__dict__)


def test_a_store_that_went_back_is_followed_once_somebody_says_so() -> None:
    store = Restorable()
    client = Client(engine := Engine(store, new_id=counted_ids()))
    vpc_id, _ = client.network()
    for _ in range(4):
        client.group(vpc_id)
    former = MemoryStore()
    Client(Engine(former, new_id=counted_ids())).network()
    store.went_back(former)
    for _ in range(2):
        with pytest.raises(ApiError, match=r"ServiceUnavailable.*gone back from revision 6 to revision 2.*restored"):
            client.group(vpc_id)
        with pytest.raises(ApiError, match="ServiceUnavailable"):
            engine.catch_up()
    assert engine.version == Version(0, 6)
    began = begin_epoch(store, local_call("RestoreStore"))
    engine.catch_up()
    assert engine.version == began
    answer = client.ask("CreateSecurityGroup", VpcId=vpc_id)
    assert (answer.revision, answer.epoch) == (4, began.epoch)
