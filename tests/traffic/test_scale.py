"""A large matrix takes well under a minute on two cores: 20 nodes, each with 19 others, 5 services."""

from __future__ import annotations

import time

import pytest

from sgdataplane.lab.manage import enforce_policy
from tests.support.scenes import labs

pytestmark = [pytest.mark.traffic, pytest.mark.slow]

NODES, BUDGET_S = 20, 60.0
RULES = """
      - {type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 10.0.0.0/28}
      - {type: egress, ip_protocol: tcp, port_range: 80/80, cidr_ip: 10.0.0.8/29, policy: drop}
"""


def state() -> str:
    """19 instances in four groups. Each group opens SSH to the next one; every second one accepts its own members."""
    groups = "".join(
        f"  - security_group_id: sg-{number}\n    vpc_id: vpc-a\n    security_group_type: normal\n"
        f"    inner_access_policy: {'Accept' if number % 2 else 'Drop'}\n    rules:{RULES}"
        "      - {type: ingress, ip_protocol: tcp, port_range: 22/22,"
        f" source_security_group_id: sg-{(number + 1) % 4}}}\n"
        for number in range(4)
    )
    instances = "".join(f"  - {{instance_id: i-{number}}}\n" for number in range(NODES - 1))
    enis = "".join(
        f"  - {{network_interface_id: eni-{number}, instance_id: i-{number}, type: primary, vpc_id: vpc-a,"
        f" private_ip_addresses: [10.0.0.{number + 1}], security_group_ids: [sg-{number % 4}]}}\n"
        for number in range(NODES - 1)
    )
    return (
        "version: 1\nvpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]\n"
        f"security_groups:\n{groups}instances:\n{instances}network_interfaces:\n{enis}"
    )


def test_matrix_of_twenty_nodes_is_right_and_within_its_budget(lab_name: str, placement: str) -> None:
    with labs.running(lab_name, labs.state_of(state()), enforce_policy, placement=placement) as lab:
        began = time.monotonic()
        cells = labs.matrix(lab, "tcp/22,tcp/80,udp/53,icmp,gre")
        seconds = time.monotonic() - began
    assert len(cells) == NODES * (NODES - 1) * 5
    assert [cell for cell in cells if not cell.agrees] == []
    assert {cell.expected.where for cell in cells} == {"", "ingress", "egress"}
    print(f"{len(cells)} probes in {seconds:.1f} s")
    assert seconds < BUDGET_S
