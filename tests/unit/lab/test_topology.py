from __future__ import annotations

import pytest

from sgdataplane.errors import LabError
from sgdataplane.host.links import RT_TABLE_LOCAL, RT_TABLE_MAIN, InterfaceAddress, Route, RoutingRule
from sgdataplane.lab.parts import NetnsPlan
from sgdataplane.lab.topology import DEFAULT_EXTERNALS, FIRST_MARK, FIRST_TABLE, Topology, plan
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.net.values import Address, Family, Prefix
from tests.support.scenes.labs import state_of

ONE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups: [{security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}]
instances: [{instance_id: i-a, instance_name: first}]
network_interfaces:
  - {network_interface_id: eni-z, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:01", private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b, instance_id: i-a, type: secondary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:02", private_ip_addresses: [10.0.0.3, 10.0.0.2],
     ipv4_prefixes: [10.0.9.0/28], ipv6_prefixes: ["2001:db8:a:9::/80"]}
"""
TWO = ONE.replace(
    'vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]',
    """vpcs:
  - {vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
  - {vpc_id: vpc-b, cidr_blocks: [10.0.0.0/16]}""",
)
OUTSIDE = ((Address.parse("192.0.2.1"),),)


def prefix(text: str) -> Prefix:
    return Prefix.parse(text)


def address(text: str) -> Address:
    return Address.parse(text)


@pytest.fixture(scope="module")
def one() -> Topology:
    return plan("lab", state_of(ONE), DEFAULT_EXTERNALS)


def plan_of(made: Topology, netns: str) -> NetnsPlan:
    return next(entry for entry in made.plans if entry.netns == netns)


def test_nodes_and_namespaces_are_named_after_ids(one: Topology) -> None:
    assert one.netns_names == ("lab-vpc-a", "lab-i-a", "lab-ext-198.51.100.7")
    assert [(node.name, node.kind, node.alias) for node in one.nodes] == [
        ("i-a", "instance", "first"),
        ("ext-198.51.100.7", "external", ""),
    ]


def test_primary_eni_is_eth0(one: Topology) -> None:
    interfaces = one.node["i-a"].interfaces
    assert [(entry.ifname, entry.eni_id) for entry in interfaces] == [("eth0", "eni-z"), ("eth1", "eni-b")]


def test_every_veth_joins_a_router_and_a_node(one: Topology) -> None:
    assert [(v.router_netns, v.router_ifname, v.node_netns, v.node_ifname, v.mac) for v in one.veths] == [
        ("lab-vpc-a", "eni-z", "lab-i-a", "eth0", "00:16:3e:00:00:01"),
        ("lab-vpc-a", "eni-b", "lab-i-a", "eth1", "00:16:3e:00:00:02"),
        ("lab-vpc-a", "ext198-c66e7cf1", "lab-ext-198.51.100.7", "eth0", ""),
    ]


def test_instance_has_host_addresses_and_a_way_out_for_each_interface(one: Topology) -> None:
    made = plan_of(one, "lab-i-a")
    assert made.addresses == {
        InterfaceAddress("eth0", address("10.0.0.1"), 32),
        InterfaceAddress("eth0", address("2001:db8:a::1"), 128),
        InterfaceAddress("eth1", address("10.0.0.3"), 32),
        InterfaceAddress("eth1", address("10.0.0.2"), 32),
    }
    anywhere, anywhere6 = prefix("0.0.0.0/0"), prefix("::/0")
    assert made.routes == {
        Route("eth0", anywhere, GATEWAY_IPV4, address("10.0.0.1"), RT_TABLE_MAIN),
        Route("eth0", anywhere6, GATEWAY_IPV6, address("2001:db8:a::1"), RT_TABLE_MAIN),
        Route("eth1", anywhere, GATEWAY_IPV4, address("10.0.0.3"), FIRST_TABLE + 1),
        Route("eth1", anywhere6, GATEWAY_IPV6, None, FIRST_TABLE + 1),
        Route("lo", prefix("10.0.9.0/28"), table=RT_TABLE_LOCAL, kind="local"),
        Route("lo", prefix("2001:db8:a:9::/80"), table=RT_TABLE_LOCAL, kind="local"),
    }
    assert made.rules == {
        RoutingRule(entry.family, FIRST_TABLE + 1, FIRST_TABLE + 1, source=entry)
        for entry in map(prefix, ("10.0.0.3", "10.0.0.2", "10.0.9.0/28", "2001:db8:a:9::/80"))
    }


def test_router_has_the_gateway_on_every_link_and_a_way_to_every_address(one: Topology) -> None:
    made = plan_of(one, "lab-vpc-a")
    links = ("eni-z", "eni-b", "ext198-c66e7cf1")
    assert made.addresses == {InterfaceAddress(link, GATEWAY_IPV4, 32) for link in links} | {
        InterfaceAddress(link, GATEWAY_IPV6, 64) for link in links
    }
    assert made.routes == {
        Route("eni-z", prefix("10.0.0.1")),
        Route("eni-z", prefix("2001:db8:a::1")),
        Route("eni-b", prefix("10.0.0.3")),
        Route("eni-b", prefix("10.0.0.2")),
        Route("eni-b", prefix("10.0.9.0/28"), address("10.0.0.3")),
        Route("eni-b", prefix("2001:db8:a:9::/80"), address("fe80::216:3eff:fe00:2")),
        Route("ext198-c66e7cf1", prefix("198.51.100.7")),
        Route("ext198-c66e7cf1", prefix("2001:db8:ffff::7")),
    }


def test_host_outside_of_two_vpcs_answers_by_the_one_that_asked() -> None:
    made = plan_of(plan("lab", state_of(TWO), OUTSIDE), "lab-ext-192.0.2.1")
    assert made.role == "marked_external"
    assert made.rules == {
        rule
        for k in (0, 1)
        for rule in (
            RoutingRule(Family.IPV4, FIRST_TABLE + k, FIRST_TABLE + k, mark=FIRST_MARK + k),
            RoutingRule(Family.IPV4, FIRST_TABLE + k, FIRST_TABLE + k, bound_to=f"eth{k}"),
        )
    }
    main = {route.destination: route.ifname for route in made.routes if route.table == RT_TABLE_MAIN}
    assert main[prefix("0.0.0.0/0")] == "eth0"
    assert main[prefix("10.0.9.0/28")] == "eth0"


def test_host_outside_of_one_vpc_needs_no_rules(one: Topology) -> None:
    made = plan_of(one, "lab-ext-198.51.100.7")
    assert (made.role, made.rules) == ("external", frozenset())


def test_a_state_without_anything_has_a_topology() -> None:
    assert plan("lab", state_of("version: 1\n"), DEFAULT_EXTERNALS).veths == ()


@pytest.mark.parametrize(
    ("text", "externals", "words"),
    [
        (ONE, ["10.0.0.9"], "it belongs to vpc-a; choose an address outside every VPC"),
        (ONE, ["192.0.2.1", "192.0.2.1"], "namespace lab-ext-192.0.2.1: two things of this lab would get this name"),
        (ONE.replace("i-a", "vpc-a"), ["192.0.2.1"], "namespace lab-vpc-a: two things of this lab would get this name"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(text: str, externals: list[str], words: str) -> None:
    with pytest.raises(LabError, match=words):
        plan("lab", state_of(text), tuple((address(entry),) for entry in externals))


SPREAD = (
    ONE.replace("instance_name: first}]", "instance_name: first}, {instance_id: i-b}, {instance_id: i-c}]")
    + """\
  - {network_interface_id: eni-2, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:03", private_ip_addresses: [10.0.0.4], ipv6_addresses: ["2001:db8:a::4"]}
  - {network_interface_id: eni-3, instance_id: i-c, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:04", private_ip_addresses: [10.0.0.5], ipv4_prefixes: [10.0.8.0/28]}
"""
)


@pytest.fixture(scope="module")
def spread() -> Topology:
    return plan("lab", state_of(SPREAD), OUTSIDE, hosts=2)


def test_instances_take_turns_on_hosts(spread: Topology) -> None:
    assert [(node.name, node.host) for node in spread.nodes] == [
        ("i-a", 1), ("i-b", 2), ("i-c", 1), ("ext-192.0.2.1", 1),
    ]  # fmt: skip
    assert [(router.name, router.netns) for router in spread.routers] == [
        ("vpc-a", "lab-vpc-a"),
        ("vpc-a.host2", "lab-vpc-a.host2"),
    ]


def test_hosts_are_linked_and_the_outside_is_at_the_first(spread: Topology) -> None:
    ends = {veth.ends for veth in spread.veths}
    assert (("lab-vpc-a", "host2"), ("lab-vpc-a.host2", "host1")) in ends
    assert (("lab-vpc-a.host2", "eni-2"), ("lab-i-b", "eth0")) in ends
    assert [spread.uplinks(router) for router in spread.routers] == [("ext192-30bc2318", "host2"), ("host1",)]


def test_each_host_knows_the_way_to_what_the_other_has(spread: Topology) -> None:
    first, second = (plan_of(spread, router.netns) for router in spread.routers)
    assert {route for route in first.routes if route.ifname == "host2"} == {
        Route("host2", prefix("10.0.0.4"), address("169.254.2.2")),
        Route("host2", prefix("2001:db8:a::4"), address("fe80::2:2")),
    }
    assert {route.destination for route in second.routes if route.ifname == "host1"} == {
        prefix(text)
        for text in ("10.0.0.1", "2001:db8:a::1", "10.0.0.2", "10.0.0.3", "10.0.9.0/28", "2001:db8:a:9::/80",
                     "10.0.0.5", "10.0.8.0/28", "192.0.2.1")
    }  # fmt: skip
    assert InterfaceAddress("host2", address("169.254.2.1"), 32) in first.addresses
    assert InterfaceAddress("host1", address("fe80::2:2"), 64) in second.addresses


def test_three_hosts_are_linked_each_with_each() -> None:
    made = plan("lab", state_of(SPREAD), (), hosts=3)
    between = [veth.ends for veth in made.veths if veth.node_ifname.startswith("host")]
    assert [(near[0], far[0]) for near, far in between] == [
        ("lab-vpc-a", "lab-vpc-a.host2"),
        ("lab-vpc-a", "lab-vpc-a.host3"),
        ("lab-vpc-a.host2", "lab-vpc-a.host3"),
    ]


def test_an_eni_with_the_name_of_a_link_between_hosts_is_refused() -> None:
    text = SPREAD.replace("network_interface_id: eni-3", "network_interface_id: host2")
    assert plan("lab", state_of(text), ()).routers[0].netns == "lab-vpc-a"
    with pytest.raises(LabError, match="interface in lab-vpc-a host2"):
        plan("lab", state_of(text), (), hosts=2)
