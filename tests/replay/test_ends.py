"""Ends of every kind: secondary ENIs, delegated prefixes, two VPCs that have the same addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.replay.stage import build_lab
from tests.replay.conftest import Stage
from tests.support.scenes.labs import assert_gone, choices_at, state_of

pytestmark = pytest.mark.replay

STATE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}, {vpc_id: vpc-b, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, inner_access_policy: Drop, rules: [
      {type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-a},
      {type: ingress, ip_protocol: udp, port_range: 53/53, ipv6_cidr_ip: "::/0", security_group_rule_id: sgr-a6}]}
  - {security_group_id: sg-b, vpc_id: vpc-b, inner_access_policy: Drop, rules: [
      {type: ingress, ip_protocol: udp, port_range: 54/54, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-b}]}
instances: [{instance_id: i-a}, {instance_id: i-b}, {instance_id: i-c}]
network_interfaces:
  - {network_interface_id: eni-a1, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-a2, instance_id: i-a, type: secondary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2, 10.0.0.3], ipv4_prefixes: [10.0.9.0/28], ipv6_prefixes: ["2001:db8:a:9::/80"]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-b, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-c, instance_id: i-c, type: primary, vpc_id: vpc-b, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.9]}
"""
OUTSIDE, OUTSIDE6 = "192.0.2.200", "2001:db8:5::5"


@pytest.fixture(scope="module")
def stage(
    make_lab_name: Callable[[], str], placement: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    name = make_lab_name()
    with build_lab(name, state_of(STATE), choices_at(placement), enforce_policy) as (lab, everybody):
        yield Stage(lab, everybody, tmp_path_factory.mktemp("captures"))
    assert_gone(name)


def asked_and_answered(server: str, sport: int, port: int) -> list[Packet]:
    """Packets from outside, and what the server itself sends from another port."""
    ip, client = (IPv6, OUTSIDE6) if ":" in server else (IP, OUTSIDE)
    return [
        ip(src=client, dst=server) / UDP(sport=sport, dport=port),
        ip(src=server, dst=client) / UDP(sport=sport + 1, dport=port),
        ip(src=client, dst=server) / UDP(sport=port, dport=sport + 1),
    ]


@pytest.mark.parametrize(
    "server",
    ["2001:db8:a::1", "10.0.0.2", "10.0.0.3", "10.0.9.5", "2001:db8:a:9::77"],
    ids=lambda a: a.replace(":", "_"),
)
def test_each_address_of_an_instance_is_asked_and_answers(stage: Stage, server: str) -> None:
    report = stage.replay([*asked_and_answered(server, 4000, 53), *asked_and_answered(server, 5000, 54)])
    found = [(flow.receiver, flow.packets, flow.delivered, flow.problem) for flow in report.flows.values()]
    everybody = stage.everybody
    assert found == [("i-a", 1, 1, ""), (everybody, 2, 2, ""), ("i-a", 1, 0, ""), (everybody, 2, 2, "")]


@pytest.mark.parametrize(("node", "port"), [("i-a", 53), ("i-b", 54)])
def test_of_two_vpcs_with_the_same_address_the_user_says_which(stage: Stage, node: str, port: int) -> None:
    packets = [*asked_and_answered("10.0.0.1", 6000, 53), *asked_and_answered("10.0.0.1", 7000, 54)]
    (reason,) = stage.replay(packets).left_out
    assert reason == "10.0.0.1 belongs to several nodes: --map 10.0.0.1=NODE says which"
    report = stage.replay(packets, {"10.0.0.1": node})
    assert report.disagreements == 0
    assert [flow.delivered for flow in report.flows.values() if flow.receiver == node] == [port == 53, port == 54]


def test_a_secondary_eni_is_mapped_to_by_its_id(stage: Stage) -> None:
    report = stage.replay(asked_and_answered("203.0.113.1", 8000, 53), {"203.0.113.1": "eni-a2"})
    assert report.disagreements == 0
    assert report.mapped["203.0.113.1"] == ("i-a", "10.0.0.2")


def test_between_two_vpcs_nothing_is_sent(stage: Stage) -> None:
    report = stage.replay([IP(src="10.0.0.9", dst="10.0.0.2") / UDP(dport=53)])
    assert list(report.left_out) == ["its ends are in two VPCs, which nothing connects"]
