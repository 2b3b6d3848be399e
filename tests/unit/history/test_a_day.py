"""24 simulated hours of 1,000 ENIs: the file keeps to its room, old rows become wider, and answers take no second."""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.history import file
from sgdataplane.history.gather import Gatherer, Seen
from sgdataplane.history.merge import HistoryLimits, finish, steps
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import BUCKET_S, DAY_S, HOUR_S, Fate, FlowCount
from sgdataplane.history.write import HistoryWriter, PendingRows, TotalKey
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import TCP, Address, Direction, Verdict

ENIS, FLOWS, SCANNED = 1000, 3, 5
LIMITS = HistoryLimits(30 * DAY_S, 256 << 20)
T0 = 1_700_006_400 // DAY_S * DAY_S
MERGE_S = 600


def seen_at(at: int, eni: int, end: str | Address, fate: Fate = Fate.ACCEPT, port: int = 443) -> Seen:
    cause = "rule" if fate is Fate.ACCEPT else "default"
    ids = (f"sg-{eni % 50}", f"sgr-{port}") if fate is Fate.ACCEPT else ("", "")
    return Seen(at, f"eni-{eni}", Direction.INGRESS, end, TCP, port, 60, fate, cause, *ids)


def minute(gatherer: Gatherer, chance: random.Random, at: int) -> PendingRows:
    """What all ENIs have in one minute: usual partners, some strangers, and scans of a few ENIs."""
    pending = PendingRows()
    for eni in range(ENIS):
        for number in range(FLOWS):
            partner = f"eni-{(eni * 7 + number) % ENIS}"
            stranger = Address(32, chance.randrange(1 << 24))
            gatherer.note(seen_at(at, eni, partner if number else stranger), pending)
    for eni in range(SCANNED):
        for _ in range(100):
            source = Address(32, chance.randrange(1 << 32))
            gatherer.note(seen_at(at, eni, source, Fate.DROP, chance.randrange(1 << 16)), pending)
    totals = pending.at(at, BUCKET_S).totals
    for eni in range(ENIS):
        for decision in (
            Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", f"sg-{eni % 50}", "sgr-443", 1),
            Decision(Direction.INGRESS, Verdict.DROP, "default"),
        ):
            totals[TotalKey(f"eni-{eni}", decision)] = FlowCount(FLOWS, 60 * FLOWS, at, at)
    return pending


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file after a day and two hours."""
    path = tmp_path_factory.mktemp("day") / file.NAME
    gatherer, chance = Gatherer(), random.Random(5)
    largest = 0
    with closing(HistoryWriter(path, LIMITS.max_bytes, "boot")) as writer:
        for at in range(T0, T0 + DAY_S + 2 * HOUR_S, BUCKET_S):
            writer.write(minute(gatherer, chance, at), at)
            if at % MERGE_S == 0:
                if any([*steps(writer.db, LIMITS, at)]):
                    finish(writer.db)
                    writer.forget_names()
                largest = max(largest, file.size_of(path))
    print(f"the file took {largest >> 20} MB at most")
    assert largest <= LIMITS.max_bytes + (8 << 20)  # and its log
    return path


pytestmark = pytest.mark.slow


def test_what_is_new_is_there_and_what_is_old_is_wide(day: Path) -> None:
    with open_history(day) as history:
        end = T0 + DAY_S + 2 * HOUR_S
        last = list(history.buckets(HistoryQuery(end - HOUR_S, end, eni_id="eni-500")))
        assert {row.seconds for row in last} == {BUCKET_S}
        assert sum(row.count.packets for row in last) == 60 * FLOWS
        first = list(history.buckets(HistoryQuery(T0, T0 + HOUR_S, eni_id="eni-500")))
        assert {row.seconds for row in first} <= {HOUR_S, DAY_S}
        assert sum(row.count.packets for row in first if row.seconds == HOUR_S) in (0, 60 * FLOWS)


def test_scans_are_merged_and_bounded(day: Path) -> None:
    end = T0 + DAY_S + 2 * HOUR_S
    with open_history(day) as history:
        ends = {
            (row.start // HOUR_S, row.key.end)
            for row in history.buckets(HistoryQuery(end - HOUR_S, end, eni_id="eni-1", fates=(Fate.DROP,)))
        }
        merged = [row for row in history.flows(HistoryQuery(end - HOUR_S, end, eni_id="eni-1")) if row.count.is_merged]
    assert len(ends) <= 2001
    assert any(row.key.end.endswith("/24") for row in merged)


@pytest.mark.parametrize(
    "ask",
    [
        lambda history, end: list(history.flows(HistoryQuery(end - HOUR_S, eni_id="eni-7"))),
        lambda history, end: list(history.flows(HistoryQuery(end - HOUR_S), most=100)),
        lambda history, end: list(history.sums(HistoryQuery(end - HOUR_S), ("end", "fate"), most=100)),
        lambda history, end: list(history.totals(HistoryQuery(end - DAY_S))),
        lambda history, end: list(history.buckets(HistoryQuery(end - HOUR_S, fates=(Fate.DROP,)), most=1000)),
        lambda history, end: list(
            history.flows(HistoryQuery(end - DAY_S, eni_id="eni-7", direction=Direction.INGRESS, ends=("eni-50",)))
        ),
    ],
    ids=["one ENI", "everything of an hour", "by address", "rules of a day", "log of an hour", "one flow of a day"],
)
def test_an_answer_takes_less_than_a_second(day: Path, ask) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with open_history(day) as history:
        before = time.process_time()
        found = ask(history, T0 + DAY_S + 2 * HOUR_S)
        took = time.process_time() - before
    print(f"{len(found)} rows in {took:.2f} s")
    assert took < 1.0
