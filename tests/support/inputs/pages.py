"""States and matrices to make pages of, without a lab.

Owns the hostile names. Must not know how pages look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sgdataplane.analyse.review import review
from sgdataplane.lab import manage
from sgdataplane.lab.expect import ProbeResult, expect
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.matrix import matrix_probes
from sgdataplane.lab.probe import Observation, parse_services
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.policy.findings import Finding, Severity
from sgdataplane.report.content import Observed, SessionRow, Unobserved
from sgdataplane.report.page import Subject, report_page
from sgdataplane.report.render import render_page
from sgdataplane.statefile import load

ROOT = Path(__file__).resolve().parents[3]
THREE_TIER = ROOT / "netns-lab" / "scenarios" / "20-three-tier" / "state.yaml"
HOSTILE = (
    """<script>document.title="taken"</script><img src=http://192.0.2.1/x onerror=alert(1)>"'></title></style>{{7*7}}"""
)
NOT_HERE = Unobserved("no lab was named with --name.")


def three_tier() -> CloudState:
    return load(THREE_TIER).state


def page_of(
    state: CloudState,
    source: str = "state.yaml",
    observed: Observed | Unobserved = NOT_HERE,
    findings: Sequence[Finding] | None = None,
) -> str:
    """The report as text."""
    return render_page(report_page(Subject(source, state, review(state) if findings is None else findings, observed)))


def hostile_state() -> CloudState:
    """The three tiers, with names, descriptions and ids that are markup."""
    state = three_tier()
    groups = tuple(
        replace(
            group,
            security_group_name=HOSTILE,
            rules=tuple(replace(r, description=HOSTILE, security_group_rule_id=HOSTILE + str(r)) for r in group.rules),
        )
        for group in state.security_groups
    )
    instances = tuple(replace(entry, instance_name=HOSTILE) for entry in state.instances)
    return replace(state, security_groups=groups, instances=instances)


def hostile_page() -> str:
    """The state with markup wherever a user's or the kernel's text may stand."""
    finding = Finding("UnusedGroup", Severity.HIGH, HOSTILE, (("security_group_id", HOSTILE),))
    session = SessionRow(*[HOSTILE] * 8)
    return page_of(hostile_state(), HOSTILE, Observed(HOSTILE, {}, (session,), 1), [finding])


def matrix_of(state: CloudState, name: str, services: str, *, wrong: int = 0) -> tuple[Lab, list[ProbeResult]]:
    """A lab that was never built, with results of probes. The first `wrong` don't do what the policy says."""
    lab = manage.make_lab(manage.default_record(name), state)
    probes = matrix_probes(lab.topology.nodes, parse_services(services))
    cells = []
    for probe in probes:
        expected = expect(state, probe, 40000, DEFAULTS)
        cells.append(ProbeResult(probe, expected, Observation(expected.verdict, expected.where, ("as it was seen",))))
    for index in range(wrong):
        verdict = "drop" if cells[index].expected.verdict == "accept" else "accept"
        cells[index] = replace(cells[index], observed=Observation(verdict, "", ("as it was seen",)))
    return lab, cells
