"""`diff` against real packets: OLD, then NEW is in force in one lab, and every pair is probed under both."""

from __future__ import annotations

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.lab import manage
from sgdataplane.lab.expect import ProbeResult, packet_at
from sgdataplane.model.choices import IN_LAB
from sgdataplane.net.values import Direction
from tests.support.models.regions import in_change
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

SERVICES = "tcp/22,tcp/80,udp/53,icmp,gre"
ENIS = """\
instances: [{instance_id: i-a}, {instance_id: i-b}, {instance_id: i-c}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],
     ipv6_addresses: ["2001:db8:a::1"], security_group_ids: [sg-a]}
  - {network_interface_id: eni-b, instance_id: i-b, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2],
     ipv6_addresses: ["2001:db8:a::2"], security_group_ids: [sg-b]}
  - {network_interface_id: eni-c, instance_id: i-c, vpc_id: vpc-a, private_ip_addresses: [10.0.0.3],
     ipv6_addresses: ["2001:db8:a::3"], security_group_ids: [%s]}
"""
OLD = (
    """\
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, inner_access_policy: Drop}
  - security_group_id: sg-b
    vpc_id: vpc-a
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 22/22, source_security_group_id: sg-a, priority: 5}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 10.0.0.0/16}
      - {type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_cidr_ip: "::/0"}
"""
    + ENIS % "sg-a"
)
NEW = (
    """\
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    inner_access_policy: Drop
    rules:
      - {type: egress, ip_protocol: udp, port_range: 1/65535, cidr_ip: 10.0.0.0/31, policy: drop}
  - security_group_id: sg-b
    vpc_id: vpc-a
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 20/22, cidr_ip: 0.0.0.0/0, priority: 5}
      - {type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.1/32, policy: drop, priority: 5}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 10.0.0.2/31}
      - {type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/1}
      - {type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 128.0.0.0/1}
      - {type: ingress, ip_protocol: gre, port_range: -1/-1, source_security_group_id: sg-a}
"""
    + ENIS % "sg-b"
)


def named(changes: list[VerdictChange], cell: ProbeResult) -> list[VerdictChange]:
    """The rows of the diff that match the opening packet of a probe at either of its ends."""
    probe, source_port = cell.probe, cell.observed.source_port
    ends = ((Direction.EGRESS, probe.source, probe.target), (Direction.INGRESS, probe.target, probe.source))
    packets = [packet_at(end, far, direction, probe, source_port) for direction, end, far in ends if end.eni_id]
    return [change for packet in packets for change in changes if in_change(change, packet)]


def test_what_diff_names_changes_and_nothing_else_does(lab_name: str, placement: str) -> None:
    """An end that opens refused before, and one that closes refuses afterwards. The other end decides for itself."""
    old, new = labs.state_of(OLD), labs.state_of(NEW)
    diff = StateDiff(old, new, IN_LAB.options)
    changes = [change for eni_id in diff.list_concerned() for change in diff.at(eni_id).changes]
    with labs.running(lab_name, old, enforce_policy, placement=placement) as lab:
        before = labs.matrix(lab, SERVICES)
        after = labs.matrix(manage.apply(lab_name, new, enforce_policy), SERVICES)
    seen = {("accept", "accept"): 0, ("accept", "drop"): 0, ("drop", "accept"): 0, ("drop", "drop"): 0}
    for was, becomes in zip(before, after, strict=True):
        assert was.probe == becomes.probe
        verdicts = was.observed.verdict, becomes.observed.verdict
        rows = named(changes, was)
        if not rows:
            assert verdicts[0] == verdicts[1], was.probe
        for row in rows:
            assert verdicts[0 if row.is_opening else 1] == "drop", (was.probe, row)
        if verdicts[0] != verdicts[1]:
            wanted = verdicts == ("drop", "accept")
            assert any(row.is_opening is wanted for row in rows), (was.probe, verdicts)
        seen[verdicts] += 1
    print(seen)
    assert min(seen.values()) > 1
