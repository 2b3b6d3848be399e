"""`lab apply` changes what differs and nothing else, and ends where a fresh lab of the same state would begin."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from sgdataplane.errors import KernelError
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab import build, manage
from sgdataplane.lab.manage import EnforceRequest, Lab
from sgdataplane.model.state import CloudState, Eni, EniType, Instance, Vpc
from sgdataplane.net.values import Address, Prefix
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

BASE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups: [{security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}]
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
""")
ENI_A, ENI_B = BASE.network_interfaces


def with_enis(*enis: Eni, instances: tuple[str, ...] = ("i-a", "i-b"), vpcs: tuple[Vpc, ...] = BASE.vpcs) -> CloudState:
    ordered = tuple(sorted(enis, key=lambda eni: eni.network_interface_id))
    return replace(BASE, vpcs=vpcs, instances=tuple(map(Instance, instances)), network_interfaces=ordered)


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(Address.parse, texts))


SECONDARY = replace(
    ENI_B,
    network_interface_id="eni-c",
    type=EniType.SECONDARY,
    mac_address="00:16:3e:00:00:0c",
    private_ip_addresses=addresses("10.0.0.3", "10.0.0.4"),
    ipv6_addresses=addresses("2001:db8:a::3"),
    ipv4_prefixes=(Prefix.parse("10.0.9.0/28"),),
    ipv6_prefixes=(Prefix.parse("2001:db8:a:9::/80"),),
)
MORE_ADDRESSES = replace(
    ENI_B,
    private_ip_addresses=addresses("10.0.0.2", "10.0.0.22"),
    ipv6_addresses=addresses("2001:db8:a::2", "2001:db8:a::22"),
)
OTHER_VPC = Vpc("vpc-b", (Prefix.parse("10.1.0.0/16"),))
CHANGES = [
    pytest.param(with_enis(ENI_A, MORE_ADDRESSES), id="an address more"),
    pytest.param(with_enis(ENI_A, ENI_B, SECONDARY), id="a secondary ENI more"),
    pytest.param(with_enis(ENI_A, instances=("i-a",)), id="an instance less"),
    pytest.param(with_enis(ENI_A, ENI_B, replace(SECONDARY, instance_id="i-c", type=EniType.PRIMARY),
                           instances=("i-a", "i-b", "i-c")), id="an instance more"),
    pytest.param(with_enis(ENI_A, ENI_B, vpcs=(*BASE.vpcs, OTHER_VPC)), id="a VPC more"),
    pytest.param(with_enis(ENI_A, replace(ENI_B, mac_address="00:16:3e:00:00:bb")), id="another MAC"),
    pytest.param(with_enis(replace(ENI_A, instance_id="i-b"), replace(ENI_B, instance_id="i-a")), id="ENIs swapped"),
    pytest.param(with_enis(ENI_A, replace(ENI_B, private_ip_addresses=addresses("10.0.0.9"))), id="another address"),
    pytest.param(with_enis(ENI_A, replace(ENI_B, type=EniType.SECONDARY), replace(SECONDARY, type=EniType.PRIMARY)),
                 id="another primary ENI"),
    pytest.param(with_enis(instances=("i-a", "i-b")), id="no ENI at all"),
]  # fmt: skip


def kernel_of(lab: Lab) -> dict[str, object]:
    """Everything that the lab made, by its own names, as the kernel reports it; link-local addresses follow from the
    MACs."""
    return {plan.netns.removeprefix(lab.record.name): contents(plan.netns) for plan in lab.topology.plans}


def contents(namespace: str) -> object:
    with Links(namespace) as door:
        own = frozenset(entry for entry in door.addresses() if entry.address not in build.LINK_LOCAL)
        links = frozenset((link.ifname, link.alias, link.is_up) for link in door.links() if link.kind == "veth")
        return links, own, door.routes(), door.rules()


# Each change on one host or over two; the slow tests have the other one.
OVER_TWO = {"an instance more", "a VPC more", "ENIs swapped", "another primary ENI", "an instance less"}
CASES = [
    pytest.param(*change.values, hosts, id=f"{change.id}-{hosts}", marks=[pytest.mark.slow] * is_slow)
    for change in CHANGES
    for hosts in (1, 2)
    for is_slow in [(hosts == 2) != (change.id in OVER_TWO)]
]


