"""Policy in the routers: strangers get nothing through, new ENIs lose nothing, equal VPCs and hosts don't meet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab import manage
from sgdataplane.lab.manage import EnforceRequest, Lab
from sgdataplane.lab.topology import GATEWAYS
from sgdataplane.net.values import Family
from tests.support.inputs.building import enforce
from tests.support.probes.early import EarlySender, Receiver
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy
from tests.support.scenes.pair import wire_up

pytestmark = pytest.mark.traffic

ONE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    rules:
      - {type: ingress, ip_protocol: all, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: all, port_range: -1/-1, ipv6_cidr_ip: "::/0"}
instances: [{instance_id: i-a}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
"""
MORE = """
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
"""
STATE, LARGER = (
    labs.state_of(ONE),
    labs.state_of(ONE.replace("{instance_id: i-a}", "{instance_id: i-a}, {instance_id: i-b}") + MORE),
)
OUTSIDE = "ext-198.51.100.7"
A = {Family.IPV4: "10.0.0.1", Family.IPV6: "2001:db8:a::1"}
B = {Family.IPV4: "10.0.0.2", Family.IPV6: "2001:db8:a::2"}
STRANGER = {Family.IPV4: "10.0.0.9", Family.IPV6: "2001:db8:a::9"}
PORT = 5000
families = pytest.mark.parametrize("family", list(Family), ids=lambda family: family.value)


@contextmanager
def stranger(lab: Lab) -> Iterator[str]:
    """A namespace that no policy knows, with a link to the router of vpc-a and addresses of the VPC."""
    name, router = f"{lab.record.name}-stranger", f"{lab.record.name}-vpc-a"
    netns.create(name)
    try:
        with Links(router) as door:
            door.add_veth("stranger", name, "eth0", "")
            door.without_own_link_local("stranger")
        wire_up(router, "stranger", name, STRANGER.values())
        with Links(router) as door:
            (mac,) = (link.mac for link in door.links() if link.ifname == "stranger")
        for gateway in GATEWAYS.values():  # it needs no answer to know whom to send to
            labs.run_in(name, "ip", "neigh", "replace", str(gateway), "lladdr", mac, "dev", "eth0")
        yield name
    finally:
        with Links(router) as door:
            door.delete_link("stranger")
        netns.remove(name)


def received_by(namespace: str, ifname: str) -> int:
    """How many packets came in by an interface (the second column of /proc/net/dev)."""
    lines = labs.run_in(namespace, "cat", "/proc/self/net/dev").splitlines()
    return next(int(line.split()[2]) for line in lines if line.split()[0] == f"{ifname}:")


@families
def test_an_interface_that_no_policy_knows_passes_nothing(lab_name: str, tmp_path: Path, family: Family) -> None:
    """Nothing passes in either direction, although its router has routes and all rules accept everything. Once the
    interface is known, everything passes."""
    target, back = (A[family], PORT), (STRANGER[family], PORT)
    with labs.running(lab_name, STATE, enforce_policy, placement="host") as lab, stranger(lab) as name:
        (entry,), inside = lab.enforced, f"{lab_name}-i-a"
        with (
            closing(Receiver(inside, target)) as at_eni,
            closing(Receiver(name, back)) as at_stranger,
            closing(Receiver(inside, (A[family], PORT + 1))) as control,
            EarlySender(tmp_path, name, [target]) as from_stranger,
            EarlySender(tmp_path, inside, [back]) as from_eni,
            EarlySender(tmp_path, f"{lab_name}-{OUTSIDE}", [(A[family], PORT + 1)]),
        ):
            for sender in (from_stranger, from_eni):
                sender.wait_for_more(500)
            assert len(control.read()) > 0
            assert (at_eni.read(), at_stranger.read()) == ([], [])
            assert received_by(entry.netns, "stranger") >= 500
            known = replace(entry.desired, uplinks=(*entry.desired.uplinks, "stranger"))
            enforce(entry.netns, known, entry.desired)
            wait_until(lambda: min(len(at_eni.read()), len(at_stranger.read())) > 0)


@families
def test_a_new_eni_gets_nothing_before_its_policy_and_all_after_it(
    lab_name: str, tmp_path: Path, family: Family
) -> None:
    """The sender begins before the interface exists. It is up, with addresses and routes, before its policy is in
    force."""
    target, router, node = (B[family], PORT), f"{lab_name}-vpc-a", f"{lab_name}-i-b"
    marks: list[int] = []
    receivers: list[Receiver] = []

    def enforce_late(request: EnforceRequest) -> None:
        wire_up(router, "eni-b", node, B.values())
        receivers.append(Receiver(node, target))
        seen = len(control.read())
        sender.wait_for_more(500)
        wait_until(lambda: len(control.read()) > seen + 100)
        assert receivers[0].read() == []
        enforce_policy(request)
        marks.append(sender.sent)

    with (
        labs.running(lab_name, STATE, enforce_policy, placement="host"),
        closing(Receiver(f"{lab_name}-i-a", (A[family], PORT))) as control,
        EarlySender(tmp_path, f"{lab_name}-{OUTSIDE}", [(A[family], PORT), target]) as sender,
    ):
        manage.apply(lab_name, LARGER, enforce_late)
        check_first(receivers[0], sender, marks[0])


