"""When counters are read and stored, and what is answered. On real kernels: tests/agent/test_counters.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport
from sgdataplane.daemon import counts
from sgdataplane.daemon.counts import MAX_S, AnswerTooLargeError, Counts
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.schedule import Cause
from sgdataplane.enforce import ApplyReport, Desired, build
from sgdataplane.errors import HostError
from sgdataplane.host.identity import Identity
from sgdataplane.nft.counters import Counted
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

STATE = make_state(
    [make_group("sg-a", [make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-80")])],
    [make_eni(f"eni-{number}", f"10.0.0.{number}", "sg-a") for number in range(1, 6)],
)
RULE = "rule.sg-a.sgr-80"


def namespace(number: int, applied: ApplyReport | None = None) -> NamespaceReport:
    eni, identity = f"eni-{number}", Identity(number, number)
    report = EniReport(Binding(eni, "eth0", f"n{number}", "/nowhere", identity), EniOutcome.IN_FORCE)
    return NamespaceReport(identity, (report,), build(Desired(STATE, {eni: "eth0"})), applied)


def cycle(cause: Cause, *namespaces: NamespaceReport) -> CycleReport:
    return CycleReport(frozenset({cause}), Policy(STATE, Origin.STATE), HostReport(namespaces), "", "", 0.0)


class Kernel:
    """Each reading takes a second."""

    def __init__(self) -> None:
        self.now, self.packets, self.refused, self.has_rule = 0.0, 0, False, True

    def read(self, entry: NamespaceReport) -> tuple[int, Mapping[str, Counted]]:
        assert isinstance(entry.key, Identity)
        self.now += 1
        if self.refused:
            raise HostError(entry.named, "it has ended")
        return entry.key.cookie, {RULE: Counted(self.packets, 60 * self.packets, "1.1")} if self.has_rule else {}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def counts_on(folder: Path, kernel: Kernel) -> Counts:
    return Counts(LedgerFile(folder, "boot"), lambda: kernel.now, kernel.read)


def follow(found: Counts, report: CycleReport, between: Callable[[], None] = lambda: None) -> None:
    """What the agent does at the end of a cycle."""
    found.note_cycle(report)
    found.read_after(report, between)


def packets(found: Counts, scope: str) -> int:
    return found.ledger.scopes[scope][RULE].packets


def test_what_there_is_no_time_for_is_read_the_next_time_and_counted_once(tmp_path: Path, kernel: Kernel) -> None:
    entries = [namespace(number) for number in range(1, 6)]
    kernel.packets = 3
    found = counts_on(tmp_path, kernel)
    for _ in range(3):
        follow(found, cycle(Cause.TIMER, *entries))
    assert MAX_S == 2
    again = counts_on(tmp_path, kernel)  # as after a restart, of which only two are read at once
    kernel.packets = 4
    for _ in range(3):
        follow(again, cycle(Cause.TIMER, *entries))
    assert [packets(again, f"eni-{number}") for number in range(1, 6)] == [4] * 5


def test_what_a_removed_rule_had_counted_is_on_disk_soon(tmp_path: Path, kernel: Kernel) -> None:
    found = counts_on(tmp_path, kernel)
    follow(found, cycle(Cause.START, namespace(1)))
    kernel.refused = True
    report = ApplyReport(2, staged=0, switched=1, swept=1, seconds=0.0, counted={RULE: Counted(7, 420, "1.1")})
    follow(found, cycle(Cause.STATE, namespace(1, report)))
    kernel.now += found.wait_s or 0.0
    found.store_if_due()
    assert packets(counts_on(tmp_path, kernel), "eni-1") == 7


def test_who_reads_between_a_removal_and_its_last_values_makes_nothing_count_twice(
    tmp_path: Path, kernel: Kernel
) -> None:
    """Clients are served while a cycle works, so they read a kernel from which the rule has gone already."""
    found = counts_on(tmp_path, kernel)
    kernel.packets = 10
    follow(found, cycle(Cause.START, namespace(1)))
    kernel.has_rule = False
    for _ in range(2):
        assert found.as_json("eni-1")["scopes"]
        assert packets(found, "eni-1") == 10
    report = ApplyReport(2, staged=0, switched=1, swept=1, seconds=0.0, counted={RULE: Counted(11, 660, "1.1")})
    removal = cycle(Cause.STATE, namespace(1, report))
    found.note_cycle(removal)
    assert found.as_json("eni-1")["scopes"]
    assert packets(found, "eni-1") == 11, "who hears of the cycle's end reads all of it"
    found.read_after(removal)
    follow(found, cycle(Cause.TIMER, namespace(1)))
    assert packets(found, "eni-1") == 11


def test_a_namespace_is_read_once_however_often_its_rules_change_before_that_is_written(
    tmp_path: Path, kernel: Kernel
) -> None:
    found = counts_on(tmp_path, kernel)
    follow(found, cycle(Cause.START, namespace(1), namespace(2)))
    before, kernel.packets = kernel.now, 5
    changed = ApplyReport(2, staged=0, switched=1, swept=1, seconds=0.0)
    for _ in range(3):
        follow(found, cycle(Cause.STATE, namespace(1, changed), namespace(2)))
    found.store_if_due()
    assert kernel.now == before
    kernel.now += found.wait_s or 0.0
    before = kernel.now
    found.store_if_due()
    assert kernel.now == before + 1
    assert [packets(counts_on(tmp_path, kernel), scope) for scope in ("eni-1", "eni-2")] == [5, 0]


def test_who_asks_while_all_is_read_is_answered_and_nothing_is_counted_twice(tmp_path: Path, kernel: Kernel) -> None:
    found, asked = counts_on(tmp_path, kernel), list[int]()

    def ask() -> None:
        kernel.packets += 3
        assert found.as_json("eni-1")["scopes"]
        asked.append(packets(found, "eni-1"))

    follow(found, cycle(Cause.TIMER, namespace(1)), ask)
    follow(found, cycle(Cause.TIMER, namespace(1)), ask)
    assert asked == [3, 6]
    assert packets(found, "eni-1") == 6


def test_a_cycle_that_changed_nothing_reads_nothing(tmp_path: Path, kernel: Kernel) -> None:
    found = counts_on(tmp_path, kernel)
    follow(found, cycle(Cause.LINK, namespace(1)))
    assert (kernel.now, found.wait_s) == (0, None)


def test_of_one_eni_only_its_namespace_is_read(tmp_path: Path, kernel: Kernel) -> None:
    found = counts_on(tmp_path, kernel)
    follow(found, cycle(Cause.LINK, *(namespace(number) for number in range(1, 6))))
    answer = found.as_json("eni-2")
    assert kernel.now == 1
    scopes = answer["scopes"]
    assert isinstance(scopes, list)
    (scope,) = scopes
    assert (scope["enis"], scope["namespace"], scope["placement"]) == (["eni-2"], "n2", "instance")
    assert [row["counter"] for row in scope["counters"]][:2] == ["inner.ingress.sg-a", RULE]
    assert found.as_json("eni-none")["scopes"] == []


def test_what_has_ended_is_told_as_that(tmp_path: Path, kernel: Kernel) -> None:
    found = counts_on(tmp_path, kernel)
    kernel.packets = 3
    follow(found, cycle(Cause.START, namespace(1)))
    follow(found, cycle(Cause.BINDINGS))
    scopes = found.as_json("eni-1")["scopes"]
    assert isinstance(scopes, list)
    (scope,) = scopes
    (row,) = scope["counters"]
    assert (scope["namespace"], scope["enis"], row["packets"], row["in_force"]) == (None, ["eni-1"], 3, False)


def test_an_answer_is_bounded(tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counts_on(tmp_path, kernel)
    follow(found, cycle(Cause.START, namespace(1), namespace(2)))
    monkeypatch.setattr(counts, "MAX_ROWS", 1)
    with pytest.raises(AnswerTooLargeError, match="one ENI"):
        found.as_json()
    assert found.as_json("eni-1")["scopes"]
