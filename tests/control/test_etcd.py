"""The store in etcd, on one member: several processes, lost answers, large commits, compaction, no space."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.errors import LimitError, StateFileError
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.keys import Keys, LogEntry
from sgdataplane.store.etcd.messages import Message
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.etcd.summaries import Mark
from sgdataplane.store.interface import Body, ConflictError, GoneError, Snapshot, Store, Token, UnavailableError, Write
from sgdataplane.store.opening import open_store
from tests.support.servers.etcdserver import FAST, Members, control, running, until
from tests.support.servers.lossyproxy import LossyProxy
from tests.support.servers.storelife import SEED, Life, answers, writer
from tests.support.servers.storewriting import COUNTER, FOREVER

DEADLINE_S = 60.0
FACTOR = float(os.environ.get("SGDP_TIMEOUT_FACTOR", "1"))
WRITERS, WATCHERS, TIMES = ("a", "b", "c"), 6, 20


@pytest.fixture
def store(etcd_name: str) -> Iterator[EtcdStore]:
    with opened(etcd_name) as made:
        yield made


@contextmanager
def opened(text: str) -> Iterator[EtcdStore]:
    with closing(EtcdStore(EtcdAccess.of(text))) as made:
        yield made


def numbered(count: int) -> dict[str, Body]:
    return {f"kind/{number}": {"n": number} for number in range(count)}


def token(name: str) -> Token:
    return Token(name, "digest", {"id": "sg-1"}, FOREVER)


# several processes


def watched(store: Store, last: int) -> list[int]:
    """What a watch from the beginning on sees."""
    seen = []
    for change in store.watch(0, timeout=DEADLINE_S):
        seen.append(change.revision)
        if len(seen) == last:
            break
    return seen


def test_6_watchers_see_each_revision_of_3_processes_once_and_in_order(etcd_name: str) -> None:
    last = len(WRITERS) * TIMES
    stores = [open_store(etcd_name) for _ in range(WATCHERS)]
    with ThreadPoolExecutor(WATCHERS) as pool:
        seen = [pool.submit(watched, store, last) for store in stores]
        processes = [writer(etcd_name, name, TIMES) for name in WRITERS]
        answered = sorted(revision for process in processes for revision in answers(process).values())
        assert answered == list(range(1, last + 1))
        assert [one.result(DEADLINE_S) for one in seen] == [answered] * WATCHERS
    assert stores[0].snapshot().documents[COUNTER] == {"n": last}
    for store in stores:
        store.close()


@pytest.mark.parametrize("turns", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_writers_leave_every_answered_commit_once_and_none_in_half(turns: int, etcd_name: str) -> None:
    """Two writers a turn."""
    life = Life(etcd_name)
    for turn in range(turns):
        life.live(turn)
        life.check()
    assert sum(map(len, life.answered.values())) > turns, "they wrote too little to tell anything"


# answers that are lost


@pytest.fixture
def proxy(etcd: Members) -> Iterator[LossyProxy]:
    made = LossyProxy(etcd.all[0].port)
    yield made
    made.close()


def through(proxy: LossyProxy, text: str, *, alone: bool) -> str:
    """The store by way of the proxy, and also at its own address unless `alone`."""
    members, name = text.removeprefix("etcd://").split("/")
    return f"etcd://127.0.0.1:{proxy.port}{'' if alone else f',{members}'}/{name}"


def test_a_commit_whose_answer_was_lost_is_recognized_and_not_made_twice(proxy: LossyProxy, etcd_name: str) -> None:
    with opened(through(proxy, etcd_name, alone=False)) as store:
        assert store.commit(Write({"g": 0}, {"kind/1": {}}, token=token("control"))) == 1  # has the tokens' lease made
        proxy.go_deaf()
        assert store.commit(Write({"g": 1}, {"kind/2": {}}, audit={"n": 2}, token=token("t"))) == 2
        assert proxy.lost.is_set()
        assert (store.snapshot().revision, len(store.events())) == (2, 2)


def test_a_token_tells_what_became_of_a_commit_that_nobody_answered(proxy: LossyProxy, etcd_name: str) -> None:
    with opened(through(proxy, etcd_name, alone=True)) as store:
        assert store.commit(Write({}, token=token("control"))) == 1
        proxy.go_deaf()
        with pytest.raises(UnavailableError):
            store.commit(Write({}, {"kind/1": {}}, token=token("t")))
        assert proxy.lost.is_set()
        proxy.hear()
        until(lambda: _tells(store, "t"), "the store to answer")
        answered = store.find_answer("t")
        assert answered is not None
        assert answered.revision == store.snapshot().revision == 2
        assert store.commit(Write({}, {"kind/2": {}})) == 3  # nothing of the first is under way any more


def _tells(store: Store, name: str) -> bool:
    try:
        return store.find_answer(name) is not None
    except UnavailableError:
        return False


# large commits


class DyingError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_large_commit_is_whole_wherever_its_writer_dies(
    store: EtcdStore, etcd_name: str, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed before its first document is put."""
    store.commit(Write({"g": 0}, numbered(3)))
    puts, gone = {f"new/{number}": {"n": number} for number in range(400)}, frozenset({"kind/0", "kind/1"})
    with monkeypatch.context() as patch:
        patch.setattr(LogEntry, "batches", _dying(batches))
        with pytest.raises(DyingError):
            store.commit(Write({"g": 1}, puts, gone, {"n": 2}, token("large")))
    expected = Snapshot(2, {"kind/2": {"n": 2}, **puts}, {"g": 2})
    with opened(etcd_name) as other:
        for _ in range(2):
            assert other.snapshot() == expected
            with other.open_reading() as seen:
                assert (seen.revision, dict(seen.documents)) == (2, expected.documents)
            assert next(other.watch(1)).puts == puts
            answered = other.find_answer("large")
            assert answered is not None
            assert answered.revision == 2
        assert other.commit(Write({"g": 2}, {"new/0": {"n": -1}}, frozenset({"new/1"}))) == 3
        del puts["new/1"]
        assert other.snapshot().documents == {"kind/2": {"n": 2}, **puts, "new/0": {"n": -1}}


