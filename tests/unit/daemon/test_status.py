"""What the status says about an ENI: its own warnings, and those that it shares with all ENIs of its namespace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.namespaces import Drift
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.status import Status
from sgdataplane.enforce import ApplyReport
from sgdataplane.host.identity import Identity
from sgdataplane.model.state import CloudState

SLOW = "a change holds the kernel for about 4.0 s"
STAMP_MAP = ApplyReport(3, staged=5, switched=2, swept=1, seconds=4.1)
ENIS = tuple(
    EniReport(Binding(f"eni-{n}", f"eth{n}", "container web", "/", Identity(1, 1)), EniOutcome.IN_FORCE, warnings)
    for n, warnings in enumerate([(), ("its MAC is another",)])
)


def told(status: Status, applied: ApplyReport) -> list[dict[str, Any]]:
    """The warnings of each ENI after one more cycle."""
    entry = NamespaceReport(Identity(1, 1), ENIS, applied=applied)
    policy = Policy(CloudState(), Origin.STATE)
    status.note_cycle(CycleReport(frozenset({Cause.STATE}), policy, HostReport((entry,)), "", "", 4.2))
    found = status.as_json()["enis"]
    assert isinstance(found, list)
    return found


def test_policy_whose_changes_hold_the_kernel_is_told_of_at_each_of_its_enis() -> None:
    status = Status(Path("/state"), Path("/config"), Path("/last-good"))
    assert [eni["warnings"] for eni in told(status, STAMP_MAP)] == [[], ["its MAC is another"]]
    slow = replace(STAMP_MAP, slow=SLOW)
    assert [eni["warnings"] for eni in told(status, slow)] == [[SLOW], ["its MAC is another", SLOW]]
    assert [eni["warnings"] for eni in told(status, slow.at_rest)] == [[SLOW], ["its MAC is another", SLOW]]
    assert [eni["warnings"] for eni in told(status, STAMP_MAP.at_rest)] == [[], ["its MAC is another"]]
    assert status.is_healthy


@pytest.mark.parametrize("outcome", [outcome for outcome in EniOutcome if not outcome.is_fine])
def test_it_is_not_healthy_while_an_eni_is_not_in_force(outcome: EniOutcome) -> None:
    status = Status(Path("/state"), Path("/config"), Path("/last-good"))
    told(status, STAMP_MAP)
    assert status.is_healthy
    entry = NamespaceReport(Identity(1, 1), (ENIS[0], replace(ENIS[1], outcome=outcome)), applied=STAMP_MAP)
    report = CycleReport(frozenset({Cause.LINK}), Policy(CloudState(), Origin.STATE), HostReport((entry,)), "", "", 0.1)
    status.note_cycle(report)
    assert not status.is_healthy


def test_a_disturbed_eni_is_told_with_who_does_it() -> None:
    status = Status(Path("/state"), Path("/config"), Path("/last-good"))
    told(status, STAMP_MAP)
    status.note_drift(Drift(Identity(1, 1), "container web", "nft[4711]", "rule deleted: ingress"))
    assert [eni["warnings"] for eni in told(status, STAMP_MAP)] == [[], ["its MAC is another"]]
    disturbed = tuple(replace(eni, outcome=EniOutcome.DISTURBED) for eni in ENIS)
    entry = NamespaceReport(Identity(1, 1), disturbed, applied=STAMP_MAP)
    policy = Policy(CloudState(), Origin.STATE)
    status.note_cycle(CycleReport(frozenset({Cause.DRIFT}), policy, HostReport((entry,)), "", "", 0.1))
    found = status.as_json()["enis"]
    assert isinstance(found, list)
    by = "other programs keep changing sgdataplane's rules there; the last was nft[4711]: rule deleted: ingress"
    assert [eni["warnings"] for eni in found] == [[by], ["its MAC is another", by]]
    assert {eni["outcome"] for eni in found} == {"disturbed"}
    assert not status.is_healthy
    told(status, STAMP_MAP)
    assert status.is_healthy
