"""A verdict is believed only with evidence: what a drop looks like, and what doesn't pass for one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.host import netns
from sgdataplane.lab.manage import Lab
from tests.support import labs

pytestmark = pytest.mark.traffic

STATE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups: [{security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}]
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
"""
SERVICES = ["tcp/22", "udp/53", "icmp", "gre", "253", "132"]
ENDS = [pytest.param("10.0.0.1", "10.0.0.2", id="ipv4"), pytest.param("2001:db8:a::1", "2001:db8:a::2", id="ipv6")]
ECHO = ("icmp type echo-request", "icmpv6 type echo-request")  # neighbour discovery is left alone


def drops(where: str, service: str) -> str:
    """Rules that drop the service's packets at one interface, or anywhere if `where` is empty."""
    matches = ECHO if service == "icmp" else (f"meta l4proto {service.partition('/')[0]}",)
    return " ".join(f"{where} {match} drop;" for match in matches)


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str]) -> Iterator[Lab]:
    with labs.running(make_lab_name(), labs.state_of(STATE), externals=(("2001:db8:ffff::7",),)) as running:
        yield running


@pytest.fixture
def rules(lab: Lab) -> Iterator[Callable[[str, str], None]]:
    """Loads a chain's rules into a node of the lab; they go with the test."""
    used: list[str] = []

    def load(node: str, chain: str) -> None:
        used.append(f"{lab.record.name}-{node}")
        labs.load_rules(used[-1], f"table inet test {{\nchain c {{\n{chain}\n}}\n}}\n")

    yield load
    for name in used:
        labs.run_in(name, "nft", "delete", "table", "inet", "test")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("sender", "receiver"), ENDS)
def test_without_a_rule_it_is_accepted(lab: Lab, sender: str, receiver: str, service: str) -> None:
    observed = labs.observe(lab, sender, receiver, service)
    assert (observed.verdict, observed.where) == ("accept", "")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("sender", "receiver"), ENDS)
def test_dropped_on_the_way_in_is_seen_at_ingress(
    lab: Lab, rules: Callable[[str, str], None], sender: str, receiver: str, service: str
) -> None:
    rules("i-b", f"type filter hook prerouting priority -150; {drops('iifname eth0', service)}")
    observed = labs.observe(lab, sender, receiver, service)
    assert (observed.verdict, observed.where) == ("drop", "ingress"), observed


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("sender", "receiver"), ENDS)
def test_dropped_on_the_way_out_is_seen_at_egress(
    lab: Lab, rules: Callable[[str, str], None], sender: str, receiver: str, service: str
) -> None:
    rules("i-a", f"type filter hook postrouting priority 150; {drops('oifname eth0', service)}")
    observed = labs.observe(lab, sender, receiver, service)
    assert (observed.verdict, observed.where) == ("drop", "egress"), observed


@pytest.mark.parametrize("service", ["tcp/22", "udp/53", "icmp"])
def test_drop_at_egress_is_proven_by_neighbour_discovery_where_there_is_no_ipv4(
    lab: Lab, rules: Callable[[str, str], None], service: str
) -> None:
    outside = "2001:db8:ffff::7"
    assert labs.observe(lab, outside, "2001:db8:a::2", service).verdict == "accept"
    rules("ext-2001-db8-ffff--7", f"type filter hook postrouting priority 150; {drops('oifname eth0', service)}")
    assert labs.observe(lab, outside, "2001:db8:a::2", service).where == "egress"


@pytest.mark.parametrize("service", ["tcp/22", "icmp"])
def test_lost_in_the_router_is_no_drop_of_either_end(lab: Lab, rules: Callable[[str, str], None], service: str) -> None:
    rules("vpc-a", f"type filter hook forward priority 0; {drops('', service)}")
    observed = labs.observe(lab, "i-a", "i-b", service)
    assert observed.verdict == "unknown"
    assert "not seen on the receiver's wire" in observed.evidence[0]


