"""Which policy is kept as the last good one. In the real agent, with packets: tests/agent/test_cycle.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.attach.agenda import Agenda, Heard
from sgdataplane.attach.discover import BindRule, Discovery, Sights
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import DEFAULT_MANNER, EniOutcome, EniReport, HostReport, Manner, NamespaceReport
from sgdataplane.daemon.auditfile import AuditEndFile
from sgdataplane.daemon.cycle import CycleReport, Reconciler
from sgdataplane.daemon.policy import Origin
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood
from sgdataplane.errors import HostError
from sgdataplane.host.files import beside_of
from sgdataplane.host.identity import Identity
from sgdataplane.model.modes import Mode, until_seconds
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from tests.support.inputs.statefiles import StateFiles
from tests.support.scenes.attachbench import state_of

OLD, NEW = state_of(443, 80), state_of(443)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.yaml"


def run(tmp_path: Path, path: Path, state: CloudState | None) -> Reconciler:
    """A new agent's first cycle, with this state on disk."""
    path.write_text("{" if state is None else dump_native(state), "utf-8")
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
    report = reconciler.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, BindRule())
    assert report.policy.state == (state or NEW)
    assert report.policy.origin is (Origin.LAST_GOOD if state is None else Origin.STATE)
    return reconciler


def test_one_eni_that_refuses_does_not_leave_an_older_policy_to_the_next_start(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, path, OLD)

    def refusing(*_: object) -> HostReport:
        binding = Binding("eni-a", "eth0", "a", "/run/netns/a", Identity(1, 2))
        refused = NamespaceReport("a", (EniReport(binding, EniOutcome.REFUSED),), error=HostError("a", "refused"))
        return HostReport((refused,))

    with monkeypatch.context() as patched:
        patched.setattr("sgdataplane.daemon.cycle.reconcile", refusing)
        run(tmp_path, path, NEW)
    run(tmp_path, path, None)


def test_the_timer_reads_a_state_whose_change_nobody_has_heard_of(tmp_path: Path, path: Path) -> None:
    reconciler = run(tmp_path, path, OLD)
    path.write_text(dump_native(NEW), "utf-8")

    def cycle(cause: Cause) -> CloudState:
        return reconciler.run({cause}, StateFiles(path), DEFAULT_MANNER, BindRule()).policy.state

    assert (cycle(Cause.LINK), cycle(Cause.TIMER)) == (OLD, NEW)


def test_after_an_unforeseen_error_no_namespace_counts_as_seen(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, given = run(tmp_path, path, OLD), list[Sights]()

    def note(_registry: Registry, _state: CloudState, _rule: BindRule, sights: Sights) -> Discovery:
        given.append(sights)
        return Discovery()

    monkeypatch.setattr("sgdataplane.daemon.cycle.discover", note)
    for _ in range(2):
        reconciler.run({Cause.LINK}, StateFiles(path), DEFAULT_MANNER, BindRule())
    reconciler.forget()
    reconciler.run({Cause.LINK}, StateFiles(path), DEFAULT_MANNER, BindRule())
    assert given[0] is given[1]
    assert given[2] is not given[1]


def test_without_a_state_and_without_enis_it_waits(tmp_path: Path, path: Path) -> None:
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))

    def cycle() -> CycleReport:
        return reconciler.run({Cause.STATE}, StateFiles(path), DEFAULT_MANNER, BindRule())

    report = cycle()
    assert (report.is_waiting, report.refusal, report.policy.origin) == (True, "", Origin.CLOSED)
    assert report.policy.refusal
    path.write_text("{", "utf-8")
    assert not cycle().is_waiting
    path.unlink()
    assert cycle().is_waiting
    path.write_text(dump_native(NEW), "utf-8")
    assert not cycle().is_waiting
    path.unlink()
    report = cycle()
    assert (report.is_waiting, bool(report.refusal)) == (False, True), "there was a state, which is in force"


def test_an_eni_without_a_state_is_more_than_waiting(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> HostReport:
        binding = Binding("eni-a", "eth0", "a", "/run/netns/a", Identity(1, 2))
        return HostReport((NamespaceReport("a", (EniReport(binding, EniOutcome.CLOSED),)),))

    monkeypatch.setattr("sgdataplane.daemon.cycle.reconcile", closed)
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
    report = reconciler.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, BindRule())
    assert (report.is_waiting, bool(report.refusal)) == (False, True)


UNTIL = "2001-02-03T04:05:06Z"


