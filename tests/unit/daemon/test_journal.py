"""Which lines the log gets about ENIs, and about what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport
from sgdataplane.daemon import journal
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.status import EniStatus, Status
from sgdataplane.host.identity import Identity
from sgdataplane.model.state import CloudState


def status_of(eni_id: str, epoch: int = 1, outcome: EniOutcome = EniOutcome.IN_FORCE) -> EniStatus:
    binding = Binding(eni_id, "eth0", "netns w", "/run/netns/w", Identity(1, 1))
    return EniStatus(EniReport(binding, outcome), "sgdp-vpc", epoch, "", "2026-01-01T00:00:00.000Z")


BEFORE = {eni.report.binding.eni_id: eni for eni in map(status_of, ("eni-a", "eni-b", "eni-c"))}
ANEW = [replace(eni, epoch=2) for eni in BEFORE.values()]


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        pytest.param(ANEW, ['enis count=3 at=sgdp-vpc outcome="in force" epoch=2'], id="another-epoch"),
        pytest.param(ANEW[:1], ['eni eni=eni-a at="eth0 of netns w" outcome="in force" epoch=2'], id="of-one"),
        pytest.param(
            [*ANEW[:2], status_of("eni-c", 2, EniOutcome.CLOSED), status_of("eni-d", 2)],
            [
                'eni eni=eni-c at="eth0 of netns w" outcome=closed epoch=2',
                'eni eni=eni-d at="eth0 of netns w" outcome="in force" epoch=2',
                'enis count=2 at=sgdp-vpc outcome="in force" epoch=2',
            ],
            id="and-others",
        ),
    ],
)
def test_enis_of_a_namespace_that_have_only_another_epoch_share_a_line(
    caplog: pytest.LogCaptureFixture, new: list[EniStatus], lines: list[str]
) -> None:
    caplog.set_level("INFO")
    journal._log_enis(new, BEFORE)
    assert [record.getMessage() for record in caplog.records] == lines


FLOWTABLE, LIVES_ON = "netns w: flowtable inet t f", "eni-a: eth0 of netns w lives on"


@pytest.mark.parametrize(
    ("flowtables", "superseded", "names"),
    [
        ((FLOWTABLE,), False, {"flowtable-bypasses-policy": FLOWTABLE}),
        ((), True, {"binding-superseded": LIVES_ON}),
        ((FLOWTABLE,), True, {"flowtable-bypasses-policy": FLOWTABLE, "binding-superseded": LIVES_ON}),
    ],
    ids=["a flowtable", "a binding whose name leads elsewhere", "both"],
)
def test_each_kind_of_warning_has_an_event_of_its_own_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    flowtables: tuple[str, ...],
    superseded: bool,
    names: dict[str, str],
) -> None:
    monkeypatch.setattr(HostReport, "flowtables", flowtables)
    eni = status_of("eni-a").report
    eni = replace(eni, binding=replace(eni.binding, superseded=superseded))
    host = HostReport((NamespaceReport(Identity(1, 1), (eni,)),))
    report = CycleReport(frozenset({Cause.STATE}), Policy(CloudState(), Origin.STATE), host, "", "", 0.1)
    log = journal.Journal(Status(Path("/state"), Path("/config"), Path("/last-good")), Mock(), Mock(), Mock())
    for _ in range(2):
        log._log_faults(report, {})
    assert [line.split()[0] for line in caplog.messages] == list(names)
    for line, text in zip(caplog.messages, names.values(), strict=True):
        assert text in line
    assert len(host.warnings) == len(names), "status and apply tell all of them"


def test_a_cycle_that_did_nothing_and_a_record_that_was_not_written_are_two_events(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each with its own words, also where one follows the other."""
    log = journal.Journal(Status(Path("/state"), Path("/config"), Path("/last-good")), Mock(), Mock(), Mock())
    for host, error in ((None, "locked"), (HostReport((), unrecorded="disk full"), "")):
        report = CycleReport(frozenset({Cause.STATE}), Policy(CloudState(), Origin.STATE), host, error, "", 0.1)
        log._log_faults(report, {})
    assert caplog.messages == ["cycle-incomplete error=locked", 'bindings-not-recorded error="disk full"']
