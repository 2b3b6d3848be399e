"""What every store does, whatever keeps it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from sgdataplane.store.interface import (
    AuditRecord,
    Body,
    ConflictError,
    GoneError,
    Revision,
    Store,
    Token,
    UnavailableError,
    Write,
)
from tests.control.conftest import Clock
from tests.support.servers.storewriting import COUNTER, PARTS, count_up

DEADLINE_S = 30.0
ODD_TEXTS = ("", "Zoë 安全组 🔥", "\x00\x1b[31m\n", "\ud800", "a'); DROP TABLE documents; --", "\u202e")


def put(store: Store, path: str, body: Body, **more: object) -> int:
    """Commits without a guard."""
    return store.commit(Write({}, {path: body}, **more))  # type: ignore[arg-type]


def token(name: str = "t", until: float = 2_000.0, digest: str = "d") -> Token:
    return Token(name, digest, {"id": "sg-1"}, until)


def fill(store: Store, last: int) -> None:
    for number in range(store.snapshot().revision + 1, last + 1):
        put(store, "kind/id", {"n": number})


# commits


def test_it_begins_empty(store: Store) -> None:
    seen = store.snapshot()
    assert (seen.revision, seen.documents, seen.guards) == (0, {}, {})
    assert store.events() == []
    assert list(store.watch(0, timeout=0)) == []


def numbered(count: int) -> dict[str, Body]:
    return {f"kind/{number}": {"n": number} for number in range(count)}


def test_documents_are_read_one_by_one_at_one_revision(store: Store) -> None:
    """Whatever is committed meanwhile; so many that no store reads them at once."""
    documents = numbered(2_500)
    store.commit(Write({}, documents))
    with store.open_reading() as seen:
        assert seen.revision == 1
        read = dict(islice(seen.documents, 10))
        store.commit(Write({}, {"kind/1": {}, "new/1": {}}, frozenset({"kind/2", "kind/2499"})))
        read |= seen.documents
    assert read == documents
    with store.open_reading() as seen:
        assert (seen.revision, dict(seen.documents)) == (2, store.snapshot().documents)


def test_who_reads_no_further_leaves_the_store_as_it_was(store: Store) -> None:
    store.commit(Write({}, numbered(2_500)))
    for _ in range(2):
        with store.open_reading() as seen:
            next(seen.documents)
        put(store, "kind/id", {})
    assert len(store.snapshot().documents) == 2_501


def test_a_commit_is_there_with_everything_that_belongs_to_it(store: Store) -> None:
    put(store, "old/1", {"n": 0})
    write = Write({"vpc-1": 0}, {"sg/1": {"n": 1}, "sg/2": {"n": 2}}, frozenset({"old/1"}), {"who": "me"}, token())
    assert store.commit(write) == 2
    seen = store.snapshot()
    assert (seen.revision, seen.guards) == (2, {"vpc-1": 2})
    assert seen.documents == {"sg/1": {"n": 1}, "sg/2": {"n": 2}}
    assert store.events(1) == [AuditRecord(2, {"who": "me"})]
    assert list(store.watch(1, timeout=0)) == [Revision(2, write.puts, write.deletes, frozenset({"vpc-1"}))]
    answered = store.find_answer("t")
    assert answered is not None
    assert (answered.digest, answered.answer, answered.revision) == ("d", {"id": "sg-1"}, 2)


def test_revisions_have_no_gaps(store: Store) -> None:
    revisions = [put(store, "kind/id", {"n": number}) for number in range(5)]
    with pytest.raises(ConflictError):
        store.commit(Write({"vpc-1": 7}))
    assert [*revisions, store.commit(Write({}))] == [1, 2, 3, 4, 5, 6]


def test_what_is_not_there_may_be_deleted(store: Store) -> None:
    assert store.commit(Write({}, deletes=frozenset({"kind/none"}))) == 1


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(Write({}, {"a/1": {}}, frozenset({"a/1"})), id="put-and-deleted"),
        pytest.param(Write({}, {"a/1": {"n": float("nan")}}), id="no-json"),
        pytest.param(Write({}, {"a/1": {}}, audit={"n": float("inf")}), id="no-json-in-the-audit-record"),
        pytest.param(Write({}, {"a/\ud800": {}}), id="a-path-that-is-not-unicode"),
        pytest.param(Write({"\ud800": 0}, {"a/1": {}}), id="a-guard-that-is-not-unicode"),
        pytest.param(Write({}, {"a/1": {}}, token=token("\ud800")), id="a-token-that-is-not-unicode"),
    ],
)
def test_what_no_store_can_hold_is_refused_and_nothing_written(store: Store, write: Write) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own words)
        store.commit(write)
    assert store.snapshot().revision == 0
    assert put(store, "a/1", {}) == 1


def test_committed_documents_are_out_of_reach(store: Store) -> None:
    inner: list[object] = [1]
    put(store, "kind/id", {"inner": inner})  # type: ignore[dict-item]
    inner.append(2)
    for seen in (store.snapshot().documents, next(store.watch(0)).puts):
        assert seen["kind/id"] == {"inner": [1]}
        seen["kind/id"]["inner"].append(3)  # type: ignore[union-attr]
    assert store.snapshot().documents["kind/id"] == {"inner": [1]}


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_any_text_comes_back_as_it_was(store: Store, text: str) -> None:
    body: Body = {text: [text, {"in": text}], "none": None, "true": True, "float": 1.5, "int": 1 << 62}
    store.commit(Write({}, {"kind/id": body}, audit=body, token=Token("t", "d", body, 2_000.0)))
    answered = store.find_answer("t")
    assert answered is not None
    assert store.snapshot().documents["kind/id"] == body == answered.answer
    assert next(store.watch(0)).puts["kind/id"] == body == store.events()[0].record


@pytest.mark.parametrize("name", [text for text in ODD_TEXTS if text != "\ud800"], ids=ascii)
def test_names_may_be_odd(store: Store, name: str) -> None:
    store.commit(Write({name: 0}, {name: {"n": 1}}, token=token(name)))
    seen = store.snapshot()
    assert (seen.guards, seen.documents) == ({name: 1}, {name: {"n": 1}})
    assert store.find_answer(name) is not None
    store.commit(Write({name: 1}, deletes=frozenset({name})))
    assert store.snapshot().documents == {}
    assert [change.deletes for change in store.watch(1, timeout=0)] == [{name}]


def test_large_documents(store: Store) -> None:
    """As large as etcd takes them, and together larger than one of its transactions."""
    puts: dict[str, Body] = {f"kind/{number}": {"text": "x" * 1_000_000} for number in range(8)}
    store.commit(Write({}, puts))
    assert store.snapshot().documents == puts
    assert next(store.watch(0)).puts == puts


def test_many_documents_at_once(store: Store) -> None:
    puts: dict[str, Body] = {f"kind/{number}": {"n": number} for number in range(5_000)}
    store.commit(Write({}, puts))
    store.commit(Write({}, deletes=frozenset(puts)))
    first, second = store.watch(0, timeout=0)
    assert (first.puts, second.deletes, store.snapshot().documents) == (puts, frozenset(puts), {})


# guards


@pytest.mark.parametrize("read", [0, 1, 3, -1])
def test_a_guard_that_has_moved_refuses_the_whole_commit(store: Store, read: int) -> None:
    store.commit(Write({"vpc-1": 0, "vpc-2": 0}))
    store.commit(Write({"vpc-1": 1}))
    before = store.snapshot()
    with pytest.raises(ConflictError):
        store.commit(Write({"vpc-2": 1, "vpc-1": read}, {"kind/id": {}}, audit={"n": 1}, token=token()))
    assert store.snapshot() == before
    assert store.find_answer("t") is None
    assert len(store.events()) == 2
    assert list(store.watch(2, timeout=0)) == []
    assert store.commit(Write({"vpc-2": 1, "vpc-1": 2}, {"kind/id": {}})) == 3  # control


def test_guards_of_others_stay_where_they_are(store: Store) -> None:
    store.commit(Write({"vpc-1": 0}))
    store.commit(Write({"vpc-2": 0}))
    store.commit(Write({}))
    assert store.snapshot().guards == {"vpc-1": 1, "vpc-2": 2}


def test_no_update_of_8_threads_is_lost(store: Store) -> None:
    def work(name: str) -> None:
        for number in range(1, 26):
            count_up(store, name, number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, "abcdefgh"))
    seen = store.snapshot()
    assert seen.documents[COUNTER] == {"n": 200}
    assert seen.revision == len(store.events()) == 200


# tokens


def test_a_token_is_used_once(store: Store) -> None:
    put(store, "kind/1", {}, token=token())
    with pytest.raises(ConflictError):
        put(store, "kind/2", {}, token=token(digest="another"))
    assert list(store.snapshot().documents) == ["kind/1"]
    assert put(store, "kind/3", {}, token=token("another")) == 2  # control


def test_a_token_is_forgotten_after_its_time(store: Store, clock: Clock) -> None:
    put(store, "kind/1", {}, token=token(until=2_000.0))
    clock.now = 1_999.9
    assert store.find_answer("t") is not None
    clock.now = 2_000.0
    assert store.find_answer("t") is None
    put(store, "kind/2", {}, token=token(until=3_000.0, digest="another"))
    answered = store.find_answer("t")
    assert answered is not None
    assert (answered.digest, answered.revision) == ("another", 2)


def test_an_unknown_token_was_not_answered(store: Store) -> None:
    assert store.find_answer("none") is None


# watches


@pytest.mark.parametrize("after", range(6))
def test_a_watch_begins_anywhere(store: Store, after: int) -> None:
    fill(store, 5)
    seen = list(store.watch(after, timeout=0))
    assert [change.revision for change in seen] == list(range(after + 1, 6))
    assert [change.puts["kind/id"]["n"] for change in seen] == list(range(after + 1, 6))


def test_a_watch_reads_more_than_it_can_hold_at_once(store: Store) -> None:
    fill(store, 110)
    assert [change.revision for change in store.watch(0, timeout=0)] == list(range(1, 111))


def test_a_watch_refuses_what_is_not_kept_any_more(store: Store) -> None:
    fill(store, 130)
    with pytest.raises(GoneError):
        next(store.watch(9))
    assert next(store.watch(10)).revision == 11
    assert list(store.watch(130, timeout=0)) == []


def test_a_watch_that_falls_behind_is_refused(store: Store) -> None:
    fill(store, 1)
    watch = store.watch(0)
    assert next(watch).revision == 1
    fill(store, 122)
    with pytest.raises(GoneError):
        next(watch)


def test_a_watch_refuses_what_has_not_happened(store: Store) -> None:
    fill(store, 2)
    with pytest.raises(GoneError):
        next(store.watch(3))


def test_every_watch_sees_every_revision_as_it_comes(store: Store) -> None:
    def follow(_: int) -> list[int]:
        found = []
        for change in store.watch(0, timeout=DEADLINE_S):
            found.append(change.revision)
            if len(found) == 100:
                break
        return found

    with ThreadPoolExecutor(5) as pool:
        seen = pool.map(follow, range(4))
        pool.submit(fill, store, 100).result()
        assert list(seen) == [list(range(1, 101))] * 4


def test_a_watch_ends_after_its_time(store: Store) -> None:
    fill(store, 1)
    assert [change.revision for change in store.watch(0, timeout=0.05)] == [1]


def test_a_watch_ends_when_the_store_is_closed(store: Store) -> None:
    fill(store, 1)
    has_begun = threading.Event()

    def follow(watch: Iterator[Revision]) -> int:
        next(watch)
        has_begun.set()
        return len(list(watch))

    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(follow, store.watch(0))
        assert has_begun.wait(DEADLINE_S)
        store.close()
        assert rest.result(DEADLINE_S) == 0


# audit


def test_audit_records_are_in_order_without_gaps_and_never_compacted(store: Store) -> None:
    for number in range(1, 141):
        store.commit(Write({}, audit={"n": number}))
    assert store.events(limit=200) == [AuditRecord(number, {"n": number}) for number in range(1, 141)]
    assert [event.revision for event in store.events(137)] == [138, 139, 140]
    assert [event.revision for event in store.events(2, limit=3)] == [3, 4, 5]
    assert store.events(140) == []


def test_audit_records_are_forgotten_with_a_commit_that_says_so(store: Store) -> None:
    """Never its own; and nothing but them."""
    for number in range(1, 6):
        count_up(store, "a", number)
    changes = list(store.watch(0, timeout=0))
    assert store.commit(Write({}, audit={"n": 6}, forget_audit=3)) == 6
    assert [event.revision for event in store.events()] == [4, 5, 6]
    assert [event.revision for event in store.events(1, limit=2)] == [4, 5]
    assert [event.revision for event in store.events(4)] == [5, 6]
    assert list(store.watch(0, timeout=0))[:5] == changes
    assert store.commit(Write({}, audit={"n": 7}, forget_audit=99)) == 7
    assert [event.record for event in store.events()] == [{"n": 7}]
    assert store.snapshot().revision == 7


def test_every_commit_of_many_threads_has_one_audit_record(store: Store) -> None:
    def work(name: str) -> list[tuple[int, str]]:
        return [(count_up(store, name, number), f"{name}{number}") for number in range(1, 11)]

    with ThreadPoolExecutor(4) as pool:
        answered = sorted(pair for pairs in pool.map(work, PARTS) for pair in pairs)
    recorded = [(event.revision, f"{event.record['name']}{event.record['n']}") for event in store.events()]
    assert recorded == answered


# the end


def read_all(store: Store) -> None:
    with store.open_reading() as seen:
        dict(seen.documents)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda store: store.commit(Write({})), id="commit"),
        pytest.param(lambda store: store.snapshot(), id="snapshot"),
        pytest.param(read_all, id="reading"),
        pytest.param(lambda store: list(store.watch(0, timeout=0)), id="watch"),
        pytest.param(lambda store: store.find_answer("t"), id="find-answer"),
        pytest.param(lambda store: store.events(), id="events"),
        pytest.param(lambda store: store.put_summary("r1", {}), id="put-a-summary"),
        pytest.param(lambda store: store.summaries(), id="summaries"),
        pytest.param(lambda store: store.new_summaries(), id="new-summaries"),
    ],
)
def test_a_closed_store_does_nothing(store: Store, use: Callable[[Store], object]) -> None:
    use(store)  # control
    store.close()
    with pytest.raises(UnavailableError):
        use(store)
    store.close()


def test_a_mark_gives_the_summaries_that_were_written_after_it(store: Store) -> None:
    for relay in ("r1", "r2", "r3", "r4", "r5"):
        store.put_summary(relay, {"n": 1})
    every = store.new_summaries()
    assert sorted(every.bodies) == ["r1", "r2", "r3", "r4", "r5"]
    assert store.new_summaries(every.mark).bodies == {}
    store.put_summary("r4", {"n": 2})
    store.put_summary("r6", {"n": 1})
    some = store.new_summaries(every.mark)
    assert some.bodies == {"r4": {"n": 2}, "r6": {"n": 1}}
    assert store.new_summaries(some.mark).bodies == {}
    assert store.new_summaries(every.mark).bodies == some.bodies, "an older mark is good still"
