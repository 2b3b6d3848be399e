"""Reads take the documents of one revision, which never change: they wait for no write, and see none in half."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from sgdataplane.control.actions import engine
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import Answer
from sgdataplane.control.hosts.following import state_of
from sgdataplane.statefile import Memory
from sgdataplane.store.documents import Documents, Workspace
from sgdataplane.store.interface import Write
from tests.support.inputs.controlling import Client, Randomly, counted_ids
from tests.support.run.memorystore import MemoryStore

DEADLINE_S = 60


class Gate:
    """Where a thread waits until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(DEADLINE_S)


@contextmanager
def writing(client: Client, vpc_id: str, gate: Gate) -> Iterator[Future[Answer]]:
    """A write that waits at the gate while the block runs."""
    with ThreadPoolExecutor() as pool:
        written = pool.submit(client.ask, "CreateSecurityGroup", VpcId=vpc_id)
        assert gate.reached.wait(DEADLINE_S)
        try:
            yield written
        finally:
            gate.opened.set()


def count(client: Client) -> object:
    return client("DescribeSecurityGroups")["TotalCount"]


@pytest.mark.parametrize("where", ["decided", "committed"])
def test_a_read_is_answered_while_a_write_is(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    client, gate = Client(), Gate()
    vpc_id, _ = client.network()
    commit = MemoryStore.commit

    def judged(workspace: Workspace, profile: str) -> None:
        gate.wait()
        validate(workspace, profile)

    def committed(store: MemoryStore, write: Write) -> int:
        gate.wait()
        return commit(store, write)

    if where == "decided":
        monkeypatch.setattr(engine, "validate", judged)
    else:
        monkeypatch.setattr(MemoryStore, "commit", committed)
    with writing(client, vpc_id, gate) as written:
        assert (count(client), client.engine.revision) == (0, 2)
        assert not written.done()
    assert (written.result().revision, count(client)) == (3, 1)


def test_writes_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    client, inside = Client(), list[int]()
    vpc_id, _ = client.network()
    most = list[int]()

    def judged(workspace: Workspace, profile: str) -> None:
        inside.append(1)
        most.append(len(inside))
        validate(workspace, profile)
        inside.pop()

    monkeypatch.setattr(engine, "validate", judged)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.ask("CreateSecurityGroup", VpcId=vpc_id), range(40)))
    assert sorted(answer.revision or 0 for answer in answers) == list(range(3, 43))
    assert max(most) == 1


def test_a_write_isnt_refused_for_what_another_server_has_just_made() -> None:
    """As clients find that ask several servers in turn. What is wrong is still refused."""
    store = MemoryStore()
    one, other = (Client(Engine(store, "seed", counted_ids())) for _ in range(2))
    vpc_id, _ = one.network()
    assert other.engine.revision == 0
    assert other.text("CreateSecurityGroup", "SecurityGroupId", VpcId=vpc_id)
    assert other.refused("CreateSecurityGroup", VpcId="vpc-none") == "InvalidVpcId.NotFound"


def test_documents_go_on_to_new_ones_and_stay_as_they_are() -> None:
    """After any call, they are what the store's snapshot makes, and their state what it is without a memory of former
    ones; and those of earlier revisions are what they were."""
    store = MemoryStore()
    caller = Randomly(Client(engine.Engine(store, new_id=counted_ids())), random.Random("documents"))
    caller.client.network()
    kept: list[tuple[Documents, Documents]] = []
    memory = Memory()
    for number in range(400):
        caller.step()
        now = caller.client.engine.documents
        assert now == Documents.of(store.snapshot())
        assert state_of(now, "seed", memory) == state_of(now, "seed")
        if number % 20 == 0:
            kept.append((now, copy.deepcopy(now)))
    assert all(one == as_it_was for one, as_it_was in kept)
    assert len({one.revision for one, _ in kept}) > 10
