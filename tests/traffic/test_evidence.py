"""A verdict is believed only with evidence: what a drop looks like, and what only looks like one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product

import pytest

from sgdataplane.host import netns
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.probe import Observation
from tests.support.scenes import labs

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
SERVICES = ["tcp/22", "udp/53", "icmp", "gre", "proto/253", "proto/132"]
ENDS = {"ipv4": ("10.0.0.1", "10.0.0.2"), "ipv6": ("2001:db8:a::1", "2001:db8:a::2")}
Rules = Callable[[str, str], None]
Observed = Mapping[tuple[str, str], Observation]
GRE = 47  # not every machine knows its name
ECHO = ("icmp type echo-request", "icmpv6 type echo-request")  # neighbour discovery is left alone


AT_INSTANCE = {
    "ingress": "type filter hook prerouting priority -150; iifname eth0",
    "egress": "type filter hook postrouting priority 150; oifname eth0",
}
AT_HOST = {
    "ingress": "type filter hook postrouting priority 150; oifname eni-{}",
    "egress": "type filter hook prerouting priority -150; iifname eni-{}",
}


def place(placement: str, node: str, side: str) -> tuple[str, str]:
    """Where an instance's policy of that side is enforced: the namespace, and the chain down to the interface."""
    if placement == "instance":
        return f"i-{node}", AT_INSTANCE[side]
    return "vpc-a", AT_HOST[side].format(node)


def drops(where: str, *services: str) -> str:
    """Rules that drop the services' packets. `where`: begins a chain, perhaps down to an interface."""
    head, _, interface = where.partition(";")
    return f"{head}; " + " ".join(f"{interface} {match} drop;" for service in services for match in matches(service))


def matches(service: str) -> tuple[str, ...]:
    protocol = service.removeprefix("proto/").partition("/")[0]
    return ECHO if service == "icmp" else (f"meta l4proto {GRE if protocol == 'gre' else protocol}",)


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[Lab]:
    hosts, state = (("2001:db8:ffff::7",),), labs.state_of(STATE)
    with labs.running(make_lab_name(), state, externals=hosts, placement=placement) as running:
        yield running


@pytest.fixture
def rules(lab: Lab) -> Iterator[Rules]:
    """Loads a chain's rules into a node or router of the lab. They are removed with the test."""
    with loading(lab) as load:
        yield load


@contextmanager
def loading(lab: Lab) -> Iterator[Rules]:
    used: list[str] = []

    def load(node: str, chain: str) -> None:
        used.append(f"{lab.record.name}-{node}")
        labs.load_rules(used[-1], f"table inet test {{\nchain c {{\n{chain}\n}}\n}}\n")

    yield load
    for name in used:
        labs.run_in(name, "nft", "delete", "table", "inet", "test")


def observe_each(lab: Lab) -> Observed:
    """Each service in each family, all at once."""
    keys = list(product(ENDS, SERVICES))
    return dict(zip(keys, labs.observe_all(lab, [(*ENDS[family], service) for family, service in keys]), strict=True))


@pytest.fixture(scope="module")
def without_rules(lab: Lab) -> Observed:
    return observe_each(lab)


@pytest.fixture(scope="module")
def with_drops_in(lab: Lab, placement: str) -> Observed:
    """With a rule for each service, on the way into the receiver."""
    return observe_behind(lab, *place(placement, "b", "ingress"))


@pytest.fixture(scope="module")
def with_drops_out(lab: Lab, placement: str) -> Observed:
    """With a rule for each service, on the way out of the sender."""
    return observe_behind(lab, *place(placement, "a", "egress"))


def observe_behind(lab: Lab, node: str, chain: str) -> Observed:
    with loading(lab) as load:
        load(node, drops(chain, *SERVICES))
        return observe_each(lab)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("family", ENDS)
def test_without_a_rule_it_is_accepted(without_rules: Observed, family: str, service: str) -> None:
    observed = without_rules[family, service]
    assert (observed.verdict, observed.where) == ("accept", "")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("family", ENDS)
def test_dropped_on_the_way_in_is_seen_at_ingress(with_drops_in: Observed, family: str, service: str) -> None:
    observed = with_drops_in[family, service]
    assert (observed.verdict, observed.where) == ("drop", "ingress"), observed


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("family", ENDS)
def test_dropped_on_the_way_out_is_seen_at_egress(with_drops_out: Observed, family: str, service: str) -> None:
    observed = with_drops_out[family, service]
    assert (observed.verdict, observed.where) == ("drop", "egress"), observed


@pytest.mark.parametrize("service", ["tcp/22", "udp/53", "icmp"])
def test_drop_at_egress_is_proven_by_neighbour_discovery_where_there_is_no_ipv4(
    lab: Lab, rules: Rules, placement: str, service: str
) -> None:
    """A host outside has no policy. So no drop at its router is believed, nor one in its own namespace where routers
    enforce policy."""
    outside = "2001:db8:ffff::7"
    assert labs.observe(lab, outside, "2001:db8:a::2", service).verdict == "accept"
    rules("ext-2001-db8-ffff--7", drops(AT_INSTANCE["egress"], service))
    observed = labs.observe(lab, outside, "2001:db8:a::2", service)
    assert observed.where == "egress" if placement == "instance" else observed.verdict == "unknown"


LOST = {
    "instance": "did not reach the receiver's interface",
    "host": "not seen before the receiver's policy in router vpc-a",
}


