"""Scenarios in a lab of hosts: the state comes through the control plane, and both ends of a probe are on any host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.attach.router import PREFIX
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.lab.hosts import wires
from sgdataplane.lab.hosts.hostslab import HostsLab, hosts_lab
from sgdataplane.lab.hosts.housekeeping import Housekeeper, LabClient
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import LabNode, Router
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import load_scenario, run_step
from sgdataplane.lab.topology import GATEWAYS, LENGTHS, Topology, plan
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import load
from tests.support.probes.flood import wait_until

pytestmark = [pytest.mark.traffic, pytest.mark.slow]

SCENARIOS = Path(__file__).parents[2] / "netns-lab" / "scenarios"
NAMES = ("20-three-tier", "34-advanced-groups", "40-group-remote", "60-secondary-enis")
HOSTS, OUTSIDE = 2, "ext-"


@pytest.mark.parametrize("name", NAMES)
def test_the_first_step_of_a_scenario_holds_between_hosts(name: str, placement: str) -> None:
    """Each row and each cell of its matrix, but for the hosts outside, of which a lab of hosts has none."""
    scenario = load_scenario(SCENARIOS / name)
    step = scenario.steps[0]
    rows = tuple(row for row in step.rows if OUTSIDE not in row.text)
    assert {row.verdict for row in rows} == {"accept", "drop"}
    state = load(step.state).state
    with hosts_lab(HOSTS, Placement(placement), apis=1, relays=1) as lab:
        lab.import_state(step.state)
        keeper = Housekeeper(lab, LabClient(lab))
        wanted = {eni.network_interface_id for eni in state.eni.values() if eni.instance_id}
        wait_until(lambda: is_settled(keeper, wanted))
        keeper.turn()  # all routers are there now, to be joined
        assert {host.number for host in keeper.where.values()} == set(range(1, HOSTS + 1))
        if not lab.placement.is_outside:
            answer_as_gateways(lab)
        result = run_step(as_seen(keeper, state), replace(step, rows=rows), scenario.services)
        assert result.mistakes == ()
        assert {cell.expected.verdict for cell in result.matrix} == {"accept", "drop"}


def is_settled(keeper: Housekeeper, wanted: set[str]) -> bool:
    """Whether these ENIs are all there, and obey the last revision: what binds the last one changes others' policies,
    too."""
    keeper.turn()
    if not (in_force(keeper.lab) == wanted == set(keeper.guests)):
        return False
    answer = keeper.client.ask("SgdpWait", Timeout=5)
    return not (answer["Lagging"] or answer["Failed"] or answer["Unknown"])


def in_force(lab: HostsLab) -> set[str]:
    """The ENIs whose policy is."""
    return {eni for host in lab.hosts for eni, outcome in host.outcomes().items() if outcome == "in force"}


def answer_as_gateways(lab: HostsLab) -> None:
    """A probe's tap proves its wire by asking the gateway. In instance placement hosts have none; their bridges are to
    answer."""
    for host in lab.hosts:
        with Links(host.namespace.netns) as links:
            for family, address in GATEWAYS.items():
                links.add_address(InterfaceAddress(wires.segment_ifname(1), address, LENGTHS[family]))


def as_seen(keeper: Housekeeper, state: CloudState) -> Lab:
    """The lab as probes see it: who is in which namespace, and behind which host's router."""
    planned = plan("hosts", state, (), HOSTS)
    nodes = tuple(_node(keeper, node) for node in planned.nodes if node.interfaces)
    lab = keeper.lab
    routers = tuple(
        Router(vpc.vpc_id, host.namespace.get_namespace_path(f"{PREFIX}{vpc.vpc_id}"), host.number)
        for vpc in state.vpcs
        for host in lab.hosts
    )
    choices = replace(ON_HOSTS, placement=lab.placement)
    record = LabRecord("hosts", (), tuple(node.netns for node in nodes), hosts=HOSTS, choices=choices)
    return Lab(record, state, Topology("hosts", nodes, routers))


def _node(keeper: Housekeeper, node: LabNode) -> LabNode:
    guests = [keeper.guests[end.eni_id] for end in node.interfaces]
    ends = tuple(replace(end, ifname=guest.plug.ifname) for end, guest in zip(node.interfaces, guests, strict=True))
    return replace(node, netns=guests[0].netns, host=guests[0].host.number, interfaces=ends)
