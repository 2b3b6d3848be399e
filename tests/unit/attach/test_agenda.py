"""Which namespaces a reconcile need not look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.attach import agenda as module
from sgdataplane.attach.agenda import Agenda, Heard
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport, Turn
from sgdataplane.enforce import DEFAULT_SETTINGS, ApplyReport, Desired, Settings, build
from sgdataplane.host.identity import Identity
from sgdataplane.model.options import Options
from sgdataplane.model.state import Eni
from tests.support.inputs.builders import make_eni, make_group, make_state

KEY = Identity(1, 2)
BINDING = Binding("eni-a", "eth0", "netns a", "/run/netns/a", KEY)
STATE = make_state(
    [make_group("sg-a", ["ingress tcp 22/22 from sg-b"]), make_group("sg-b"), make_group("sg-c")],
    [make_eni(f"eni-{name}", f"10.0.0.{number}", f"sg-{name}") for number, name in enumerate("abc", 1)],
)
APPLIED = ApplyReport(1, 0, 0, 0, 0.1)
DESIRED = Desired(STATE, {"eni-a": "eth0"})
PROVEN = build(DESIRED)
REPORT = NamespaceReport(KEY, (EniReport(BINDING, EniOutcome.IN_FORCE),), PROVEN, APPLIED)


def agenda(report: NamespaceReport = REPORT, *, is_quiet: bool = True) -> Agenda:
    return Agenda(HostReport((report,)), Heard({KEY} if is_quiet else set()))


def without(eni_id: str) -> tuple[Eni, ...]:
    return tuple(eni for eni in STATE.network_interfaces if eni.network_interface_id != eni_id)


UNPROVEN = Settings(prove=False)
CHANGED = replace(STATE, network_interfaces=without("eni-b"))


def test_what_is_settled_and_quiet_needs_no_look() -> None:
    assert agenda().report_settled(KEY, [BINDING], STATE) is REPORT
    other = replace(STATE, network_interfaces=without("eni-c"))
    found = agenda().report_settled(KEY, [BINDING], other)
    assert found == replace(REPORT, proven=PROVEN.on(other))
    assert found is not None
    assert agenda(found).report_settled(KEY, [BINDING], other) is found


def test_what_was_done_once_is_not_told_again() -> None:
    done = replace(
        REPORT, applied=ApplyReport(7, 1, 2, 3, 0.1, adopting=("eth0",), adoption_window=30.0, fenced=("eth0",))
    )
    found = agenda(done).report_settled(KEY, [BINDING], STATE)
    assert found is not None
    assert found.applied == ApplyReport(7, 0, 0, 0, 0.0, fenced=("eth0",))
    assert agenda(found).report_settled(KEY, [BINDING], STATE) is found


@pytest.mark.parametrize(
    "changed",
    [
        {"enis": (EniReport(BINDING, EniOutcome.REFUSED),), "applied": None},
        {"applied": replace(APPLIED, leftover="busy")},
        {"proven": None},
    ],
)
def test_what_was_not_done_is_looked_at(changed: dict[str, object]) -> None:
    report = replace(REPORT, **changed)  # type: ignore[arg-type]
    assert agenda(report).report_settled(KEY, [BINDING], STATE) is None


def test_what_has_ended_needs_no_search() -> None:
    gone = replace(REPORT, enis=(EniReport(BINDING, EniOutcome.GONE),), applied=None, proven=None)
    assert agenda(gone).report_settled(KEY, [BINDING], STATE) is gone
    assert agenda(gone).is_known_gone(BINDING)
    assert agenda(gone, is_quiet=False).report_settled(KEY, [BINDING], STATE) is None
    assert not agenda(gone, is_quiet=False).is_known_gone(BINDING)
    assert agenda(gone).report_settled(KEY, [replace(BINDING, named="container a")], STATE) is None


def test_what_was_heard_of_or_is_bound_otherwise_is_looked_at() -> None:
    assert agenda(is_quiet=False).report_settled(KEY, [BINDING], STATE) is None
    assert agenda().report_settled(KEY, [BINDING, replace(BINDING, eni_id="eni-b", ifname="eth1")], STATE) is None
    assert agenda().report_settled(KEY, [replace(BINDING, named="container a")], STATE) is None
    assert agenda().report_settled(Identity(1, 3), [BINDING], STATE) is None


def test_what_a_change_is_about_is_looked_at() -> None:
    assert agenda().report_settled(KEY, [BINDING], replace(STATE, network_interfaces=without("eni-b"))) is None
    assert agenda().report_settled(KEY, [BINDING], replace(STATE, network_interfaces=without("eni-a"))) is None


def test_what_is_in_force_for_another_reason_is_not_compiled_again() -> None:
    other = replace(STATE, network_interfaces=without("eni-c"))
    wanted = Desired(other, {"eni-a": "eth0"})
    found = agenda(is_quiet=False).build(KEY, wanted, DEFAULT_SETTINGS)
    assert (found.desired, found.table is PROVEN.table) == (wanted, True)


@pytest.mark.parametrize(
    ("desired", "settings"),
    [
        pytest.param(Desired(STATE, {"eni-a": "eth1"}), DEFAULT_SETTINGS, id="interface"),
        pytest.param(replace(DESIRED, options=Options(strict_syn=True)), DEFAULT_SETTINGS, id="options"),
        pytest.param(DESIRED, Settings(time_scale=0.5), id="timeouts"),
        pytest.param(Desired(CHANGED, {"eni-a": "eth0"}), DEFAULT_SETTINGS, id="members"),
    ],
)
def test_what_is_otherwise_is_built_anew(desired: Desired, settings: Settings) -> None:
    found = agenda(is_quiet=False).build(KEY, desired, settings)
    assert found == build(desired, settings)
    assert found.table is not PROVEN.table


def test_what_is_not_proven_yet_is_not_taken_for_proven() -> None:
    unproven = replace(REPORT, proven=build(DESIRED, Settings(prove=False)))
    assert agenda(unproven, is_quiet=False).build(KEY, DESIRED, DEFAULT_SETTINGS).proof is not None


OTHER = Identity(1, 3)


def hearing(heard: Heard, report: NamespaceReport = REPORT) -> Agenda:
    """An agenda whose clock advances one second at each look."""
    times = iter(range(1000))
    return Agenda(HostReport((report,)), heard=heard, clock=lambda: next(times))


def test_what_is_heard_of_waits_for_its_turn() -> None:
    found = hearing(Heard(order=[KEY], waiting={KEY}, disturbed={KEY}))
    report = found.report_settled(KEY, [BINDING], STATE)
    assert report is not None
    assert [eni.outcome for eni in report.enis] == [EniOutcome.DISTURBED]
    assert (report.desired, report.turn) == (DESIRED, Turn.WAITS)


def test_what_is_heard_of_and_has_its_turn_is_looked_at() -> None:
    found = hearing(Heard(order=[KEY], disturbed={KEY}))
    assert found.report_settled(KEY, [BINDING], STATE) is None
    report = found.look(KEY, lambda: REPORT)
    assert (report, report.turn, report.looked_s) == (REPORT, Turn.HAD, 1)
    settled = agenda(report).report_settled(KEY, [BINDING], STATE)
    assert settled is not None
    assert settled.looked_s is None, "the next reconcile didn't look"


def test_in_one_reconcile_there_is_so_much_time_for_what_is_heard_of() -> None:
    found = hearing(Heard(order=[OTHER, KEY]))
    assert found.report_settled(KEY, [BINDING], STATE, module.SLICE_S - 0.001) is None, "control: there is time"
    report = found.report_settled(KEY, [BINDING], STATE, module.SLICE_S)
    assert report == REPORT
    assert HostReport((report,)).left == {KEY}
    settled = agenda(report).report_settled(KEY, [BINDING], STATE)
    assert settled is not None
    assert settled.turn is Turn.HAD, "nothing more was heard"


def test_another_policy_comes_before_all_that_is_heard_of() -> None:
    found = hearing(Heard(order=[OTHER, KEY], waiting={KEY}))
    assert found.order([OTHER, KEY], CHANGED) == [KEY, OTHER]
    assert found.report_settled(KEY, [BINDING], CHANGED) is None


def test_those_whose_policy_narrows_come_before_those_whose_policy_widens() -> None:
    enis = [make_eni(f"eni-{name}", f"10.0.0.{number}", f"sg-{name}") for number, name in enumerate("abc", 1)]
    rules = "ingress tcp 22/22 from 10.1.0.0/16", "ingress tcp 23/23 from 10.1.0.0/16"
    before = make_state([make_group("sg-a", rules[:1]), make_group("sg-b", rules), make_group("sg-c")], enis)
    after = make_state([make_group("sg-a", rules), make_group("sg-b", rules[:1]), make_group("sg-c")], enis)
    keys = [Identity(number, number) for number in range(3)]
    proven = [build(Desired(before, {eni.network_interface_id: "eth0"}), UNPROVEN) for eni in enis]
    reports = tuple(replace(REPORT, key=key, proven=made) for key, made in zip(keys, proven, strict=True))
    for state, order in ((after, [1, 0, 2]), (before, [0, 1, 2])):
        found = Agenda(HostReport(reports), Heard(frozenset(keys)))
        assert found.order(keys, state) == [keys[number] for number in order]


def test_in_a_disturbed_namespace_another_policy_comes_last_but_does_not_wait_for_its_turn() -> None:
    found = hearing(Heard(order=[KEY], waiting={KEY}, disturbed={KEY}))
    assert found.order([KEY, OTHER], CHANGED) == [OTHER, KEY]
    assert found.report_settled(KEY, [BINDING], CHANGED) is None
    report = found.report_settled(KEY, [BINDING], CHANGED, 1)
    assert report is not None
    assert (report.desired, report.turn, HostReport((report,)).is_owed) == (DESIRED, Turn.OWED, True)


def test_a_refused_one_that_is_heard_of_waits_as_well() -> None:
    refused = replace(REPORT, enis=(EniReport(BINDING, EniOutcome.REFUSED),), applied=None, proven=None)
    found = hearing(Heard(order=[KEY], waiting={KEY}, disturbed={KEY}), refused)
    assert found.report_settled(KEY, [BINDING], STATE) == refused