@pytest.mark.parametrize("service", ["tcp/22", "icmp"])
def test_lost_in_the_router_is_no_drop_of_either_end(lab: Lab, rules: Rules, placement: str, service: str) -> None:
    rules("vpc-a", drops("type filter hook forward priority 0;", service))
    observed = labs.observe(lab, "i-a", "i-b", service)
    assert observed.verdict == "unknown"
    assert LOST[placement] in observed.evidence[0]


@pytest.mark.placement("host")
@pytest.mark.parametrize(
    ("chain", "words"),
    [
        pytest.param(
            "prerouting priority -150; iifname ext*", "has no policy", id="where a policy of its own would stand"
        ),
        pytest.param("forward priority 0;", LOST["host"], id="between policies"),
    ],
)
def test_what_comes_from_outside_is_dropped_only_at_ingress(lab: Lab, rules: Rules, chain: str, words: str) -> None:
    rules("vpc-a", drops(f"type filter hook {chain}", "udp/53"))
    observed = labs.observe(lab, "2001:db8:ffff::7", "2001:db8:a::2", "udp/53")
    assert observed.verdict == "unknown"
    assert words in " ".join(observed.evidence)


@pytest.mark.parametrize("service", ["udp/53", "icmp"])
def test_lost_answer_is_no_accept(lab: Lab, rules: Rules, service: str) -> None:
    rules("i-b", "type filter hook postrouting priority 150; oifname eth0 ip saddr 10.0.0.2 drop;")
    observed = labs.observe(lab, "i-a", "i-b", service)
    assert observed.verdict == "unknown"
    assert "the receiver's socket got the token, but no answer came back" in observed.evidence[0]


def test_lost_syn_ack_is_neither_accept_nor_drop(lab: Lab, rules: Rules) -> None:
    rules("i-b", "type filter hook postrouting priority 150; oifname eth0 tcp flags & (syn|ack) == syn|ack drop;")
    observed = labs.observe(lab, "i-a", "i-b", "tcp/22")
    assert observed.verdict == "unknown"
    assert "its SYN was let in, but the handshake did not complete" in observed.evidence[0]


def test_reject_is_no_silent_drop(lab: Lab, rules: Rules) -> None:
    rules("i-b", "type filter hook input priority 0; iifname eth0 tcp dport 22 reject with tcp reset;")
    observed = labs.observe(lab, "i-a", "i-b", "tcp/22")
    assert observed.verdict == "unknown"
    assert "refused" in observed.evidence[0]


def test_port_of_another_program_is_told(lab: Lab) -> None:
    with netns.inside(f"{lab.record.name}-i-b"), socket.create_server(("10.0.0.2", 8080)):
        observed = labs.observe(lab, "i-a", "i-b", "tcp/8080")
    assert observed.verdict == "unknown"
    assert "can't listen on tcp/8080: Address already in use" in observed.evidence[0]


@pytest.mark.placement("host")
def test_lost_behind_the_receiver_s_wire_is_no_drop_of_a_router(lab: Lab, rules: Rules) -> None:
    rules("i-b", drops(AT_INSTANCE["ingress"], "udp/53"))
    observed = labs.observe(lab, "i-a", "i-b", "udp/53")
    assert observed.verdict == "unknown"
    assert "though its policy comes before that interface" in observed.evidence[0]


def test_listener_that_does_not_answer_its_own_node_proves_no_drop(lab: Lab, rules: Rules) -> None:
    rules("i-b", "type filter hook input priority 0; udp dport 53 drop;")  # loopback too
    observed = labs.observe(lab, "i-a", "i-b", "udp/53")
    assert observed.verdict == "unknown"
    assert "did not answer its own node either" in observed.evidence[1]


def test_wire_that_is_cut_proves_no_drop_at_egress(lab: Lab, rules: Rules, placement: str) -> None:
    """The control frame leaves, which the probe doesn't, but the gateway does not answer it."""
    node, chain = place(placement, "a", "egress")
    rules(node, drops(chain, "udp/53"))
    labs.load_rules(
        f"{lab.record.name}-vpc-a", "table arp mute {\nchain c { type filter hook input priority 0; drop; }\n}\n"
    )
    try:
        observed = labs.observe(lab, "i-a", "i-b", "udp/53")
    finally:
        labs.run_in(f"{lab.record.name}-vpc-a", "nft", "delete", "table", "arp", "mute")
    assert observed.verdict == "unknown"
    assert "the gateway did not answer on eth0" in observed.evidence[1]


@pytest.mark.parametrize("service", ["gre", "proto/253"])
def test_session_of_an_earlier_probe_lets_none_of_the_other_direction_in(
    lab: Lab, rules: Rules, placement: str, service: str
) -> None:
    """Such sessions have no ports. So without care, the session that i-a began would let pass what i-b sends."""
    node, chain = place(placement, "a", "ingress")
    rules(node, drops(chain, service).replace(";", "; ct state established accept;", 1))
    assert labs.observe(lab, "i-a", "i-b", service).verdict == "accept"
    assert labs.observe(lab, "i-b", "i-a", service).where == "ingress"
    assert labs.observe(lab, "i-a", "i-b", service).verdict == "accept"


@pytest.mark.parametrize("service", ["tcp/22", "udp/53"])
def test_source_port_is_the_one_asked_for_and_can_be_used_again(
    lab: Lab, rules: Rules, placement: str, service: str
) -> None:
    node, chain = place(placement, "b", "ingress")
    rules(node, f"{chain} {service.partition('/')[0]} sport 5000 drop;")
    for _ in range(2):
        assert labs.observe(lab, "i-a", "i-b", service, source_port=5001).verdict == "accept"
        assert labs.observe(lab, "i-a", "i-b", service, source_port=5000).where == "ingress"