def _dying(after: int) -> Callable[[LogEntry, Keys, int], Iterator[list[Message]]]:
    whole = LogEntry.batches

    def batches(entry: LogEntry, keys: Keys, revision: int) -> Iterator[list[Message]]:
        for number, batch in enumerate(whole(entry, keys, revision)):
            if number == after:
                raise DyingError
            yield batch

    return batches


def test_a_large_commit_that_never_came_to_be_leaves_nothing(
    store: EtcdStore, etcd: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise DyingError

    with monkeypatch.context() as patch:
        patch.setattr(EtcdStore, "_try", die)
        with pytest.raises(DyingError):
            store.commit(Write({}, numbered(400)))
    assert store.snapshot().documents == {}
    assert list(store.watch(0, timeout=0)) == []
    store._kept = 2
    for _ in range(4):
        store.commit(Write({}))
    chunks = f"{store._keys.name}/parcel/"
    assert control(etcd.all[0], "get", "--prefix", "--keys-only", chunks).strip() == ""


def test_large_commits_of_several_threads_go_one_after_the_other(etcd_name: str) -> None:
    def work(name: str) -> list[int]:
        with opened(etcd_name) as store:
            return [store.commit(Write({}, {f"{name}/{n}": {"turn": turn} for n in range(150)})) for turn in range(3)]

    with ThreadPoolExecutor(3) as pool:
        revisions = [revision for done in pool.map(work, WRITERS) for revision in done]
    assert sorted(revisions) == list(range(1, 10))
    with opened(etcd_name) as store:
        assert store.snapshot().documents == {f"{name}/{n}": {"turn": 2} for name in WRITERS for n in range(150)}


def described_group(rules: int) -> Body:
    """Rules whose descriptions are as long as they may be and can't be compressed well."""
    chance = random.Random(SEED)
    texts = ("".join(chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(512)) for _ in range(rules))
    return {"state": {"rules": [{"port_range": "1/65535", "description": text} for text in texts]}}


def too_large() -> Body:
    """More than a request may have, also when it is compressed."""
    return {"text": random.Random(SEED).randbytes(2_000_000).hex()}


def test_a_group_with_as_many_rules_as_an_eni_may_have_fits(store: EtcdStore) -> None:
    body = described_group(1_000)
    store.commit(Write({}, {"security_group/sg-1": body}, token=token("t")))
    assert store.snapshot().documents["security_group/sg-1"] == body == next(store.watch(0)).puts["security_group/sg-1"]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(Write({}, {"kind/0": {}, "kind/1": too_large()}), id="document"),
        pytest.param(Write({}, {"kind/0": {}}, token=Token("t", "d", too_large(), FOREVER)), id="token"),
    ],
)
def test_what_is_too_large_is_refused_whole(store: EtcdStore, write: Write) -> None:
    with pytest.raises(LimitError, match=r"in etcd\) has \d+, the limit is \d+"):
        store.commit(write)
    assert store.snapshot() == Snapshot(0, {}, {})
    assert store.commit(Write({}, {"kind/0": {}})) == 1  # control


