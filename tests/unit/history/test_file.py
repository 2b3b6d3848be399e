"""Rows go into the file whole, come out as they were, and become wider and go in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.history import file
from sgdataplane.history.merge import HistoryLimits, finish, steps
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import BUCKET_S, DAY_S, HOUR_S, Fate, FlowCount, FlowKey, Gap
from sgdataplane.history.write import GapKey, HistoryWriter, PendingRows, TotalKey
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import TCP, Direction, Verdict
from sgdataplane.nft.counters import Counted

MB = 1 << 20
T0 = 1_700_006_400 // DAY_S * DAY_S
RULE = Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg-a", "sgr-1", 7)


def flow_key(end: str = "192.0.2.7", port: int = 443, eni: str = "eni-a") -> FlowKey:
    return FlowKey(eni, Direction.INGRESS, end, TCP, port, Fate.ACCEPT, "rule", "sg-a", "sgr-1")


def pending_at(at: int, *keys: FlowKey, packets: int = 1) -> PendingRows:
    pending = PendingRows()
    bucket = pending.at(at // BUCKET_S * BUCKET_S, BUCKET_S)
    for key in keys:
        bucket.flows[key] = FlowCount(packets, 60 * packets, at, at)
        bucket.totals[TotalKey(key.eni_id, RULE)] = FlowCount(packets, 60 * packets, at, at)
    return pending


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / file.NAME


@pytest.fixture
def writer(path: Path) -> Iterator[HistoryWriter]:
    with closing(HistoryWriter(path, 64 * MB, "boot")) as writer:
        yield writer


def test_what_was_written_is_read_and_equal_rows_add_up(path: Path, writer: HistoryWriter) -> None:
    writer.write(pending_at(T0 + 5, flow_key()), T0 + 5)
    writer.write(pending_at(T0 + 9, flow_key(), packets=2), T0 + 9)
    with open_history(path) as history:
        (row,) = history.buckets()
        (total,) = history.totals()
    assert (row.start, row.seconds, row.key) == (T0, BUCKET_S, flow_key())
    assert row.count == FlowCount(3, 180, T0 + 5, T0 + 9)
    assert (total.scope, total.decision, total.packets) == ("eni-a", RULE, 3)


def test_rows_of_several_buckets_are_summed_up(path: Path, writer: HistoryWriter) -> None:
    for minute in range(5):
        writer.write(pending_at(T0 + 60 * minute, flow_key(), flow_key(port=80)), T0)
    with open_history(path) as history:
        rows = list(history.flows(HistoryQuery(port=443)))
        assert len(list(history.buckets())) == 10
    assert [(row.start, row.seconds, row.count.packets) for row in rows] == [(T0, 300, 5)]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (HistoryQuery(), 2),
        (HistoryQuery(eni_id="eni-a"), 1),
        (HistoryQuery(eni_id="eni-none"), 0),
        (HistoryQuery(ends=("192.0.2.7",)), 2),
        (HistoryQuery(ends=("192.0.2.8",)), 0),
        (HistoryQuery(fates=(Fate.DROP, Fate.AUDITED)), 0),
        (HistoryQuery(direction=Direction.EGRESS), 0),
        (HistoryQuery(since=T0 + 60), 0),
        (HistoryQuery(since=T0 + 59), 2),
        (HistoryQuery(until=T0), 0),
        (HistoryQuery(rule_id="sgr-1"), 2),
    ],
    ids=repr,
)
def test_only_what_is_asked_for_comes(path: Path, writer: HistoryWriter, asked: HistoryQuery, count: int) -> None:
    writer.write(pending_at(T0, flow_key(), flow_key(eni="eni-b")), T0)
    with open_history(path) as history:
        assert len(list(history.flows(asked))) == count


def test_sums_by_any_columns_come_largest_first(path: Path, writer: HistoryWriter) -> None:
    writer.write(pending_at(T0, flow_key(), flow_key(eni="eni-b"), flow_key(eni="eni-b", port=80)), T0)
    with open_history(path) as history:
        found = [(by, count.packets) for by, count in history.sums(HistoryQuery(), ("eni", "direction"))]
    assert found == [(("eni-b", Direction.INGRESS), 2), (("eni-a", Direction.INGRESS), 1)]


def test_only_its_owner_can_use_it(path: Path, writer: HistoryWriter) -> None:
    assert {entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()} == {0o600}
    assert writer.alive is None


@pytest.mark.parametrize("text", [b"", b"no database", bytes(8192)], ids=["empty", "text", "zeros"])
def test_what_is_no_history_is_refused_and_stays(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    path.chmod(0o600)
    for act in (lambda: HistoryWriter(path, MB, "boot"), lambda: open_history(path).__enter__()):
        with pytest.raises(HostError, match=file.NAME):
            act()
    assert path.read_bytes() == text


def test_one_that_others_can_write_is_refused(path: Path, writer: HistoryWriter) -> None:
    writer.close()
    path.chmod(0o644)
    with pytest.raises(HostError, match="other users can write to it"):
        HistoryWriter(path, MB, "boot")


def test_bases_are_valid_for_one_boot(path: Path, writer: HistoryWriter) -> None:
    pending = pending_at(T0, flow_key())
    pending.bases[1 << 63, "rule.a"] = Counted(3, 180, "1.2")
    writer.write(pending, T0)
    writer.close()
    with closing(HistoryWriter(path, MB, "boot")) as again:
        assert again.bases() == {(1 << 63, "rule.a"): Counted(3, 180, "1.2")}
    with closing(HistoryWriter(path, MB, "another")) as later:
        assert later.bases() == {}


def test_a_write_that_fails_in_the_middle_leaves_nothing(path: Path, writer: HistoryWriter) -> None:
    writer.write(pending_at(T0, flow_key()), T0)
    broken = pending_at(T0 + 60, flow_key(), flow_key("192.0.2.9"))
    broken.at(T0, BUCKET_S).gaps[GapKey("eni-a", Fate.DROP)] = None  # type: ignore[assignment]
    with pytest.raises(HostError):
        writer.write(broken, T0 + 60)
    with open_history(path) as history:
        assert [row.count.packets for row in history.flows()] == [1]
        assert list(history.gaps()) == []
    writer.write(pending_at(T0 + 60, flow_key("192.0.2.9")), T0 + 60)  # control: names are known again
    with open_history(path) as history:
        assert {row.key.end for row in history.flows()} == {"192.0.2.7", "192.0.2.9"}


LIMITS = HistoryLimits(30 * DAY_S, 64 * MB)


def merge_all(writer: HistoryWriter, limits: HistoryLimits, now: int) -> None:
    if any(list(steps(writer.db, limits, now))):
        finish(writer.db)
        writer.forget_names()


def widths(path: Path) -> dict[int, int]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT width, count(*) FROM flows GROUP BY width"))


def test_buckets_become_hours_after_a_day_days_after_a_week_and_go(path: Path, writer: HistoryWriter) -> None:
    for minute in range(0, 3 * 60, 20):
        pending = pending_at(T0 + 60 * minute, flow_key())
        pending.at(T0 + 60 * minute, BUCKET_S).gaps[GapKey("eni-a", Fate.DROP)] = 2
        writer.write(pending, T0)
    for now, expected in (
        (T0 + DAY_S, {60: 9}),
        (T0 + DAY_S + HOUR_S, {60: 6, 3600: 1}),
        (T0 + 2 * DAY_S, {3600: 3}),
        (T0 + 8 * DAY_S, {86400: 1}),
    ):
        merge_all(writer, LIMITS, now)
        assert widths(path) == expected
        with open_history(path) as history:
            assert sum(row.count.packets for row in history.buckets()) == 9
            assert sum(row.packets for row in history.totals()) == 9
            assert sum(gap.number for gap in history.gaps()) == 18
    merge_all(writer, LIMITS, T0 + 32 * DAY_S)
    assert widths(path) == {}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM names").fetchone() == (0,)


def test_rows_that_come_late_into_a_wide_bucket_add_up_again(path: Path, writer: HistoryWriter) -> None:
    for _ in range(2):
        writer.write(pending_at(T0, flow_key()), T0)
        merge_all(writer, LIMITS, T0 + 2 * DAY_S)
    assert widths(path) == {3600: 1}
    with open_history(path) as history:
        assert [row.count.packets for row in history.flows()] == [2]


def test_it_never_takes_more_room_than_it_has(path: Path) -> None:
    limits = HistoryLimits(30 * DAY_S, 2 * MB)
    writer = HistoryWriter(path, limits.max_bytes, "boot")
    for minute in range(0, 24 * 60, 4):
        keys = [flow_key(f"198.51.100.{n}", port=1024 + (minute + n) % 5000) for n in range(100)]
        writer.write(pending_at(T0 + 60 * minute, *keys), T0)
        merge_all(writer, limits, T0 + 60 * minute)
    writer.close()
    assert file.size_of(path) <= limits.max_bytes
    with open_history(path) as history:
        assert history.since is not None
        assert any(row.start > T0 + 23 * HOUR_S for row in history.buckets())  # what is new is there


def test_while_nobody_knows_the_time_nothing_goes_by_age(path: Path, writer: HistoryWriter) -> None:
    for at in (T0, T0 + 3650 * DAY_S):  # before and after the clock has jumped
        writer.write(pending_at(at, flow_key()), T0)
    assert list(steps(writer.db, LIMITS, None)) == []
    assert widths(path) == {60: 2}
    merge_all(writer, LIMITS, T0 + 3650 * DAY_S)  # control
    assert widths(path) == {60: 1}


def test_gaps_are_told(path: Path, writer: HistoryWriter) -> None:
    pending = PendingRows()
    pending.at(T0, BUCKET_S).gaps = {GapKey("", Fate.DROP, is_absence=True): 300, GapKey("eni-a", Fate.ACCEPT): 5}
    writer.write(pending, T0)
    with open_history(path) as history:
        found = set(history.gaps())
    assert found == {
        Gap(T0, BUCKET_S, "", Fate.DROP, 300, is_absence=True),
        Gap(T0, BUCKET_S, "eni-a", Fate.ACCEPT, 5),
    }


def test_a_file_that_was_removed_is_told(path: Path, writer: HistoryWriter) -> None:
    path.unlink()
    with pytest.raises(HostError, match="moved or removed"):
        writer.write(pending_at(T0, flow_key()), T0)
