"""Which metrics show what after which cycles, in text that every parser accepts. With packets:
tests/agent/test_metrics.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport, Turn
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.metrics import ERRORS, Metrics
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.readings import Readings
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.scrape import KEPT_S, KEPT_TIMES
from sgdataplane.daemon.status import Status
from sgdataplane.enforce import ApplyReport, Desired, build
from sgdataplane.errors import BindingError, HostError, KernelError, LimitError, Problem, ProofError, Where
from sgdataplane.host.identity import Identity
from sgdataplane.model.state import CloudState
from sgdataplane.observe.capacity import TableUse
from tests.support.scenes.attachbench import state_of
from tests.support.servers.scraping import Scrape

STAMP_MAP = ApplyReport(3, staged=5, switched=2, swept=1, seconds=0.03)


def namespace(number: int, named: str = "", outcome: EniOutcome = EniOutcome.IN_FORCE) -> NamespaceReport:
    binding = Binding(f"eni-{number}", "eth0", named or f"container {number}", "/", Identity(1, number))
    proven = build(Desired(state_of(80), {"eni-a": "eth0"}))
    return NamespaceReport(binding.identity, (EniReport(binding, outcome),), proven, STAMP_MAP)


def refused(error: KernelError | ProofError | HostError | LimitError | BindingError) -> NamespaceReport:
    return replace(namespace(1, outcome=EniOutcome.REFUSED), applied=None, error=error)


class Bench:
    def __init__(self) -> None:
        self.now, self.reading_s, self.readings, self.sessions = 0.0, 0.0, 0, 7
        self.status = Status(Path("/state"), Path("/config"), Path("/last-good"))
        self.metrics = Metrics(self.status, Readings(lambda: 0.0, self.read), lambda: self.now)

    def read(self, _: NamespaceReport) -> tuple[dict[str, int], TableUse]:
        self.readings += 1
        self.now += self.reading_s
        counters = {"default.ingress.drop": 10, "rule.sg-a.sgr-80": 99, "dropped.ingress.eth0": 4}
        return counters, TableUse(self.sessions, 100, 2, 0, 0)

    def cycle(self, *entries: NamespaceReport, cause: Cause = Cause.STATE, refusal: str = "") -> None:
        policy = Policy(CloudState(), Origin.STATE, refusal)
        self.note(CycleReport(frozenset({cause}), policy, HostReport(entries), "", "", 0.2))

    def note(self, report: CycleReport) -> None:
        self.status.note_cycle(report)
        self.metrics.note_cycle(report)

    def scrape(self) -> Scrape:
        self.now += 1000
        text = self.metrics.text()
        assert text is not None
        return Scrape(text[1].decode())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_before_the_first_cycle_nothing_is_in_force(bench: Bench) -> None:
    found = bench.scrape()
    assert (found.value("healthy"), found.value("state_refused"), found.value("cycle_seconds_count")) == (0, 0, 0)
    assert found.values("errors_total") == [0] * len(ERRORS)
    assert len(found.values("build_info")) == 1


def test_what_a_cycle_did_is_told(bench: Bench) -> None:
    bench.cycle(namespace(1), replace(namespace(2), applied=replace(STAMP_MAP, staged=0, switched=0, swept=0)))
    found = bench.scrape()
    assert [found.value("operations_total", step=step) for step in ("staged", "switched", "swept")] == [5, 2, 1]
    assert (found.value("apply_seconds_count"), found.value("cycle_seconds_sum")) == (1, 0.2)
    assert found.value("eni_epoch", eni="eni-1", namespace="container 1") == 3
    assert found.value("enis", outcome="in force") == 2
    assert found.value("healthy") == 1
    where = {"namespace": "container 2", "direction": "ingress"}
    assert found.value("dropped_packets_total", cause="default", **where) == 10
    assert found.value("dropped_packets_total", cause="rule", **where) == 0  # this one accepts
    assert found.value("eni_dropped_packets_total", eni="eni-a", **where) == 4
    assert sum(found.values("eni_dropped_packets_total")) == 8
    assert found.value("sessions", namespace="container 1") == 7
    assert found.value("session_limit", namespace="container 1") == 100
    assert found.value("conntrack_dropped_packets_total", namespace="container 1") == 2
    for family in ("ipv4", "ipv6"):
        assert found.value("neighbour_limit", family=family) > found.value("neighbour_entries", family=family) >= 0
        assert found.value("neighbours_refused_total", family=family) >= 0


def test_what_is_gone_is_told_and_its_namespace_has_no_series(bench: Bench) -> None:
    bench.cycle(namespace(1), namespace(2))
    assert len(bench.scrape().values("eni_in_force")) == 2
    gone = replace(namespace(2, outcome=EniOutcome.GONE), proven=None, applied=None)
    bench.cycle(namespace(1), gone)
    found = bench.scrape()
    assert (found.value("enis", outcome="gone"), found.value("healthy")) == (1, 0)
    assert found.value("eni_in_force", eni="eni-2", namespace="container 2") == 0
    assert not [where for where in found.samples if "container 2" in str(where) and "eni_" not in str(where)]
    bench.note(CycleReport(frozenset({Cause.LINK}), Policy(CloudState(), Origin.STATE), None, "locked", "", 0.1))
    found = bench.scrape()  # what is in force still is
    assert (len(found.values("eni_in_force")), len(found.values("sessions"))) == (2, 1)
    assert (found.value("healthy"), found.value("errors_total", kind="cycle")) == (0, 1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProofError("a packet"), "proof"),
        (KernelError("refused"), "kernel"),
        (HostError("eth0", "gone"), "host"),
        (LimitError("a map", 1, 2), "limit"),
        (BindingError(Problem(Where(), "A", "b")), "other"),
    ],
)
def test_errors_are_told_by_kind(
    bench: Bench, error: KernelError | ProofError | HostError | LimitError | BindingError, kind: str
) -> None:
    bench.cycle(refused(error))
    found = bench.scrape()
    assert found.value("errors_total", kind=kind) == sum(found.values("errors_total")) == 1
    assert found.value("enis", outcome="refused") == 1


def test_a_state_that_is_refused_is_counted_when_it_is_read(bench: Bench) -> None:
    for cause in (Cause.STATE, Cause.TIMER, Cause.LINK):
        bench.cycle(namespace(1), cause=cause, refusal="bad")
    found = bench.scrape()
    assert (found.value("state_refused"), found.value("healthy")) == (1, 0)
    assert found.value("errors_total", kind="state") == 2


def test_two_namespaces_of_one_name_are_one_series(bench: Bench) -> None:
    """Prometheus refuses everything if a series comes twice."""
    bench.cycle(namespace(1, "container web"), namespace(2, "container web"))
    found = bench.scrape()
    assert found.value("sessions", namespace="container web") == 14
    assert found.value("dropped_packets_total", direction="ingress", cause="default") == 20


@pytest.mark.parametrize("named", ['"quoted" \\ and\nbroken', "n\udcff\ud800"])
def test_any_name_can_be_told(bench: Bench, named: str) -> None:
    bench.cycle(namespace(1, named))
    assert len(bench.scrape().values("sessions")) == 1


def test_series_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgdataplane.daemon.metrics.MAX_OF_EACH", 3)
    bench.cycle(*(namespace(number) for number in range(1, 6)))
    found = bench.scrape()
    for name in ("eni_in_force", "eni_epoch", "sessions"):
        assert len(found.values(name)) == 3
    assert found.value("enis", outcome="in force") == 5


def test_who_asks_often_gets_what_was_told_before(bench: Bench) -> None:
    bench.cycle(namespace(1))
    for reading_s, kept_s in ((0.0, KEPT_S), (0.5, 0.5 * KEPT_TIMES)):
        bench.reading_s = reading_s
        first = bench.metrics.text()
        readings, bench.sessions = bench.readings, bench.sessions + 1
        bench.now += kept_s * 0.99
        assert bench.metrics.text() == first
        assert bench.readings == readings
        bench.now += kept_s * 0.02
        assert bench.metrics.text() != first
        bench.now += 1000


def test_what_cannot_be_told_is_told_again_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.cycle(namespace(1))
    with monkeypatch.context() as patched:
        patched.setattr(bench, "sessions", "many")  # a bug
        assert bench.metrics.text() is None
        assert bench.metrics.text() is None
    assert bench.readings == 1
    assert bench.scrape().value("sessions") == 7


def test_what_waits_for_its_turn_was_not_tried(bench: Bench) -> None:
    waiting = replace(refused(KernelError("busy")), turn=Turn.WAITS)
    policy = Policy(CloudState(), Origin.STATE)
    host = HostReport((waiting, namespace(2)))
    bench.note(CycleReport(frozenset({Cause.TURN}), policy, host, "", "", 0.2))
    bench.metrics.note_delay()
    found = bench.scrape()
    assert (found.value("errors_total", kind="kernel"), found.value("apply_seconds_count")) == (0, 1)
    assert found.value("drift_delays_total") == 1