def test_a_commit_may_have_any_number_of_guards_and_an_audit_record_of_any_size(store: EtcdStore) -> None:
    guards = {f"vpc-{number}": 0 for number in range(250)}
    record = too_large()
    assert store.commit(Write(guards, {"kind/0": {}}, audit=record)) == 1
    assert store.snapshot().guards == dict.fromkeys(guards, 1)
    assert next(store.watch(0)).guards == frozenset(guards)
    assert store.commit(Write({"vpc-7": 1})) == 2
    assert [event.record for event in store.events()] == [record, {}]
    for read in (0, 1):
        with pytest.raises(ConflictError):
            store.commit(Write(dict.fromkeys(guards, read), {"kind/1": {}}))
    assert store.commit(Write({name: 2 if name == "vpc-7" else 1 for name in guards})) == 3
    assert store.snapshot() == Snapshot(3, {"kind/0": {}}, dict.fromkeys(guards, 3))


def test_an_event_of_6_mb_reaches_every_watch(store: EtcdStore) -> None:
    """etcd's own limit of a message is 4 MB, unless fragments are asked for."""
    chance = random.Random(SEED)
    puts: dict[str, Body] = {f"kind/{number}": {"text": chance.randbytes(400_000).hex()} for number in range(8)}
    with ThreadPoolExecutor(2) as pool:
        seen = [pool.submit(next, store.watch(0)) for _ in range(2)]
        store.commit(Write({}, puts))
        assert [one.result(DEADLINE_S).puts for one in seen] == [puts, puts]


# etcd's own history


def compact(etcd: Members) -> None:
    """etcd forgets all that was before now."""
    at = control(etcd.all[0], "get", "nothing", "--write-out=json").partition('"revision":')[2].partition(",")[0]
    control(etcd.all[0], "compaction", "--physical", at)


def test_a_watch_goes_on_when_etcd_forgets_its_history(store: EtcdStore, etcd: Members) -> None:
    for _ in range(5):
        store.commit(Write({}, {"kind/id": {}}))
    watch = store.watch(0)
    assert next(watch).revision == 1
    with ThreadPoolExecutor(1) as pool:
        behind = [next(watch).revision for _ in range(4)]
        waiting = pool.submit(next, watch)
        compact(etcd)
        store.commit(Write({}, {"kind/id": {}}))
        assert [*behind, waiting.result(DEADLINE_S).revision] == [2, 3, 4, 5, 6]


def test_who_reads_on_after_a_compaction_has_to_begin_again(etcd: Members, etcd_name: str) -> None:
    with opened(etcd_name) as store:
        store.commit(Write({}, numbered(2_500)))
        with store.open_reading() as seen:
            next(seen.documents)
            store.commit(Write({}, {"kind/0": {}}))
            compact(etcd)
            with pytest.raises(GoneError, match="more was committed meanwhile than is kept"):
                dict(seen.documents)
        assert len(store.snapshot().documents) == 2_500


def test_etcd_s_history_is_compacted_as_commits_go_on(etcd: Members, etcd_name: str) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name), kept=10)) as store:
        for _ in range(40):
            store.commit(Write({}, {"kind/id": {}}))
        name = store._keys.name
        with pytest.raises(AssertionError, match="compacted"):
            require_history(etcd, f"{name}/head", 20)
        require_history(etcd, f"{name}/head", 5)