def test_what_an_error_leaves_is_no_reason_for_a_cycle_without_end(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit was about to end, and the cycle that had to enforce it failed: the retry comes as after any error."""

    def failing(_: Registry, state: CloudState, manner: Manner, agenda: Agenda, *__: object) -> HostReport:
        agenda.modes.of(audited_until(state, UNTIL), (), manner.audit, until_seconds(UNTIL) - 1)
        raise RuntimeError("a bug")

    path.write_text(dump_native(NEW), "utf-8")
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
    monkeypatch.setattr("sgdataplane.daemon.cycle.reconcile", failing)
    with pytest.raises(RuntimeError):
        reconciler.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, BindRule())
    assert reconciler.mode_wait_s == 0.0, "control: it is over by the clock"
    reconciler.forget()
    assert reconciler.mode_wait_s is None


KEY = Identity(1, 2)
HEARD = Heard(quiet={KEY}, quiet_numbers={7}, waiting={KEY}, links={KEY: [("veth0",)]}, pids={"web": 12})


@pytest.mark.parametrize(
    ("cause", "heard"),
    [
        pytest.param(Cause.STATE, HEARD, id="a-state: what is quiet stays so"),
        pytest.param(
            Cause.TIMER,
            replace(HEARD, quiet=frozenset(), quiet_numbers=frozenset(), links={}),
            id="the-timer: nothing is",
        ),
        pytest.param(Cause.RELOAD, Heard(pids={"web": 12}), id="somebody-asks: nothing is, and nothing waits"),
    ],
)
def test_a_cycle_skips_what_is_quiet_unless_it_looks_at_everything(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, cause: Cause, heard: Heard
) -> None:
    found = noted_agendas(monkeypatch)
    path.write_text(dump_native(NEW), "utf-8")
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
    for causes in ({Cause.START}, {cause}):
        reconciler.run(causes, StateFiles(path), DEFAULT_MANNER, BindRule(), HEARD)
    assert found[1].heard == heard


def test_after_an_unforeseen_error_nothing_is_known_to_be_in_force(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = noted_agendas(monkeypatch)
    path.write_text(dump_native(NEW), "utf-8")
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))

    def cycle() -> Agenda:
        reconciler.run({Cause.STATE}, StateFiles(path), DEFAULT_MANNER, BindRule())
        return found[-1]

    first, second = cycle(), cycle()
    assert (second.report, second.cache is first.cache) == (REPORTED, True), "control: it goes on from these"
    reconciler.forget()
    third = cycle()
    assert (third.report, third.cache is first.cache) == (HostReport(()), False)


REPORTED = HostReport((NamespaceReport("a", (), error=HostError("a", "refused")),))


def noted_agendas(monkeypatch: pytest.MonkeyPatch) -> list[Agenda]:
    """The agendas of the cycles to come, in which nothing is done."""
    found: list[Agenda] = []

    def reconcile(_: Registry, __: CloudState, ___: Manner, agenda: Agenda, *____: object) -> HostReport:
        found.append(agenda)
        return REPORTED

    monkeypatch.setattr("sgdataplane.daemon.cycle.reconcile", reconcile)
    return found


def test_which_audits_have_ended_is_kept_for_the_next_start(tmp_path: Path, path: Path) -> None:
    path.write_text(dump_native(audited_until(NEW, UNTIL)), "utf-8")

    def cycle() -> CycleReport:
        reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
        reconciler.keep_ends_in(AuditEndFile(tmp_path / "var"))
        return reconciler.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, BindRule())

    report = cycle()
    assert (report.is_whole, report.audit_end_error) == (True, "")
    assert AuditEndFile(tmp_path / "var").load() == UNTIL
    path.write_text(dump_native(NEW), "utf-8")
    assert cycle().is_whole
    assert AuditEndFile(tmp_path / "var").load() == UNTIL, "it has been, whatever the state says now"


def test_an_end_that_cannot_be_kept_is_said_and_tried_again(tmp_path: Path, path: Path) -> None:
    path.write_text(dump_native(audited_until(NEW, UNTIL)), "utf-8")
    file = AuditEndFile(tmp_path / "var")
    reconciler = Reconciler(Registry(tmp_path / "bindings"), LastGood(tmp_path / "var"))
    reconciler.keep_ends_in(file)
    beside_of(file.path, "new").mkdir(parents=True)

    def cycle() -> CycleReport:
        return reconciler.run({Cause.TIMER}, StateFiles(path), DEFAULT_MANNER, BindRule())

    report = cycle()
    assert (report.is_whole, "audit-ended" in report.audit_end_error) == (False, True)
    beside_of(file.path, "new").rmdir()
    assert cycle().is_whole


def audited_until(state: CloudState, until: str) -> CloudState:
    return state.with_mode({eni.network_interface_id for eni in state.network_interfaces}, Mode.AUDIT, until)
