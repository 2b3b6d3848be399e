"""A workload with CAP_NET_ADMIN in the machine's own user namespace reaches into its router, and sends nothing from
there: what leaves by a host end or an uplink has passed the router's policy. Packets that may pass take the same way in
the same second (HostBench.fate)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw

from sgdataplane.compiler.fence import PLACEHOLDER
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns, sysctl
from sgdataplane.nft.kernel import NetlinkKernel
from tests.features.probes import BRIDGE_NETFILTER, IPVLAN, VLANS, require
from tests.fence.hostbench import MAC, NEIGHBOUR, OUTSIDE, OWN, OWN6, PORT, End, HostBench, Send, host_bench
from tests.fence.intruder import Intruder
from tests.fence.reach import BRIDGE, SHOWING, UPPER
from tests.support.scenes import labs
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

SILENT = {"ipv6/conf/default/disable_ipv6": "1"}  # of what the intruder makes
UNAPPROVED, UNKNOWN, NOBODY = "fence.unapproved", "egress.unknown-interface", "192.0.2.9"
MODES = ("private", "vepa", "bridge", "passthru", "source")
by_end = pytest.mark.parametrize("end", [NEIGHBOUR, OUTSIDE], ids=["host-end", "uplink"])


def silenced(bench: HostBench) -> HostBench:
    with netns.inside(bench.instance.netns):
        sysctl.write_all(SILENT)
    return bench


@pytest.fixture(scope="module")
def kept(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    with host_bench(make_lab_name()) as made:
        yield silenced(made)


@pytest.fixture(scope="module")
def unkept(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """The control: no policy, no fence."""
    with host_bench(make_lab_name(), labs.no_policy) as made:
        yield silenced(made)


@pytest.fixture
def bench(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """One for each test: what the intruder does to it stays."""
    with host_bench(make_lab_name()) as made:
        yield silenced(made)


def link_of(bench: HostBench, end: End) -> int:
    """The router's interface that leads there."""
    links = Intruder.at(bench).links()
    return links["eni-b" if end is NEIGHBOUR else next(name for name in links if name.startswith("ext"))]


def frames(bench: HostBench, end: End) -> dict[str, Callable[[bytes], Packet]]:
    """What the intruder sends there. Rules would let some of it pass, if it were asked for."""
    party = bench.parties[end.name]
    own, other = Ether(src=MAC, dst=party.mac), Ether(src="02:00:00:00:00:99", dst=party.mac)
    ports = UDP(sport=PORT, dport=PORT)
    claim = ARP(op=2, hwsrc=party.gateway_mac, psrc="169.254.1.1", hwdst=party.mac, pdst=end.v4)
    return {
        "udp": lambda known: own / IP(src=OWN, dst=end.v4) / ports / Raw(known),
        "udp-from-nobody": lambda known: other / IP(src=NOBODY, dst=end.v4) / ports / Raw(known),
        "udp6": lambda known: own / IPv6(src=OWN6, dst=end.v6) / ports / Raw(known),
        "arp": lambda known: Ether(src=party.gateway_mac, dst=party.mac) / claim / Padding(known),
        "tagged": lambda known: own / Dot1Q(vlan=5) / IP(src=OWN, dst=end.v4) / ports / Raw(known),
        "odd": lambda known: Ether(src=MAC, dst=party.mac, type=0x88B5) / Raw(known),
    }


def check_kept_in(bench: HostBench, end: End, send: Send) -> None:
    for build in frames(bench, end).values():
        fate = bench.fate(build, send)
        assert (fate.seen_by, fate.drops) == (frozenset(), {UNAPPROVED: 1})


@by_end
@pytest.mark.parametrize("mode", MODES)
def test_macvlan_over_an_interface_of_the_router_sends_nothing(
    kept: HostBench, unkept: HostBench, end: End, mode: str
) -> None:
    with Intruder.at(unkept).over(link_of(unkept, end), "macvlan", mode) as send:
        for build in frames(unkept, end).values():
            assert end.name in unkept.fate(build, send).seen_by
    with Intruder.at(kept).over(link_of(kept, end), "macvlan", mode) as send:
        check_kept_in(kept, end, send)


@pytest.mark.optional
@by_end
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_ipvlan_sends_nothing(kept: HostBench, end: End, mode: str) -> None:
    require(IPVLAN)
    with Intruder.at(kept).over(link_of(kept, end), "ipvlan", mode) as send:
        for build in frames(kept, end).values():
            assert kept.fate(build, send).seen_by == frozenset()