def require_history(etcd: Members, key: str, back: int) -> None:
    now = control(etcd.all[0], "get", key, "--write-out=json")
    at = int(now.partition('"mod_revision":')[2].partition(",")[0])
    said = control(etcd.all[0], "get", key, f"--rev={at - back}", check=False)
    assert "compacted" not in said, "compacted"


def test_all_summaries_are_new_after_etcd_has_got_back_a_backup_with_fewer_revisions(store: EtcdStore) -> None:
    store.put_summary("r1", {"n": 1})
    mark = store.new_summaries().mark
    assert isinstance(mark, Mark)
    assert store.new_summaries(mark).bodies == {}
    assert store.new_summaries(replace(mark, revision=mark.revision + 1_000_000)).bodies == {"r1": {"n": 1}}


def test_a_token_whose_lease_was_revoked_is_written_with_another(store: EtcdStore, etcd: Members) -> None:
    store.commit(Write({}, token=token("one")))
    for lease in store._leases.values():
        control(etcd.all[0], "lease", "revoke", f"{lease:x}")
    assert store.find_answer("one") is None  # control
    assert store.commit(Write({}, token=token("two"))) == 2
    assert store.find_answer("two") is not None


def test_a_store_of_another_version_is_refused(store: EtcdStore, etcd: Members, etcd_name: str) -> None:
    control(etcd.all[0], "put", f"{store._keys.name}/head", '{"format": 1, "revision": 1}')
    with pytest.raises(StateFileError, match=r"InvalidStore\.Version.*\n.*\n  expected: version 2"):
        open_store(etcd_name)


# no space, no etcd


def write_until_full(store: Store) -> int:
    """The last revision that was answered."""
    for number in range(100):
        body: Body = {"text": random.Random(number).randbytes(50_000).hex()}
        try:
            store.commit(Write({"g": number}, {"kind/id": body}, token=token(f"t{number + 1}")))
        except UnavailableError as error:
            assert "no space left; look who has filled it, compact it" in str(error)  # noqa: PT017
            return number
    raise AssertionError("it took more than its quota")


def test_without_space_reads_go_on_and_commits_do_once_there_is_some(tmp_path: Path) -> None:
    """An operator compacts, defragments, and disarms the alarm."""
    with (
        running(tmp_path, flags=(*FAST, "--quota-backend-bytes", str(4 << 20))) as members,
        opened(members.store) as store,
    ):
        last = write_until_full(store)
        written = len(store.events())
        assert store.snapshot().revision == written > 10
        assert written - last in (0, 1), "what crosses the quota may be written, and answered like what wasn't"
        assert store.find_answer(f"t{written}") is not None
        assert store.find_answer(f"t{written + 1}") is None
        compact(members)
        control(members.all[0], "defrag")
        control(members.all[0], "alarm", "disarm")
        assert store.commit(Write({"g": written}, {"kind/id": {}})) == written + 1


@pytest.mark.slow
def test_without_etcd_calls_fail_soon_however_many_wait(tmp_path: Path) -> None:
    with running(tmp_path) as members, opened(members.store) as store:
        watch = store.watch(0)
        store.commit(Write({}))
        assert next(watch).revision == 1
        waiting = threading.Thread(target=_swallow, args=(watch,))
        waiting.start()
        members.stop()
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            failures = list(pool.map(lambda _: _failure(store), range(8)))
        assert failures == [UnavailableError] * 8
        assert time.monotonic() - began < 3 * FACTOR
        waiting.join(DEADLINE_S)
        assert not waiting.is_alive()
        members.start()
        until(lambda: _failure(store) is None, "etcd to be back")
        assert store.snapshot().revision > 1


def _failure(store: Store) -> type[Exception] | None:
    try:
        store.commit(Write({}))
    except UnavailableError:
        return UnavailableError
    return None


def _swallow(watch: Iterator[object]) -> None:
    with pytest.raises(UnavailableError):
        next(watch)
