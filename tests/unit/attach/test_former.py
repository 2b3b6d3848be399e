"""Which namespaces a reconcile need not look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.attach.former import Former
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniReport, HostReport, NamespaceReport, Outcome
from sgdataplane.enforce import ApplyReport, Desired
from sgdataplane.host.identity import Identity
from sgdataplane.model.state import Eni
from tests.support.builders import make_eni, make_group, make_state

KEY = Identity(1, 2)
BINDING = Binding("eni-a", "eth0", "netns a", "/run/netns/a", KEY)
STATE = make_state(
    [make_group("sg-a", ["ingress tcp 22/22 from sg-b"]), make_group("sg-b"), make_group("sg-c")],
    [make_eni(f"eni-{name}", f"10.0.0.{number}", f"sg-{name}") for number, name in enumerate("abc", 1)],
)
APPLIED = ApplyReport(1, 0, 0, 0, 0.1)
DESIRED = Desired(STATE, {"eni-a": "eth0"})
REPORT = NamespaceReport(KEY, (EniReport(BINDING, Outcome.IN_FORCE),), DESIRED, APPLIED)


def former(report: NamespaceReport = REPORT, *, is_quiet: bool = True) -> Former:
    return Former(HostReport((report,)), {KEY} if is_quiet else set())


def without(eni_id: str) -> tuple[Eni, ...]:
    return tuple(eni for eni in STATE.network_interfaces if eni.network_interface_id != eni_id)


def test_what_is_settled_and_quiet_needs_no_look() -> None:
    assert former().settled(KEY, [BINDING], STATE) is REPORT
    other = replace(STATE, network_interfaces=without("eni-c"))
    found = former().settled(KEY, [BINDING], other)
    assert found == replace(REPORT, desired=replace(DESIRED, state=other))
    assert found is not None
    assert former(found).settled(KEY, [BINDING], other) is found


def test_what_was_done_once_is_not_told_again() -> None:
    done = replace(
        REPORT, applied=ApplyReport(7, 1, 2, 3, 0.1, adopting=("eth0",), adoption_window=30.0, fenced=("eth0",))
    )
    found = former(done).settled(KEY, [BINDING], STATE)
    assert found is not None
    assert found.applied == ApplyReport(7, 0, 0, 0, 0.0, fenced=("eth0",))
    assert former(found).settled(KEY, [BINDING], STATE) is found


@pytest.mark.parametrize(
    "changed",
    [
        {"enis": (EniReport(BINDING, Outcome.REFUSED),), "applied": None},
        {"enis": (EniReport(BINDING, Outcome.GONE),)},
        {"applied": replace(APPLIED, leftover="busy")},
        {"desired": None},
    ],
)
def test_what_was_not_done_is_looked_at(changed: dict[str, object]) -> None:
    report = replace(REPORT, **changed)  # type: ignore[arg-type]
    assert former(report).settled(KEY, [BINDING], STATE) is None


def test_what_was_heard_of_or_is_bound_otherwise_is_looked_at() -> None:
    assert former(is_quiet=False).settled(KEY, [BINDING], STATE) is None
    assert former().settled(KEY, [BINDING, replace(BINDING, eni_id="eni-b", ifname="eth1")], STATE) is None
    assert former().settled(KEY, [replace(BINDING, named="container a")], STATE) is None
    assert former().settled(Identity(1, 3), [BINDING], STATE) is None


def test_what_a_change_is_about_is_looked_at() -> None:
    assert former().settled(KEY, [BINDING], replace(STATE, network_interfaces=without("eni-b"))) is None
    assert former().settled(KEY, [BINDING], replace(STATE, network_interfaces=without("eni-a"))) is None


def test_what_is_in_force_for_another_reason_is_not_compiled_again() -> None:
    table = DESIRED.table()
    other = replace(STATE, network_interfaces=without("eni-c"))
    wanted = Desired(other, {"eni-a": "eth0"})
    assert former(is_quiet=False).desired(KEY, wanted).table() is table
    moved = Desired(other, {"eni-a": "eth1"})
    assert former(is_quiet=False).desired(KEY, moved) is moved