@pytest.mark.parametrize("service", ["udp/53", "icmp"])
def test_lost_answer_is_no_accept(lab: Lab, rules: Callable[[str, str], None], service: str) -> None:
    rules("i-b", "type filter hook postrouting priority 150; oifname eth0 ip saddr 10.0.0.2 drop;")
    observed = labs.observe(lab, "i-a", "i-b", service)
    assert observed.verdict == "unknown"
    assert "the receiver's socket got the token, but no answer came back" in observed.evidence[0]


def test_lost_syn_ack_is_neither_accept_nor_drop(lab: Lab, rules: Callable[[str, str], None]) -> None:
    rules("i-b", "type filter hook postrouting priority 150; oifname eth0 tcp flags & (syn|ack) == syn|ack drop;")
    observed = labs.observe(lab, "i-a", "i-b", "tcp/22")
    assert observed.verdict == "unknown"
    assert "its SYN was let in, but the handshake did not complete" in observed.evidence[0]


def test_reject_is_no_silent_drop(lab: Lab, rules: Callable[[str, str], None]) -> None:
    rules("i-b", "type filter hook input priority 0; iifname eth0 tcp dport 22 reject with tcp reset;")
    observed = labs.observe(lab, "i-a", "i-b", "tcp/22")
    assert observed.verdict == "unknown"
    assert "refused" in observed.evidence[0]


def test_port_of_another_program_is_told(lab: Lab) -> None:
    with netns.inside(f"{lab.record.name}-i-b"), socket.create_server(("10.0.0.2", 8080)):
        observed = labs.observe(lab, "i-a", "i-b", "tcp/8080")
    assert observed.verdict == "unknown"
    assert "can't listen on tcp/8080: Address already in use" in observed.evidence[0]


def test_listener_that_does_not_answer_its_own_node_proves_no_drop(lab: Lab, rules: Callable[[str, str], None]) -> None:
    rules("i-b", "type filter hook input priority 0; udp dport 53 drop;")  # loopback too
    observed = labs.observe(lab, "i-a", "i-b", "udp/53")
    assert observed.verdict == "unknown"
    assert "did not answer its own node either" in observed.evidence[1]


def test_wire_that_is_cut_proves_no_drop_at_egress(lab: Lab, rules: Callable[[str, str], None]) -> None:
    """The control frame leaves as the probe doesn't, but the gateway does not answer it."""
    rules("i-a", "type filter hook postrouting priority 150; oifname eth0 udp dport 53 drop;")
    labs.load_rules(
        f"{lab.record.name}-vpc-a", "table arp mute {\nchain c { type filter hook input priority 0; drop; }\n}\n"
    )
    try:
        observed = labs.observe(lab, "i-a", "i-b", "udp/53")
    finally:
        labs.run_in(f"{lab.record.name}-vpc-a", "nft", "delete", "table", "arp", "mute")
    assert observed.verdict == "unknown"
    assert "the gateway did not answer on eth0" in observed.evidence[1]


@pytest.mark.parametrize("service", ["gre", "253"])
def test_session_of_an_earlier_probe_lets_none_of_the_other_direction_in(
    lab: Lab, rules: Callable[[str, str], None], service: str
) -> None:
    """Such sessions have no ports, so without care the one that i-a began would cover what i-b sends."""
    rules(
        "i-a",
        f"type filter hook prerouting priority -150; ct state established accept; "
        f"iifname eth0 meta l4proto {service} drop;",
    )
    assert labs.observe(lab, "i-a", "i-b", service).verdict == "accept"
    assert labs.observe(lab, "i-b", "i-a", service).where == "ingress"
    assert labs.observe(lab, "i-a", "i-b", service).verdict == "accept"


@pytest.mark.parametrize("service", ["tcp/22", "udp/53"])
def test_source_port_is_the_one_asked_for_and_can_be_used_again(
    lab: Lab, rules: Callable[[str, str], None], service: str
) -> None:
    name = service.partition("/")[0]
    rules("i-b", f"type filter hook prerouting priority -150; iifname eth0 {name} sport 5000 drop;")
    for _ in range(2):
        assert labs.observe(lab, "i-a", "i-b", service, source_port=5001).verdict == "accept"
        assert labs.observe(lab, "i-a", "i-b", service, source_port=5000).where == "ingress"
