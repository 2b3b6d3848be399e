"""Audit mode with real packets: every scenario of netns-lab/scenarios run with all ENIs in audit mode.

What only rules refuse passes, and nothing else. What is counted as audited, by ENI and rule, is what an enforced run
refuses: each end at which a probe's opening packet would be dropped, once. That is not the number of packets that an
enforced run drops. There, the sender's drop hides the receiver's, and a packet that is sent again is dropped again. In
audit mode the first packet opens a session, whose later packets aren't judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.contract.counters import counter_name, name_audited_at
from sgdataplane.lab.expect import packet_at
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.matrix import matrix_probes, probe_all
from sgdataplane.lab.probe import Probe, parse_services
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import Scenario, load_scenario
from sgdataplane.model.decision import Decision
from sgdataplane.model.modes import Mode
from sgdataplane.model.semantics import decide, order_candidates
from sgdataplane.model.state import CloudState
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.observe.hits import read_hits
from sgdataplane.statefile import load
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy
from tests.traffic.test_scenarios import FOLDERS

pytestmark = pytest.mark.traffic
FEW = {"10-figure-1-basic", "31-several-groups", "42-five-tuple", "60-secondary-enis"}
SOME = [
    pytest.param(folder, id=folder.name, marks=[] if folder.name in FEW else [pytest.mark.slow]) for folder in FOLDERS
]
Refusals = Counter[tuple[str, Decision]]


@pytest.mark.parametrize("folder", SOME)
def test_a_scenario_in_audit_mode(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    scenario, name = load_scenario(folder), make_lab_name()
    audited = sum(check(scenario, labs.record_of(name, placement)))
    assert audited > 0, "nothing would be refused: this proves nothing"
    labs.assert_gone(name)


def check(scenario: Scenario, record: LabRecord) -> list[int]:
    """How many packets were audited, by step. Each step has a lab of its own, so that its counters begin at zero."""
    return [check_step(scenario, record, load(step.state).state) for step in scenario.steps]


def check_step(scenario: Scenario, record: LabRecord, enforced: CloudState) -> int:
    every = {eni.network_interface_id for eni in enforced.network_interfaces}
    with labs.running(
        record.name,
        enforced.with_mode(every, Mode.AUDIT),
        enforce_policy,
        scenario.externals,
        placement=record.choices.placement.value,
    ) as lab:
        probes = matrix_probes(lab.topology.nodes, scenario.services)
        cells = probe_all(lab, probes)
        assert [cell for cell in cells if not cell.agrees] == []
        wanted = sum((refusals(enforced, probe, lab) for probe in probes), Refusals())
        assert counted(lab, enforced) == wanted
    return wanted.total()


def refusals(enforced: CloudState, probe: Probe, lab: Lab) -> Refusals:
    """The ends at which the probe's opening packet would be dropped by rules, until something else drops it."""
    found = Refusals()
    ways = ((Direction.EGRESS, probe.source, probe.target), (Direction.INGRESS, probe.target, probe.source))
    for direction, end, other in ways:
        if not end.eni_id:
            continue
        decision = decide(enforced, packet_at(end, other, direction, probe, EPHEMERAL), lab.options)
        if decision.verdict is Verdict.DROP:
            if decision.is_fixed:
                return found
            found[end.eni_id, decision] += 1
    return found


def counted(lab: Lab, enforced: CloudState) -> Refusals:
    """What the kernel has counted as audited. AssertionError if it has counted a refusal by rules at all."""
    found = Refusals()
    every = {d for eni in enforced.network_interfaces for d in refusing(enforced, eni.network_interface_id)}
    for place in lab.enforced:
        hits = {name: counted.packets for name, counted in read_hits(place.netns).items() if counted.packets}
        assert not {counter_name(decision) for decision in every} & hits.keys()
        for eni_id, ifname in place.desired.interfaces.items():
            for decision in refusing(enforced, eni_id):
                found[eni_id, decision] += hits.pop(name_audited_at(ifname, decision), 0)
        assert not [name for name in hits if name.startswith("audited-by")]
    return +found


def refusing(state: CloudState, eni_id: str) -> set[Decision]:
    eni = state.eni[eni_id]
    every = (c.decision for side in Direction for c in order_candidates(state, eni, side))
    return {decision for decision in every if decision.verdict is Verdict.DROP}


def test_a_receiver_in_mode_enforce_refuses_what_an_audited_sender_sends(
    placement: str, make_lab_name: Callable[[], str]
) -> None:
    """And the other way round. Each is the other's control."""
    state = labs.state_of(TWO)
    for audited, verdict in (("eni-a", "drop"), ("eni-b", "drop"), ("", "drop"), ("eni-a eni-b", "accept")):
        name = make_lab_name()
        mixed = state.with_mode(audited.split(), Mode.AUDIT)
        with labs.running(name, mixed, enforce_policy, placement=placement) as lab:
            cells = probe_all(lab, [p for p in matrix_probes(lab.topology.nodes, TCP) if p.source.eni_id == "eni-a"])
            (cell,) = [cell for cell in cells if cell.probe.target.eni_id == "eni-b"]
            assert (cell.agrees, cell.observed.verdict) == (True, verdict), (audited, cell)
        labs.assert_gone(name)


TCP = parse_services("tcp/443")
TWO = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, inner_access_policy: Drop,
     rules: [{type: egress, ip_protocol: all, cidr_ip: 0.0.0.0/0, policy: drop}]}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],
     security_group_ids: [sg-a]}
  - {network_interface_id: eni-b, instance_id: i-b, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2],
     security_group_ids: [sg-a]}
"""
