"""Without a policy everything arrives, through the router, from and to the right interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product

import pytest

from sgdataplane.host.links import Links
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.probe import Observation
from tests.support.scenes import labs

pytestmark = pytest.mark.traffic

# Two VPCs with the same addresses; i-a2 has a secondary ENI with two addresses and delegated prefixes.
STATE = """
version: 1
vpcs:
  - {vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
  - {vpc_id: vpc-b, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}
  - {security_group_id: sg-b, vpc_id: vpc-b, security_group_type: normal}
instances: [{instance_id: i-a1}, {instance_id: i-a2, instance_name: second}, {instance_id: i-b1}, {instance_id: i-b2}]
network_interfaces:
  - {network_interface_id: eni-a1, instance_id: i-a1, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-a2, instance_id: i-a2, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
  - {network_interface_id: eni-a2-with-a-long-name, instance_id: i-a2, type: secondary, vpc_id: vpc-a,
     security_group_ids: [sg-a], private_ip_addresses: [10.0.0.3, 10.0.0.5],
     ipv6_addresses: ["2001:db8:a::3", "2001:db8:a::5"],
     ipv4_prefixes: [10.0.9.0/28], ipv6_prefixes: ["2001:db8:a:9::/80"]}
  - {network_interface_id: eni-b1, instance_id: i-b1, type: primary, vpc_id: vpc-b, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b2, instance_id: i-b2, type: primary, vpc_id: vpc-b, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
"""


@pytest.fixture(scope="module", params=[1, 2], ids=["one host", "two hosts"])
def lab(request: pytest.FixtureRequest, make_lab_name: Callable[[], str]) -> Iterator[Lab]:
    with labs.running(make_lab_name(), labs.state_of(STATE), hosts=request.param) as running:
        yield running


def test_every_pair_reaches_each_other_in_both_families_and_over_every_protocol(lab: Lab) -> None:
    cells = labs.matrix(lab)
    pairs = {(cell.probe.source.ifname, cell.probe.target.ifname) for cell in cells}
    assert {("eth0", "eth1"), ("eth1", "eth0"), ("eth0", "eth0")} <= pairs
    assert len(cells) == 160  # 16 pairs of interfaces that meet, both families, 5 services
    assert labs.unlike(cells, "accept") == []


ENDS = {
    "second address of a secondary ENI": ("i-a1", "10.0.0.5"),
    "from it": ("10.0.0.5", "i-a1"),
    "second IPv6 address": ("i-a1", "2001:db8:a::5"),
    "from that": ("2001:db8:a::5", "2001:db8:a::1"),
    "delegated prefix": ("i-a1", "10.0.9.7"),
    "from a delegated prefix": ("10.0.9.7", "i-a1"),
    "delegated IPv6 prefix": ("i-a1", "2001:db8:a:9::77"),
    "from a delegated IPv6 prefix": ("2001:db8:a:9::77", "2001:db8:a::1"),
    "secondary ENI to the outside": ("eni-a2-with-a-long-name", "198.51.100.7"),
    "outside to a secondary ENI": ("2001:db8:ffff::7", "eni-a2-with-a-long-name"),
    "an instance's name": ("second", "i-a1"),
}
SERVICES = ("tcp/80", "udp/123", "icmp", "gre")
Observed = Mapping[tuple[str, str], Observation]


@pytest.fixture(scope="module")
def observed(lab: Lab) -> Observed:
    """What became of each service between each two ends. All are probed at once."""
    keys = list(product(ENDS, SERVICES))
    return dict(zip(keys, labs.observe_all(lab, [(*ENDS[name], service) for name, service in keys]), strict=True))


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("service", SERVICES)
def test_every_address_of_an_eni_sends_and_receives(observed: Observed, name: str, service: str) -> None:
    assert observed[name, service].verdict == "accept", observed[name, service]


def test_router_has_no_bridge_and_no_link_but_the_lab_s_veths(lab: Lab) -> None:
    for name in lab.topology.netns_names:
        with Links(name) as door:
            others = [link for link in door.links() if link.kind not in ("veth", "") and link.is_up]
        assert others == []


def test_two_enis_of_one_subnet_meet_at_the_router(lab: Lab) -> None:
    before = forwarded(lab)
    assert labs.observe(lab, "i-a1", "i-a2", "udp/53").verdict == "accept"
    assert forwarded(lab) >= before + 2  # the question and the answer


def forwarded(lab: Lab) -> int:
    """How many IPv4 packets vpc-a's router has forwarded (ForwDatagrams in /proc/net/snmp)."""
    router = lab.topology.routers_of_vpc["vpc-a"][0].netns
    titles, values = labs.run_in(router, "grep", "^Ip:", "/proc/self/net/snmp").splitlines()
    return int(values.split()[titles.split().index("ForwDatagrams")])


def test_lab_is_not_linked_to_the_namespace_it_was_made_from(lab: Lab) -> None:
    for name in lab.topology.netns_names:
        links = labs.run_in(name, "ip", "-o", "link", "show")
        outside = [
            line for line in links.splitlines() if "@if" in line and f"link-netns {lab.record.name}-" not in line
        ]
        assert outside == []
