"""Two workloads with the host ends of their links in a namespace that stands for the machine's own, attached to ENIs.

Owns that scene. Must not know what is expected of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links, Route
from sgdataplane.model.options import GATEWAY_IPV6
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import VPC_ID, mac_of, make_eni, make_group, make_rule, make_state
from tests.support.scenes.attachbench import Bench, living_nowhere
from tests.support.scenes.pair import HERE

ROUTER = f"sgdp-{VPC_ID}"
ENIS = {"instance": "eni-a", "peer": "eni-b"}
HOST = ("--placement", "host")
VPC_TWO, ROUTER_TWO = "vpc-two", "sgdp-vpc-two"


def state_of(*ports: int, without: str = "") -> CloudState:
    """These UDP ports are open at the instance; both may send whatever they like."""
    rules = [
        make_rule(f"ingress udp {port}/{port} from {everyone}", f"sgr-{port}-{len(everyone)}")
        for port in ports
        for everyone in ("0.0.0.0/0", "::/0")
    ]
    enis = [make_eni(eni, " ".join(HERE[role]), "sg-" + eni[-1]) for role, eni in ENIS.items() if eni != without]
    return make_state([make_group("sg-a", rules), make_group("sg-b")], enis)


def with_second_vpc(state: CloudState, *movers: str) -> CloudState:
    """These ENIs are in another VPC, in groups of their own with the rules of theirs."""
    vpcs = (*state.vpcs, replace(state.vpcs[0], vpc_id=VPC_TWO))
    groups = {group.security_group_id: group for group in state.security_groups}
    enis = []
    for eni in state.network_interfaces:
        if eni.network_interface_id in movers:
            for name in eni.security_group_ids:
                groups[f"{name}-two"] = replace(groups[name], security_group_id=f"{name}-two", vpc_id=VPC_TWO)
            names = tuple(f"{name}-two" for name in eni.security_group_ids)
            eni = replace(eni, vpc_id=VPC_TWO, security_group_ids=names)  # noqa: PLW2901
        enis.append(eni)
    return replace(state, vpcs=vpcs, security_groups=tuple(groups.values()), network_interfaces=tuple(enis))


@contextmanager
def attached_pair(home: str, folder: Path, read_output: Callable[[], str]) -> Iterator[Bench]:
    """Two processes in namespaces without a name, whose links lead to `home`, a namespace."""
    with ExitStack() as stack:
        pids = {role: stack.enter_context(living_nowhere()).pid for role in ENIS}
        pair = {role: f"/proc/{pid}/ns/net" for role, pid in pids.items()}
        for role, eni in ENIS.items():
            with Links(home) as links:
                links.add_veth(f"v-{role}", pair[role], "eth0", mac_of(eni))
                links.set_up(f"v-{role}")
            set_up(pair[role], HERE[role])
        bench = Bench(pair, pids["instance"], folder, read_output)
        assert bench.attach() == 0
        assert bench.attach("--pid", pids["peer"], eni="eni-b") == 0
        stack.callback(bench.sgdp, "clear")
        yield bench


@contextmanager
def hosted_pair(home: str, folder: Path, read_output: Callable[[], str]) -> Iterator[Bench]:
    """The same, and `home` is made for it."""
    netns.create(home)
    try:
        with attached_pair(home, folder, read_output) as bench:
            yield bench
    finally:
        netns.remove(home)


def set_up(place: str, addresses: tuple[str, ...]) -> None:
    """As a container is: its subnet is on the link, in IPv4."""
    with netns.inside(place):
        sysctl.write("ipv6/conf/all/accept_dad", "0")
        sysctl.write("ipv6/conf/eth0/accept_dad", "0")
    with Links(place) as links:
        for text in addresses:
            links.add_address(InterfaceAddress("eth0", Address.parse(text), 128 if ":" in text else 24))
        links.set_up("eth0")
        links.add_route(Route("eth0", Prefix.parse("::/0"), GATEWAY_IPV6))
        links.add_route(Route("eth0", Prefix.parse("0.0.0.0/0"), Address.parse("169.254.1.1")))