@families
def test_a_new_eni_of_a_lab_gets_all_from_its_first_moment(
    lab_name: str, placement: str, tmp_path: Path, family: Family
) -> None:
    """In the order in which the lab does it: what was sent before its links came up finds no way."""
    target, node = (B[family], PORT), f"{lab_name}-i-b"
    marks: list[int] = []
    receivers: list[Receiver] = []

    def watched(request: EnforceRequest) -> None:
        if not receivers and netns.exists(node):
            receivers.append(Receiver.early(node, family, PORT))
        assert all(receiver.read() == [] for receiver in receivers)
        enforce_policy(request)

    with (
        labs.running(lab_name, STATE, enforce_policy, placement=placement),
        EarlySender(tmp_path, f"{lab_name}-{OUTSIDE}", [target]) as sender,
    ):
        manage.apply(lab_name, LARGER, watched)
        marks.append(sender.sent)
        check_first(receivers[0], sender, marks[0])


def check_first(receiver: Receiver, sender: EarlySender, mark: int) -> None:
    """Everything that was sent after `mark` was read arrives; `mark + 1` may have been on its way then."""
    sender.wait_for_more(500)
    wait_until(lambda: receiver.read()[-1:] > [mark + 100])
    numbers = receiver.numbers
    receiver.close()
    assert numbers[0] <= mark + 2
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


TWINS = """
version: 1
vpcs:
  - {vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
  - {vpc_id: vpc-b, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}
security_groups:
""" + "".join(
    f"""
  - security_group_id: sg-{vpc}
    vpc_id: vpc-{vpc}
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {{type: ingress, ip_protocol: {protocol}, port_range: {port}/{port}, cidr_ip: 10.0.0.0/16}}
      - {{type: ingress, ip_protocol: {protocol}, port_range: {port}/{port}, cidr_ip: 198.51.100.0/24}}
      - {{type: egress, ip_protocol: icmp, port_range: -1/-1, policy: drop, cidr_ip: 0.0.0.0/0}}"""
    for vpc, protocol, port in (("a", "tcp", 22), ("b", "udp", 53))
) + """
instances: [{instance_id: i-a1}, {instance_id: i-a2}, {instance_id: i-b1}, {instance_id: i-b2}]
network_interfaces:""" + "".join(
    f"""
  - {{network_interface_id: eni-{vpc}{n}, instance_id: i-{vpc}{n}, type: primary, vpc_id: vpc-{vpc},
     security_group_ids: [sg-{vpc}], mac_address: "00:16:3e:00:00:0{n}", private_ip_addresses: [10.0.0.{n}],
     ipv6_addresses: ["2001:db8:a::{n}"]}}"""
    for vpc in "ab"
    for n in (1, 2)
)  # fmt: skip


@pytest.mark.parametrize("hosts", [1, 2])
def test_vpcs_with_equal_addresses_and_macs_never_meet(lab_name: str, placement: str, hosts: int) -> None:
    with labs.running(lab_name, labs.state_of(TWINS), enforce_policy, placement=placement, hosts=hosts) as lab:
        cells = labs.matrix(lab, "tcp/22,udp/53,icmp")
    assert [cell for cell in cells if not cell.agrees] == []
    accepted = {
        (cell.probe.source.node, cell.probe.target.node, str(cell.probe.service))
        for cell in cells
        if cell.observed.verdict == "accept" and cell.probe.target.eni_id
    }
    outside = "ext-198.51.100.7"
    senders = {"a": ("i-a1", "i-a2", outside), "b": ("i-b1", "i-b2", outside)}
    assert accepted == {
        (sender, f"i-{vpc}{n}", service)
        for vpc, service in (("a", "tcp/22"), ("b", "udp/53"))
        for sender in senders[vpc]
        for n in (1, 2)
        if sender != f"i-{vpc}{n}"
    }


def test_a_node_that_takes_its_subnet_for_its_link_reaches_a_neighbour_through_the_router(
    lab_name: str, placement: str
) -> None:
    """The node asks for the neighbour's address by ARP, and the router answers."""
    with labs.running(lab_name, LARGER, enforce_policy, placement=placement):
        labs.run_in(f"{lab_name}-i-a", "ip", "route", "add", "10.0.0.0/24", "dev", "eth0", "src", "10.0.0.1")
        with netns.inside(f"{lab_name}-i-b"):
            listener = socket.create_server(("10.0.0.2", PORT))
        with netns.inside(f"{lab_name}-i-a"), listener, socket.create_connection(("10.0.0.2", PORT), timeout=DEADLINE):
            neighbours = labs.run_in(f"{lab_name}-i-a", "ip", "neigh", "show", "10.0.0.2")
        assert "lladdr" in neighbours
