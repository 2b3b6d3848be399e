"""Whoever is root in an instance, with all capabilities there, leaks nothing where policy stands in the router."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from sgdataplane.host import netns, sysctl
from tests.fence.bench import EVERYONE, token
from tests.fence.hostbench import (
    MAC,
    NEIGHBOUR,
    OUTSIDE,
    OWN,
    PORT,
    HostBench,
    Send,
    device,
    host_bench,
    mac_in,
)
from tests.fence.xdp import xdp_sender
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.probes.links import wait_carried
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

OTHER_MAC, NOBODY, REFUSED = "00:16:3e:00:00:0b", "10.0.0.9", 54
SILENT = {"ipv6/conf/default/disable_ipv6": "1", "ipv4/conf/default/arp_ignore": "1"}  # of what root adds
STOPPED = {"fence.other-mac": (OTHER_MAC, OWN, PORT), "fence.spoofed": (MAC, NOBODY, PORT)}
STOPPED |= {"default.egress.drop": (MAC, OWN, REFUSED)}


@pytest.fixture
def bench(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """One for each test: what root does to an instance stays."""
    with host_bench(make_lab_name()) as made:
        with netns.inside(made.instance.netns):
            sysctl.write_all(SILENT)
        yield made


def become(bench: HostBench, *commands: str) -> None:
    """Run commands as root of the instance."""
    for command in commands:
        run_in(bench.instance.netns, *command.split())


def frame(bench: HostBench, known: bytes, mac: str = MAC, source: str = OWN, port: int = PORT) -> Packet:
    return bench.instance.ether(mac) / IP(src=source, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=port) / Raw(known)


def check_kept_in(bench: HostBench, send: Send | None = None) -> None:
    """What may pass does, by this way, and what may not is stopped as ever."""
    fate = bench.fate(lambda known: frame(bench, known), send)
    assert (OUTSIDE.name in fate.seen_by, fate.drops) == (True, {})
    for counter, what in STOPPED.items():
        fate = bench.fate(lambda known: frame(bench, known, *what), send)  # noqa: B023  (called here only)
        assert (fate.seen_by, fate.drops) == (frozenset(), {counter: 1})


def test_root_finds_no_table_of_ours_and_its_own_change_nothing(bench: HostBench) -> None:
    before = [nft(bench.router, f"list chains {family}") for family in bench.families]
    assert run_in(bench.instance.netns, "nft", "list", "tables") == ""
    become(bench, "nft flush ruleset", "nft add table inet sgdataplane", "nft add table netdev sgdataplane")
    become(bench, "nft add chain inet sgdataplane egress { type filter hook postrouting priority -500 ; }")
    become(bench, "nft add rule inet sgdataplane egress meta mark set 1 ct mark set 0xffffffff accept")
    check_kept_in(bench)
    assert [nft(bench.router, f"list chains {family}") for family in bench.families] == before


def sent_by_kernel(bench: HostBench, source: str, known: bytes) -> None:
    """A datagram from an address that the instance has given itself."""
    with netns.inside(bench.instance.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, PORT))
        client.sendto(known, (OUTSIDE.v4, PORT))


@pytest.mark.parametrize(("address", "drops"), [(OWN, {}), (NOBODY, {"fence.spoofed": 1})])
def test_address_that_root_adds_is_not_the_eni_s(bench: HostBench, address: str, drops: dict[str, int]) -> None:
    become(bench, f"ip addr replace {address}/32 dev eth0")
    known = token()
    fate = bench.fate_of_all(known, [(lambda _: sent_by_kernel(bench, address, known), Ether())])
    assert (OUTSIDE.name in fate.seen_by, fate.drops) == (not drops, drops)


def test_mac_that_root_sets_is_not_the_eni_s(bench: HostBench) -> None:
    become(bench, f"ip link set eth0 address {OTHER_MAC}")
    become(bench, f"ip neigh replace 169.254.1.1 dev eth0 lladdr {bench.instance.gateway_mac}")
    known = token()
    fate = bench.fate_of_all(known, [(lambda _: sent_by_kernel(bench, OWN, known), Ether())])
    assert (fate.seen_by, fate.drops["fence.other-mac"] > 0) == (frozenset(), True)
    become(bench, f"ip link set eth0 address {MAC}")  # else its answers to the router's questions are dropped, too
    check_kept_in(bench)


def test_renamed_interface_is_the_same_link(bench: HostBench) -> None:
    become(bench, "ip link set eth0 down", "ip link set eth0 name wan0", "ip link set wan0 up")
    wait_until(lambda: "state UP" in run_in(bench.instance.netns, "ip", "link", "show", "wan0"))
    bench.instance.wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # that it went down
    check_kept_in(bench)


DEVICES = {
    "macvlan": ["ip link add new0 link eth0 type macvlan mode bridge"],
    "macvlan-passthru": ["ip link add new0 link eth0 type macvlan mode passthru"],
    "bridge": ["ip link add new0 type bridge mcast_snooping 0", "ip link set eth0 master new0"],
}


@pytest.mark.parametrize("name", DEVICES)
def test_device_on_top_of_the_interface_passes_no_more(bench: HostBench, name: str) -> None:
    become(bench, *DEVICES[name], "ip link set new0 up")
    with device(bench.instance.netns, "new0") as send:
        check_kept_in(bench, send)
        if name == "macvlan":
            mac = mac_in(bench.instance.netns, "new0")
            fate = bench.fate(lambda known: frame(bench, known, mac), send)
            assert (fate.seen_by, fate.drops) == (frozenset(), {"fence.other-mac": 1})


@pytest.mark.parametrize(("port", "drops"), [(PORT, {}), (4789, {"default.egress.drop": 1})])
def test_tunnel_that_root_makes_passes_as_rules_allow(bench: HostBench, port: int, drops: dict[str, int]) -> None:
    become(
        bench,
        f"ip link add tun0 type vxlan id 7 local {OWN} remote {OUTSIDE.v4} dstport {port}",
        "ip link set tun0 up",
    )
    with device(bench.instance.netns, "tun0") as send:
        fate = bench.fate(lambda known: Ether(src=MAC, dst=EVERYONE) / Raw(known), send)
    assert (OUTSIDE.name in fate.seen_by, fate.drops) == (not drops, drops)


@pytest.fixture
def behind(bench: HostBench) -> Iterator[str]:
    """A namespace behind the instance, which forwards for it."""
    name = f"{bench.instance.netns}-in"
    netns.create(name)
    try:
        become(bench, f"ip link add in0 type veth peer name eth0 netns {name}", "ip link set in0 up")
        become(bench, "ip addr add 192.168.9.1/24 dev in0")
        with netns.inside(bench.instance.netns):
            sysctl.write_all({"ipv4/ip_forward": "1"})
        run_in(name, "ip", "addr", "add", "192.168.9.2/24", "dev", "eth0")
        run_in(name, "ip", "link", "set", "eth0", "up")
        run_in(name, "ip", "route", "add", "default", "via", "192.168.9.1")
        wait_carried(name, "eth0")
        wait_carried(bench.instance.netns, "in0")
        yield name
    finally:
        netns.remove(name)


@pytest.mark.parametrize("is_masked", [False, True])
def test_what_the_instance_forwards_is_from_its_own_addresses_or_stopped(
    bench: HostBench, behind: str, is_masked: bool
) -> None:
    """As containers behind it: with their own addresses nothing, translated to the ENI's everything that may pass."""
    if is_masked:
        become(bench, "nft add table ip nat", "nft add chain ip nat out { type nat hook postrouting priority 100 ; }")
        become(bench, "nft add rule ip nat out oifname eth0 masquerade")
    known = token()

    def send(_: bytes) -> None:
        with netns.inside(behind), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(known, (OUTSIDE.v4, PORT))

    fate = bench.fate_of_all(known, [(send, Ether())])
    assert (OUTSIDE.name in fate.seen_by, fate.drops) == (is_masked, {} if is_masked else {"fence.spoofed": 1})


