"""What gives a workload's process a handle to the router: the number that the kernel shows at its own link, and at the
links that it lists by that. Structures that were tried to take it away (docs/decisions/086-the-handle.md).
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable

import pytest

from sgdataplane.host import netns
from sgdataplane.host.events import number_of
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import attribute
from tests.support.kernel.netadmin import (
    BRIDGE,
    CREATE,
    DELLINK,
    IFADDRMSG,
    IFF_UP,
    LINK_NSID,
    NEWADDR,
    NEWROUTE,
    PASSTHRU,
    PRIVATE,
    SOURCE,
    NetAdmin,
    link,
    number,
    value,
)
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.kernel
MARK = "mark0"  # a link that only the router has
Make = Callable[[], str]


@pytest.fixture
def router(make_netns: Make) -> str:
    name = make_netns()
    with Links(name) as links:
        links.add_bridge(MARK)
    return name


def reached(place: str) -> set[str]:
    """The names of all links that a process with CAP_NET_ADMIN there can list."""
    names, known, todo = set[str](), set[int | None](), [None]
    with NetAdmin(place) as attacker:
        while todo:
            nsid = todo.pop()
            known.add(nsid)
            for name, said in attacker.links(nsid).items():
                names.add(name)
                leads_to = value(said[LINK_NSID]) if LINK_NSID in said else -1
                if leads_to >= 0 and leads_to not in known:
                    todo.append(leads_to)  # type: ignore[arg-type]
    return names


def made_in_router(_: Make, workload: str, router: str) -> None:
    with Links(router) as links:
        links.add_veth("end", workload, "eth0", "")


def made_in_workload(_: Make, workload: str, router: str) -> None:
    with Links(workload) as links:
        links.add_veth("eth0", router, "end", "")


def moved_from_between(make_netns: Make, workload: str, router: str) -> None:
    """Both ends are made in a third namespace, and moved."""
    between = make_netns()
    with Links(between) as links:
        links.add_veth("one", between, "two", "")
        links.move("one", workload, "eth0")
        links.move("two", router, "end")


def a_namespace_between(make_netns: Make, workload: str, router: str) -> None:
    """Two veths, one after the other: the list of the one in between shows where the next one leads."""
    between = make_netns()
    with Links(between) as links:
        links.add_veth("near", workload, "eth0", "")
        links.add_veth("far", router, "end", "")


@pytest.mark.parametrize("join", [made_in_router, made_in_workload, moved_from_between, a_namespace_between])
def test_a_veth_leads_to_the_router(make_netns: Make, router: str, join: Callable[[Make, str, str], None]) -> None:
    workload = make_netns()
    join(make_netns, workload, router)
    assert MARK in reached(workload)


def test_a_router_of_another_user_namespace_is_reached_all_the_same(make_netns: Make) -> None:
    """A capability in the machine's user namespace holds in all others."""
    workload = make_netns()
    process = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "600"])
    try:
        place = f"/proc/{process.pid}/ns/net"
        wait_until(lambda: netns.inode_of(place) != netns.inode_of(netns.OWN_NETNS))
        with Links(place) as links:
            links.add_bridge(MARK)
        made_in_router(make_netns, workload, place)
        assert MARK in reached(workload)
    finally:
        process.kill()
        process.wait()


def add_address(attacker: NetAdmin, index: int, address: str, *target: bytes) -> str:
    value = socket.inet_aton(address)
    body = IFADDRMSG.pack(socket.AF_INET, 24, 0, 0, index) + attribute(1, value) + attribute(2, value)
    return attacker.ask(NEWADDR, body + b"".join(target), CREATE)


def add_route(attacker: NetAdmin, index: int, network: str, *target: bytes) -> str:
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, 24, 0, 0, 254, 4, 253, 1, 0)  # main table, static, on the link
    body = head + attribute(1, socket.inet_aton(network)) + attribute(4, number(index))
    return attacker.ask(NEWROUTE, body + b"".join(target), CREATE)


def test_the_number_leads_to_links_and_neither_to_addresses_nor_to_routes(make_netns: Make, router: str) -> None:
    """The same requests do in its own namespace what they don't do in the router, and there links can be deleted."""
    workload = make_netns()
    made_in_router(make_netns, workload, router)
    with NetAdmin(workload) as attacker:
        nsid = attacker.reach()
        mark, own = attacker.index(MARK, nsid), attacker.index("eth0")
        assert attacker.set(own, flags=IFF_UP, change=IFF_UP) == ""
        before = addresses_and_routes(router)
        for kind in range(1, 64):  # whatever attribute a kernel may take for the number of a namespace
            add_address(attacker, mark, "192.0.2.1", attribute(kind, number(nsid)))
            add_route(attacker, mark, "198.51.100.0", attribute(kind, number(nsid)))
        assert addresses_and_routes(router) == before
        assert (add_address(attacker, own, "203.0.113.1"), add_route(attacker, own, "198.18.0.0")) == ("", "")
        assert addresses_and_routes(workload) > addresses_and_routes(router)
        assert attacker.delete(nsid, mark) == ""
    with Links(router) as links:
        assert links.link(MARK) is None


def addresses_and_routes(place: str) -> set[str]:
    """But for those that the kernel gives each link itself."""
    with Links(place) as links:
        found = {str(entry.address) for entry in links.addresses()} | {str(one.destination) for one in links.routes()}
    return {text for text in found if not text.startswith(("fe80:", "ff"))}


@pytest.mark.optional
def test_a_tunnel_across_a_namespace_leads_nowhere(make_netns: Make, router: str) -> None:
    """The tunnel's two ends are in the namespaces on both sides, and its packets in one that has no links. Nothing in
    there shows where the other end is. The control: what comes before it is reached."""
    workload, between, empty = make_netns(), make_netns(), make_netns()
    with Links(between) as links:
        links.add_veth("near", workload, "eth0", "")
    for place, tunnel, vni in ((between, "tunnel-a", 1), (router, "tunnel-b", 2)):
        more = f"link-netns {empty} type vxlan id {vni} dstport 400{vni} local 127.0.0.1"
        try:
            run_in(place, "ip", "link", "add", tunnel, *more.split())
        except AssertionError:
            pytest.skip("the kernel has no vxlan")
    found = reached(workload)
    assert found >= {"near", "tunnel-a"}
    assert not found & {"tunnel-b", MARK}


def test_a_macvlan_over_an_end_in_an_empty_namespace_leads_nowhere(make_netns: Make, router: str) -> None:
    """An end shows what is below it, and not what is on top. Nobody else can put a link over it, as it is in mode
    passthru. The control: the namespace of the end is reached, and there a link over it was possible before."""
    workload, between = make_netns(), make_netns()
    with Links(between) as links:
        links.add_veth("near", workload, "eth0", "")
    with NetAdmin(workload) as attacker, netns.inside(router):
        there = attacker.reach()
        assert attacker.over("before", there, attacker.index("near", there), PRIVATE) == ""
        assert attacker.ask(DELLINK, link(attacker.index("before"))) == ""
        with NetAdmin(router) as maker:
            assert maker.over("end", number_of(between), attacker.index("near", there), PASSTHRU) == ""
        for mode in (PRIVATE, BRIDGE, PASSTHRU, SOURCE):
            assert attacker.over("after", there, attacker.index("near", there), mode) == "EINVAL"
    for place in (router, between, workload):
        with Links(place) as links:  # numbers are given to namespaces as links are listed
            links.links()
    found = reached(workload)
    assert "near" in found
    assert not found & {"end", MARK}
