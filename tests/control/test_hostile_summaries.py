"""What somebody who has a relay's rights writes as a summary costs the other relays nothing."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgdataplane.control.hosts.status import MAX_CLAIMS, MAX_TEXT, HostBoard, words_in
from sgdataplane.store import summaries
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.messages import make
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import Store
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.inputs.summaries import host, summary

MANY_MB, ALLOWED_MB = 100, 64
BODIES: dict[str, bytes] = {  # what a summary isn't, or what is odd in it
    "nothing": b"",
    "half": b'{"time": 1',
    "no-text": b"\xff\xfe{}",
    "a-list": b"[]",
    "a-number": b"7",
    "nan": b'{"time": NaN}',
    "deep": b'{"hosts": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "containers": b'{"hosts": [' + b"[]," * 400_000 + b"[]]}",
    "values": b'{"hosts": [' + b"1.5," * 1_000_000 + b"1]}",
    "digits": b'{"time": ' + b"9" * 100_000 + b"}",
    "a-large-number": b'{"time": ' + b"9" * 4_000 + b', "seen": ' + b"9" * 4_000 + b', "hosts": {"a": {}}}',
    "hosts-in-a-list": b'{"time": 1, "hosts": ["a"]}',
    "odd-fields": json.dumps({"time": [], "epoch": "x", "hosts": {"a": {"enforced": [1, "b"], "failed": 3}}}).encode(),
}
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["sqlite", "etcd"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Put]]:
    """A store, and what writes there as no relay of ours does."""
    if request.param == "sqlite":
        with closing(SqliteStore(tmp_path / "store")) as sqlite:

            def put_row(relay: str, body: bytes) -> None:
                row = (relay, body.decode(errors="surrogateescape") if body.isascii() else body, 9e12)
                with closing(sqlite._file.connect()) as db:
                    db.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", row)

            yield sqlite, put_row
        return
    access = EtcdAccess.of(request.getfixturevalue("etcd_name"))
    with closing(EtcdStore(access)) as store:

        def put_key(relay: str, body: bytes) -> None:
            value = b'{"until": 9e12, "body": ' + body + b"}"
            put_raw(store, relay, value if len(value) < 1 << 20 else zlib.compress(value))

        yield store, put_key


def put_raw(store: EtcdStore, relay: str, value: bytes) -> None:
    key = store._keys.of("summary", "") + relay.encode()
    store._cluster.call(make("PutRequest", key=key, value=value))


@pytest.mark.parametrize("odd", BODIES)
def test_another_relay_is_heard_beside_a_summary_that_is_none(written: tuple[Store, Put], odd: str) -> None:
    store, put = written
    good = summary(7, {"host-1": host(7)})
    store.put_summary("m-good", good)
    for name in ("a-bad", "z-bad"):
        put(name, BODIES[odd])
    assert store.summaries()["m-good"] == good
    assert store.summary("m-good") == good
    assert HostBoard(store).look()["host-1"].enforced.revision == 7
    store.put_summary("a-bad", good)
    assert store.summary("a-bad") == good, "what replaces it is heard again"


def test_a_key_that_is_no_text_is_no_relay(etcd_name: str) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        store.put_summary("good", summary(1, {}))
        store._cluster.call(make("PutRequest", key=store._keys.of("summary", "") + b"\xff\xfe", value=b"{}"))
        assert set(store.summaries()) == {"good"}


@pytest.mark.parametrize("until", [b'"later"', b"null", b"[]", b"{}"])
def test_a_time_that_is_none_is_over(etcd_name: str, until: bytes) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        put_raw(store, "bad", b'{"until": ' + until + b', "body": {}}')
        put_raw(store, "good", b'{"until": 9e12, "body": {}}')
        assert store.summaries() == {"good": {}}


@pytest.mark.parametrize("inside", [b" ", b"[]", b'{"a":1,', b"1,"], ids=ascii)
def test_a_small_value_takes_little_memory_however_much_it_becomes(etcd_name: str, inside: bytes) -> None:
    """204 KB became 1.2 GB, out of twice this text, which alone is more than is allowed."""
    text = b'{"until": 9e12, "body": {"hosts": [' + inside * (MANY_MB * (1 << 20) // len(inside))
    bomb = zlib.compress(text, 9)
    assert len(bomb) < 1 << 20
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        store.put_summary("good", summary(1, {}))
        put_raw(store, "bad", bomb)
        tracemalloc.start()
        try:
            assert set(store.summaries()) == {"good"}
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < ALLOWED_MB << 20


def test_it_is_said_once_and_again_after_it_was_right(etcd_name: str, caplog: pytest.LogCaptureFixture) -> None:
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        put_raw(store, "bad\x1b[2J", b"{")
        for _ in range(5):
            store.summaries()
        assert [line for line in caplog.messages if "skipped" in line] == caplog.messages
        assert len(caplog.messages) == 1
        assert "\x1b" not in caplog.text


def test_so_many_relays_that_nobody_can_have_them_end(etcd_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MAX_RELAYS", 10)
    with closing(EtcdStore(EtcdAccess.of(etcd_name))) as store:
        for number in range(30):
            store.put_summary(f"r{number:02d}", summary(1, {}))
        assert set(store.summaries()) == {f"r{number:02d}" for number in range(10)}
        assert store.summary("r29") is not None, "each relay sees its own"


def test_of_one_summary_no_more_is_believed_than_a_relay_of_ours_says() -> None:
    said = host(7, claims=[f"eni-{n}" for n in range(2 * MAX_CLAIMS)], error="x" * 2 * MAX_TEXT)
    said["failed"] = [{"eni": "e", "why": "w" * 2 * MAX_TEXT}] * 1_000
    word = words_in({"r": summary(7, {"a": said, "b" * 300: said})}, 0.0)
    assert set(word) == {"a"}
    assert len(word["a"].claims) == MAX_CLAIMS
    assert len(word["a"].error) == MAX_TEXT
    assert sum(len(why) for _, why in word["a"].failed) <= 20 * MAX_TEXT


MUTATED = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 6)), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(MUTATED, st.booleans())
def test_no_bytes_at_all_are_more_than_skipped(changes: list[tuple[float, bytes, int]], is_packed: bool) -> None:
    """A real summary with some bytes replaced: it is read or skipped, and words are made of what was read."""
    text = json.dumps(summary(7, {"host-1": host(7, failed=[{"eni": "e", "why": "w"}], claims=["eni-1"])})).encode()
    value = bytearray(zlib.compress(text) if is_packed else text)
    for place, new, removed in changes:
        at = int(place * len(value))
        value[at : at + removed] = new
    found = summaries.SummaryReader().read_all([("r", bytes(value))])
    for word in words_in(found, 0.0).values():
        assert word.why is not None
        word.standing(word.seen, 0.0)
