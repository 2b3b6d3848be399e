"""Which lines the log gets about ENIs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport
from sgdataplane.daemon import journal
from sgdataplane.daemon.status import EniStatus
from sgdataplane.host.identity import Identity


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
