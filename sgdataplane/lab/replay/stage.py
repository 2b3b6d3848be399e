"""A lab for one replay: a host outside that has every address, and links for packets of any size.

Nothing of it is left afterwards, however this process ends. Owns what such a lab has beyond others, and its removal. It
is given a state. Must not know captures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pyroute2 import IPRoute

from sgdataplane.errors import LabError
from sgdataplane.host import netns
from sgdataplane.host.links import AF, RTPROT_OURS, Links, Route
from sgdataplane.lab import manage
from sgdataplane.lab.manage import Enforcer, Lab
from sgdataplane.lab.temporary import take_down_afterwards
from sgdataplane.lab.topology import EVERYWHERE
from sgdataplane.model.choices import Choices
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Family, Prefix

LARGEST_MTU = 65_535
EVERYBODYS_TABLE = 5000
# the host outside gets the first that no VPC has; most are for documentation (RFC 5737, RFC 3849)
OUTSIDE = {
    Family.IPV4: ("198.51.100.7", "203.0.113.7", "192.0.2.7", "198.18.0.7"),
    Family.IPV6: ("2001:db8:ffff::7", "3fff:ffff::7", "fdff:ffff:ffff::7"),
}


@contextmanager
def build_lab(name: str, state: CloudState, choices: Choices, enforce: Enforcer) -> Iterator[tuple[Lab, str]]:
    """Build the lab, which is up while the block runs.

    Yields the lab, and the name of the node in it that stands for every host outside.
    """
    outside = tuple(_free_address(state, family) for family in Family)
    record = replace(manage.default_record(name), choices=choices, externals=(tuple(map(str, outside)),))
    with take_down_afterwards(name):
        lab = manage.up(record, state, enforce)
        everybody = next(node for node in lab.topology.nodes if not node.is_instance)
        _widen(lab)
        _let_in_everybody(lab, everybody.name)
        yield lab, everybody.name


def _free_address(state: CloudState, family: Family) -> Address:
    """Return the first address of OUTSIDE that no VPC and no ENI has. LabError if they have all."""
    taken = [block for vpc in state.vpcs for block in vpc.cidr_blocks]
    taken += [prefix for eni in state.network_interfaces for prefix in eni.own_prefixes]
    for text in OUTSIDE[family]:
        address = Address.parse(text)
        if not any(address in prefix for prefix in taken):
            return address
    raise LabError("host outside", f"the VPCs cover all of {', '.join(OUTSIDE[family])}; leave one of them outside")


def _widen(lab: Lab) -> None:
    """Let links carry packets of any size.

    A capture may hold packets larger than any link carries, because network cards join and split them (GRO, TSO).
    """
    ends = [end for veth in lab.topology.veths for end in veth.ends]
    for name in {netns_name for netns_name, _ in ends}:
        with netns.inside(name), IPRoute() as ipr:
            for ifname in (ifname for netns_name, ifname in ends if netns_name == name):
                ipr.link("set", index=ipr.link_lookup(ifname=ifname)[0], mtu=LARGEST_MTU)


def _let_in_everybody(lab: Lab, name: str) -> None:
    """Route everything for addresses that nobody has to that host, and make it accept whatever its links bring."""
    node = lab.topology.node[name]
    for interface in node.interfaces:
        router = lab.topology.router_of(node, interface)
        with Links(router.netns) as links:
            for family in Family:
                links.add_route(Route(interface.router_ifname, EVERYWHERE[family], interface.primary(family)))
    with netns.inside(node.netns), IPRoute() as ipr:
        loopback = ipr.link_lookup(ifname="lo")[0]
        for family in Family:
            everywhere = {"family": AF[family], "table": EVERYBODYS_TABLE, "proto": RTPROT_OURS}
            for half in _split(family):  # the kernel would use a default route only as a last resort
                ipr.route("add", dst=str(half), oif=loopback, type="local", scope=254, **everywhere)
            for interface in node.interfaces:
                ipr.rule("add", family=AF[family], priority=5, table=EVERYBODYS_TABLE, iifname=interface.ifname)


def _split(family: Family) -> tuple[Prefix, Prefix]:
    return Prefix(family.bits, 0, 1), Prefix(family.bits, 1 << (family.bits - 1), 1)


def own_name() -> str:
    """Return a name for a lab that no other process takes."""
    return f"replay-{os.getpid()}"
