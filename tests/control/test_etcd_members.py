"""Three members of etcd, killed, stopped and restored, while others write and watch."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import GoneError, Store, UnavailableError, Write
from sgdataplane.store.opening import open_store
from tests.support.servers.etcdload import Load
from tests.support.servers.etcdserver import DEADLINE_S, FAST, Member, Members, control, leader, running, until, within
from tests.support.servers.storelife import SEED


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with running(tmp_path_factory.mktemp("members"), 3) as made:
        yield made


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def load(members: Members, numbers: Iterator[int]) -> Load:
    """Below a name of the test's own."""
    return Load(f"{members.store}/load{next(numbers)}")


def kill(members: Members, load: Load) -> None:
    """The leader ends and comes back."""
    one = leader(members)
    one.stop()
    load.progress()
    one.start(members.all)
    until(one.is_healthy, "it to come back")


def stop(members: Members, load: Load) -> None:
    """The leader stands still, its connections open, and goes on later without knowing that it has lost its place."""
    one = leader(members)
    one.signal(signal.SIGSTOP)
    load.progress()
    one.signal(signal.SIGCONT)
    until(one.is_healthy, "it to go on")


def lose_quorum(members: Members, load: Load) -> None:
    """Only one is left; then there are two again."""
    two = members.all[:2]
    for one in two:
        one.stop()
    before = load.unknown
    until(lambda: load.unknown >= before + 3, "writers to be refused")
    for one in two:
        one.start(members.all)
    for one in two:
        until(one.is_healthy, "them to come back")


def slow_down(members: Members, load: Load) -> None:
    """Members stand still for most of the time, as on a disk that takes so long."""
    for _ in range(4):
        for one in members.all:
            one.signal(signal.SIGSTOP)
        time.sleep(0.6)
        for one in members.all:
            one.signal(signal.SIGCONT)
        load.progress()


FAULTS = (kill, stop, lose_quorum, slow_down)


@pytest.mark.parametrize("fault", [*FAULTS[:3], pytest.param(slow_down, marks=pytest.mark.slow)])
def test_no_event_and_no_answered_write_is_lost_or_doubled(
    members: Members, load: Load, fault: Callable[[Members, Load], None]
) -> None:
    """By 3 writers and 6 watchers, each with connections of its own, whatever happens to the members."""
    with load.running():
        load.progress()
        fault(members, load)
        load.progress()


@pytest.mark.slow
def test_the_same_for_40_faults_one_after_the_other(members: Members, load: Load) -> None:
    chance = random.Random(SEED)
    with load.running():
        for _ in range(40):
            chance.choice(FAULTS)(members, load)
            load.progress()
    assert load.unknown > 10, "a control: they were hurt"


def test_without_a_quorum_no_member_answers_and_each_call_fails_within_3_s(members: Members) -> None:
    alone, *others = members.all
    with closing(EtcdStore(EtcdAccess.of(f"etcd://{alone.address}/minority"))) as store:
        assert store.commit(Write({}, {"kind/1": {}})) == 1  # control
        for one in others:
            one.stop()
        for call in (store.snapshot, lambda: store.commit(Write({}, {"kind/2": {}})), lambda: list(store.watch(1))):
            with within(3), pytest.raises(UnavailableError, match="etcd doesn't answer"):
                call()
        for one in others:
            one.start(members.all)
        for one in others:
            until(one.is_healthy, "them to come back")
        until(lambda: _commits(store), "the store to go on")
        assert store.snapshot().revision == len(store.events())


def _commits(store: Store) -> bool:
    try:
        return store.commit(Write({}, {"kind/3": {}})) > 1
    except UnavailableError:
        return False


def test_a_watch_leaves_a_member_that_stands_still(members: Members) -> None:
    """Its connection stays open, and nothing else would tell."""
    silent, *others = members.all
    at = ",".join(member.address for member in others)
    with (
        closing(open_store(f"etcd://{silent.address},{at}/silent")) as store,
        closing(open_store(f"etcd://{at}/silent")) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.commit(Write({}, {"kind/1": {}}))
        watch = store.watch(0)
        assert next(watch).revision == 1
        until(lambda: _is_listening(store), "it to listen")
        waiting = pool.submit(next, watch)
        silent.signal(signal.SIGSTOP)
        try:
            until(partial(_commits, other), "the others to have a leader")
            assert waiting.result(DEADLINE_S).revision == 2
        finally:
            silent.signal(signal.SIGCONT)
    until(silent.is_healthy, "it to go on")


def _is_listening(store: Store) -> bool:
    """Its notifier has spoken for the first time: etcd has made the watch."""
    assert isinstance(store, EtcdStore)
    with suppress(StopIteration):
        next(store.watch(1, timeout=0.01))
    return store._notifier.notices > 0


# copies


def test_a_process_that_knows_more_than_a_restored_etcd_does_nothing_until_it_is_restarted(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with running(tmp_path, flags=FAST) as members:
        member = members.all[0]
        with closing(open_store(members.store)) as store:
            store.commit(Write({"g": 0}, {"kind/kept": {}}))
            control(member, "snapshot", "save", str(copy))
            store.commit(Write({"g": 1}, {"kind/lost": {}}))
            watch = store.watch(1)
            assert next(watch).revision == 2  # control
            member.stop()
            shutil.rmtree(member.folder / "data")
            restore(copy, member)
            members.start()
            for use in (store.snapshot, partial(next, watch), partial(store.commit, Write({"g": 1}))):
                until(partial(_is_refused, use), "it to learn that etcd has gone back")
        with closing(open_store(members.store)) as anew:
            assert anew.snapshot().documents == {"kind/kept": {}}
            with pytest.raises(GoneError):
                next(anew.watch(2))
            assert anew.commit(Write({"g": 1}, {"kind/new": {}})) == 2


def _is_refused(use: Callable[[], object]) -> bool:
    try:
        use()
    except UnavailableError as error:
        return "restored from an older copy" in str(error)
    return False


def restore(copy: Path, member: Member) -> None:
    command = ["etcdctl", "snapshot", "restore", str(copy), "--data-dir", str(member.folder / "data")]
    names = ["--name", member.name, "--initial-cluster", f"{member.name}={member.peer_url}"]
    urls = ["--initial-advertise-peer-urls", member.peer_url]
    subprocess.run([*command, *names, *urls], check=True, capture_output=True)