@pytest.mark.optional
@by_end
def test_vlan_device_sends_nothing(kept: HostBench, end: End) -> None:
    require(VLANS)
    with Intruder.at(kept).over(link_of(kept, end), "vlan", "5") as send:
        check_kept_in(kept, end, send)


BRIDGED = [f"bridge/bridge-nf-call-{kind}tables" for kind in ("ip", "ip6", "arp")]
by_sight = pytest.mark.parametrize("kind", ["bridge", pytest.param(SHOWING, marks=pytest.mark.optional)])


def hide(bench: HostBench, kind: str) -> None:
    """The router's bridges show the policy no frame, but for one that asks for it itself."""
    if kind == SHOWING:
        require(BRIDGE_NETFILTER)
    with netns.inside(bench.router):
        sysctl.write_all({name: "0" for name in BRIDGED if Path("/proc/sys/net", name).exists()})


@by_end
@by_sight
@pytest.mark.parametrize("is_port", [False, True], ids=["macvlan", "itself"])
def test_bridge_in_the_router_sends_nothing(bench: HostBench, end: End, kind: str, *, is_port: bool) -> None:
    """Its port is a macvlan over the interface; or the interface itself, which only somebody in the router can do."""
    hide(bench, kind)
    link = link_of(bench, end)
    with Intruder.at(bench).over(link, kind) as send:
        if is_port:
            (ifname,) = (name for name, index in Intruder.at(bench).links().items() if index == link)
            run_in(bench.router, "ip", "link", "delete", UPPER)
            run_in(bench.router, "ip", "link", "set", ifname, "master", BRIDGE)
        for build in frames(bench, end).values():
            fate = bench.fate(build, send)
            assert fate.seen_by == frozenset()
            is_shown_and_refused = kind == SHOWING and fate.drops[UNKNOWN] >= 2  # one of them is of its own stack
            assert fate.drops.get(UNAPPROVED) or is_shown_and_refused


@by_sight
def test_bridge_in_the_place_of_an_uplink(bench: HostBench, kind: str) -> None:
    """A limit (docs/design/ends.md): until the agent finds it, it passes to an ENI what comes from no ENI here, if it
    shows the policy its packets. The control is a bridge that doesn't."""
    hide(bench, kind)
    uplink = next(name for name in Intruder.at(bench).links() if name.startswith("ext"))
    bench = replace(bench, parties={NEIGHBOUR.name: bench.parties[NEIGHBOUR.name]})
    with Intruder.at(bench).over(link_of(bench, NEIGHBOUR), kind, uplink) as send:
        seen = {name for name, build in frames(bench, NEIGHBOUR).items() if bench.fate(build, send).seen_by}
    assert seen == ({"udp-from-nobody"} if kind == SHOWING else set())


@by_end
def test_only_the_secret_mark_lets_a_frame_leave(kept: HostBench, end: End) -> None:
    """The control is the secret itself, which the intruder can't read."""
    with NetlinkKernel(kept.router) as kernel:
        stamp = kernel.inventory(TABLE).stamp
    assert stamp is not None
    build = frames(kept, end)["udp-from-nobody"]
    for mark in (1, PLACEHOLDER, 0xFFFFFFFF, stamp.secret ^ 1, stamp.secret):
        with Intruder.at(kept).over(link_of(kept, end), "macvlan", "private", mark) as send:
            fate = kept.fate(build, send)
        is_known = mark == stamp.secret
        assert (end.name in fate.seen_by, fate.drops.get(UNAPPROVED, 0)) == (is_known, int(not is_known))


def test_tunnel_that_sends_by_the_router_s_routes_sends_nothing(kept: HostBench, unkept: HostBench) -> None:
    """Its packets meet the router's hooks, but no policy has judged what is in them."""
    for bench, drops in ((unkept, None), (kept, {"ingress.injected": 1})):
        with Intruder.at(bench).over(0, "vxlan", f"{OUTSIDE.v4}:4789") as send:
            fate = bench.fate(lambda known: Ether(src=MAC, dst="02:00:00:00:00:01") / Raw(known), send)
        assert (OUTSIDE.name in fate.seen_by, fate.drops) == (drops is None, drops or {})