@pytest.mark.parametrize(("state", "hosts"), CASES)
def test_changed_lab_equals_a_fresh_one_and_back(
    make_lab_name: Callable[[], str], state: CloudState, hosts: int
) -> None:
    with (
        labs.running(make_lab_name(), state, hosts=hosts) as fresh,
        labs.running(make_lab_name(), BASE, hosts=hosts) as lab,
    ):
        before = kernel_of(lab)
        changed = manage.apply(lab.record.name, state, labs.no_policy)
        assert kernel_of(changed) == kernel_of(fresh)
        assert labs.unlike(labs.matrix(changed, "udp/53"), "accept") == []
        assert kernel_of(manage.apply(lab.record.name, BASE, labs.no_policy)) == before


def test_applying_the_same_changes_nothing(lab_name: str) -> None:
    state = with_enis(ENI_A, ENI_B, SECONDARY, vpcs=(*BASE.vpcs, OTHER_VPC))
    with labs.running(lab_name, state, hosts=2) as lab:
        assert build.reconcile(lab.topology, lab.record.namespaces, lambda: None) == 0


def test_session_between_unchanged_enis_outlives_changes_around_it(lab_name: str, placement: str) -> None:
    with (
        labs.running(lab_name, BASE, enforce_policy, placement=placement) as lab,
        session(lab, "i-a", "i-b", "10.0.0.2") as exchange,
    ):
        exchange(b"before")
        manage.apply(
            lab_name, with_enis(ENI_A, MORE_ADDRESSES, SECONDARY, vpcs=(*BASE.vpcs, OTHER_VPC)), enforce_policy
        )
        exchange(b"in between")
        manage.apply(lab_name, BASE, enforce_policy)
        exchange(b"after")


@contextmanager
def session(lab: Lab, client: str, server: str, address: str) -> Iterator[Callable[[bytes], None]]:
    """A TCP connection between two nodes. The function sends some bytes back and forth, or fails in time."""
    with ExitStack() as stack:
        with netns.inside(lab.topology.node[server].netns):
            listener = stack.enter_context(socket.create_server((address, 7000)))
        with netns.inside(lab.topology.node[client].netns):
            near = stack.enter_context(socket.create_connection((address, 7000), timeout=DEADLINE))
        far, _ = listener.accept()
        stack.enter_context(far)
        far.settimeout(DEADLINE)

        def exchange(data: bytes) -> None:
            near.sendall(data)
            assert far.recv(1024) == data
            far.sendall(data[::-1])
            assert near.recv(1024) == data[::-1]

        yield exchange


def test_refused_change_leaves_the_former_lab_and_policy(lab_name: str, placement: str) -> None:
    refused: list[str] = []

    def refuse_last(request: EnforceRequest) -> None:
        enforce_policy(request)
        if request.previous is not None and not refused and request.netns.endswith(("i-b", "vpc-a")):
            refused.append(request.netns)
            raise KernelError("no")

    closed = replace(BASE, security_groups=(replace(BASE.security_groups[0], inner_access_policy=labs.DROP),))
    with labs.running(lab_name, BASE, enforce_policy, placement=placement) as lab:
        before = kernel_of(lab)
        with pytest.raises(KernelError):
            manage.apply(lab_name, with_enis(ENI_A, MORE_ADDRESSES), refuse_last)
        assert refused
        assert manage.look(lab_name) == lab
        assert kernel_of(lab) == before
        assert labs.disagreements(lab, "tcp/22,icmp") == []
        refused.clear()
        with pytest.raises(KernelError):
            manage.apply(lab_name, closed, refuse_last)
        assert labs.disagreements(lab, "tcp/22,icmp") == []
        assert labs.observe(lab, "i-a", "i-b", "tcp/22").verdict == "accept"


def test_new_policy_is_in_force_when_apply_returns(lab_name: str, placement: str) -> None:
    closed = replace(BASE, security_groups=(replace(BASE.security_groups[0], inner_access_policy=labs.DROP),))
    with labs.running(lab_name, BASE, enforce_policy, placement=placement):
        for state, verdict in ((closed, "drop"), (BASE, "accept"), (closed, "drop")):
            lab = manage.apply(lab_name, state, enforce_policy)
            assert labs.observe(lab, "i-a", "i-b", "tcp/22").verdict == verdict
            assert labs.disagreements(lab, "tcp/22,udp/53,icmp") == []
