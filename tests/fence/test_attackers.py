"""What a placement does not stop, as docs/design/hostile.md says of each attacker: nobody may rely on it."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP, IPOption_LSRR
from scapy.packet import Raw

from sgdataplane.host import netns, sysctl
from sgdataplane.lab import manage
from sgdataplane.lab.manage import enforce_policy
from tests.fence.bench import MAC, OTHER_MAC, Bench, bench, token
from tests.fence.bench import STATE as INSTANCE_STATE
from tests.fence.hostbench import GATEWAY, NEIGHBOUR, OUTSIDE, OWN, PORT, STATE, host_bench
from tests.fence.test_frames import STOPPED
from tests.fence.xdp import xdp_sender
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

SPOOFED = STOPPED["another's-address"][0]


def test_xdp_frame_passes_the_fence_in_an_instance(fenced: Bench) -> None:
    """It meets no hook on its way out. (In host placement: test_host_root.py.)"""
    known, before = token(), fenced.counted()
    with netns.inside(fenced.instance), xdp_sender("eth0") as send:
        send(bytes(SPOOFED(known)))
    assert any(known in frame for frame in fenced.seen_until_barrier())
    assert fenced.counted() == before
    assert not fenced.leaves(SPOOFED), "the same frame by a packet socket"


def test_root_of_an_instance_takes_its_fence_down_until_the_next_apply(lab_name: str) -> None:
    with bench(lab_name) as made:
        assert not made.leaves(SPOOFED)
        run_in(made.instance, "nft", "delete", "table", "netdev", "sgdataplane")
        assert made.leaves(SPOOFED)
        manage.apply(lab_name, INSTANCE_STATE, enforce_policy)
        assert not made.leaves(SPOOFED)


HARMS = {  # what root does to the router's tables, and what then passes: the frame's MAC and port
    "fence": ("delete table netdev sgdataplane", OTHER_MAC, PORT),
    "policy": ("delete table inet sgdataplane; delete table netdev sgdataplane", MAC, PORT + 1),
    "rule": ("insert rule inet sgdataplane egress accept", MAC, PORT + 1),
}


@pytest.mark.parametrize("name", HARMS)
def test_root_of_the_host_takes_a_router_s_tables_down_until_the_next_apply(lab_name: str, name: str) -> None:
    command, mac, port = HARMS[name]
    with host_bench(lab_name) as made:
        seen = replace(made, families=())  # counters may be gone
        packet = made.instance.ether(mac) / IP(src=OWN, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=port)

        def arrives() -> bool:
            return OUTSIDE.name in seen.fate(lambda known: packet / Raw(known)).seen_by

        assert not arrives()
        nft(made.router, command)
        assert arrives()
        manage.apply(lab_name, STATE, enforce_policy)
        assert not arrives()


def test_router_without_its_policy_sends_nothing_until_the_next_apply(lab_name: str) -> None:
    """Nobody marks what its fence would let out."""
    with host_bench(lab_name) as made:
        head = made.instance.ether() / IP(src=OWN, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=PORT)
        assert OUTSIDE.name in made.fate(lambda known: head / Raw(known)).seen_by
        nft(made.router, "delete table inet sgdataplane")
        blocked = token() + bytes(LONG)
        made.instance.wire.send(bytes(head / Raw(blocked)))
        wait_until(lambda: unapproved_bytes(made.router) >= LONG)
        manage.apply(lab_name, STATE, enforce_policy)
        assert not any(blocked in frame for frame in made.frames_until_barrier(OUTSIDE))
        assert OUTSIDE.name in made.fate(lambda known: head / Raw(known)).seen_by


LONG = 1000  # bytes: what else a router may send meanwhile, discovery of neighbours, is much shorter


def unapproved_bytes(router: str) -> int:
    """What the fence has dropped since no policy approves it."""
    found = re.search(r"bytes (\d+)", nft(router, "list counter netdev sgdataplane fence.unapproved"))
    assert found is not None
    return int(found[1])


NAMES = {"itself": ("outside", OUTSIDE.v4), "host-outside": ("outside", OWN), "neighbour": ("neighbour", "10.0.0.9")}


@pytest.mark.parametrize("name", NAMES)
def test_who_is_not_checked_where_it_sends_is_believed_where_instances_judge(
    lab_name: str, placement: str, name: str
) -> None:
    """An instance can tell its own addresses only. A router sees who sends (test_host_uplink.py, test_host_root.py)."""
    attacker, source = NAMES[name]
    with host_bench(lab_name, placement=placement) as made, ExitStack() as stack:
        run_in(made.instance.netns, "nft", "flush", "ruleset")
        with netns.inside(made.parties[NEIGHBOUR.name].netns):
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((NEIGHBOUR.v4, PORT))
        party = made.parties[OUTSIDE.name] if attacker == "outside" else made.instance
        for content, address in ((b"claimed", source), (b"barrier", party.v4)):
            packet = IP(src=address, dst=NEIGHBOUR.v4) / UDP(sport=PORT, dport=PORT) / Raw(content)
            party.wire.send(bytes(party.ether() / packet))
        server.settimeout(DEADLINE)
        is_believed = placement == "instance" or source == party.v4
        assert server.recv(100) == (b"claimed" if is_believed else b"barrier")


def test_source_route_is_followed_by_a_router_that_is_told_to_until_the_next_apply(lab_name: str) -> None:
    """Policy judges whom a packet is for, which is the router then; so routers are told not to."""
    with host_bench(lab_name) as made:
        option = IPOption_LSRR(routers=[OUTSIDE.v4])
        packet = IP(src=OWN, dst=GATEWAY, options=[option]) / UDP(sport=PORT, dport=PORT, chksum=0)

        def arrives() -> bool:
            return OUTSIDE.name in made.fate(lambda known: made.instance.ether() / packet / Raw(known)).seen_by

        assert not arrives()
        with netns.inside(made.router):
            sysctl.write("ipv4/conf/all/accept_source_route", "1")
        assert arrives()
        manage.apply(lab_name, STATE, enforce_policy)
        assert not arrives()