def test_root_that_deletes_its_link_harms_nobody_else(bench: HostBench) -> None:
    """The host end, with its fence, goes too; the neighbour's stays. Its addresses are nobody else's for that."""
    become(bench, "ip link delete eth0")
    outside, neighbour = bench.parties[OUTSIDE.name], bench.parties[NEIGHBOUR.name]
    rest = replace(bench, instance=neighbour, parties={OUTSIDE.name: outside})
    for source, drops in ((NEIGHBOUR.v4, {}), (OWN, {"fence.spoofed": 1})):
        packet = neighbour.ether() / IP(src=source, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=PORT)
        fate = rest.fate(lambda known: packet / Raw(known))  # noqa: B023  (called here only)
        assert (OUTSIDE.name in fate.seen_by, fate.drops) == (not drops, drops)


@pytest.mark.parametrize("tags", [[], [Dot1Q(vlan=0)]], ids=["", "802.1q"])
def test_xdp_socket_s_frames_are_judged_as_any(bench: HostBench, tags: list[Packet]) -> None:
    """They meet no hook in the instance: there, one of them would pass any fence."""
    with ExitStack() as stack:
        with netns.inside(bench.instance.netns):
            send = stack.enter_context(xdp_sender("eth0"))
        if not tags:
            check_kept_in(bench, send)
            return
        packet = IP(src=OWN, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=PORT)
        fate = bench.fate(lambda known: bench.instance.ether() / tags[0] / packet / Raw(known), send)
        assert (fate.seen_by, fate.drops) == (frozenset(), {"fence.tagged": 1})
