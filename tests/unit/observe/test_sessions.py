"""From conntrack entries to ENIs, opening packets and rules, and which sessions are selected in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.sites import HOST, INSTANCE, Site
from sgdataplane.contract.stamp import Stamp
from sgdataplane.host.conntrack import Accounting, Tracked
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, TCP, UDP, Address, Direction, Prefix, Protocol, Verdict
from sgdataplane.nft.interp import run
from sgdataplane.observe.sessions import ORDERS, Owner, Owners, Selection, Session, in_order, rebuild_opening_packet
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.kernel.conntrack import tracked
from tests.support.models import wire

IN, OUT = Direction.INGRESS, Direction.EGRESS
ANYWHERE = (Prefix.parse("0.0.0.0/0"),)
STATE = make_state(
    [make_group("sg-a")],
    [
        make_eni("eni-a", "10.0.0.1 10.0.0.11 2001:db8:a::1 10.0.7.0/28", "sg-a"),
        make_eni("eni-b", "10.0.0.2", "sg-a"),
        make_eni("eni-nat", "10.0.0.3", "sg-a", allowed_address_pairs=ANYWHERE),
    ],
)
INTERFACES = {"eni-a": "eth0", "eni-b": "eth1"}
EPOCH = 5
STAMP = Stamp(EPOCH, "0" * 32)
OWNERS = Owners(STATE, INTERFACES, STAMP)
MARKS = INSTANCE.marks
IN_A, OUT_A, OUT_B = (
    MARKS.encode_acceptance(IN, EPOCH, 1),
    MARKS.encode_acceptance(OUT, EPOCH, 1),
    MARKS.encode_acceptance(OUT, EPOCH, 2),
)
OLD_IN_A, OLD_OUT_A = MARKS.encode_acceptance(IN, EPOCH - 1, 1), MARKS.encode_acceptance(OUT, EPOCH - 1, 1)

FROM_OUTSIDE, TO_OUTSIDE = "198.51.100.7/40000 10.0.0.1/22", "10.0.0.1/40000 198.51.100.7/443"


def owner(eni_id: str, side: Direction, *, judged: bool) -> Owner:
    return Owner(eni_id, side, judged)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        pytest.param(tracked(FROM_OUTSIDE, mark=IN_A), [owner("eni-a", IN, judged=True)], id="ingress"),
        pytest.param(tracked(TO_OUTSIDE, mark=OUT_A), [owner("eni-a", OUT, judged=True)], id="egress"),
        pytest.param(tracked(FROM_OUTSIDE, mark=OLD_IN_A), [owner("eni-a", IN, judged=False)], id="ingress, old epoch"),
        pytest.param(tracked(TO_OUTSIDE, mark=OLD_OUT_A), [owner("eni-a", OUT, judged=False)], id="egress, old epoch"),
        pytest.param(tracked(FROM_OUTSIDE), [owner("eni-a", IN, judged=False)], id="ingress, refused"),
        pytest.param(tracked(TO_OUTSIDE), [owner("eni-a", OUT, judged=False)], id="egress, refused"),
        pytest.param(
            tracked("2001:db8::7/1 2001:db8:a::1/22"), [owner("eni-a", IN, judged=False)], id="ingress, refused, IPv6"
        ),
        pytest.param(
            tracked("198.51.100.7 10.0.7.3", protocol=47), [owner("eni-a", IN, judged=False)], id="delegated prefix"
        ),
        pytest.param(
            tracked("10.0.0.11/1 198.51.100.7/443"), [owner("eni-a", OUT, judged=False)], id="secondary address"
        ),
        pytest.param(tracked("198.51.100.7/1 10.0.0.2/22"), [owner("eni-b", IN, judged=False)], id="second ENI"),
        pytest.param(tracked("127.0.0.1/1 127.0.0.1/22"), [], id="loopback"),
        pytest.param(tracked("10.0.0.1/1 10.0.0.1/22"), [], id="own address, by lo"),
        pytest.param(tracked("10.0.0.1/1 10.0.0.2/22"), [], id="from one own address to the other, by lo"),
        pytest.param(tracked("172.17.0.2/1 172.17.0.3/22"), [], id="between containers"),
        pytest.param(
            tracked("10.0.0.9/7 10.0.0.99/7", mark=IN_A | OUT_B),
            [owner("eni-a", IN, judged=True), owner("eni-b", OUT, judged=True)],
            id="forwarded from one ENI to the other",
        ),
        pytest.param(
            tracked("10.0.0.1/1 10.0.0.2/22", mark=IN_A), [owner("eni-a", IN, judged=True)], id="the mark outweighs all"
        ),
        pytest.param(
            tracked("198.51.100.7/5353 224.0.0.251/5353", protocol=UDP, mark=OLD_IN_A),
            [owner("eni-a", IN, judged=False)],
            id="multicast, old epoch",
        ),
    ],
)
def test_sessions_find_their_enis(entry: Tracked, found: list[Owner]) -> None:
    assert list(OWNERS.of(entry)) == found


def test_a_wide_address_pair_takes_no_session_that_is_otherwise_known() -> None:
    owners = Owners(STATE, {"eni-a": "eth0", "eni-nat": "eth1"}, STAMP)
    assert list(owners.of(tracked(FROM_OUTSIDE, mark=IN_A))) == [owner("eni-a", IN, judged=True)]
    assert list(owners.of(tracked(FROM_OUTSIDE))) == [owner("eni-a", IN, judged=False)]
    assert list(owners.of(tracked("10.0.0.1/1 10.0.0.3/22"))) == []
    assert list(owners.of(tracked("127.0.0.1/1 127.0.0.1/22"))) == []
    forwarded = tracked("10.0.0.9/7 192.0.2.1/443")
    assert {found.eni_id for found in owners.of(forwarded)} == {"eni-nat"}


def test_without_an_epoch_in_force_nothing_is_judged() -> None:
    owners = Owners(STATE, INTERFACES, None)
    assert list(owners.of(tracked(FROM_OUTSIDE, mark=IN_A))) == [owner("eni-a", IN, judged=False)]
    assert list(owners.of(tracked(FROM_OUTSIDE))) == [owner("eni-a", IN, judged=False)]


@pytest.mark.parametrize("site", [INSTANCE, HOST], ids=lambda site: site.placement.value)
def test_slots_are_those_that_the_compiler_gives(site: Site) -> None:
    enis = [make_eni(f"eni-{index}", f"10.0.1.{index}", "sg-a", instance_id=f"i-{index}") for index in range(12)]
    state = make_state([make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0"])], enis)
    interfaces = {f"eni-{index}": f"eth{11 - index}" for index in range(12)}  # as text, eth10 comes before eth2
    policy = replace(resolve(state, interfaces, DEFAULTS), placement=site.placement)
    table = compile_policy(policy, DEFAULTS, EPOCH)
    owners = Owners(state, interfaces, STAMP, site)
    for eni_id, ifname in interfaces.items():
        packet = Packet(eni_id, IN, Address.parse("198.51.100.7"), state.eni[eni_id].addresses[0], TCP, 22, 1)
        fields = wire.opening(packet, ifname, site.placement)
        mark = run(table, "ingress", fields).mark
        assert owners.of(tracked("198.51.100.7/1 203.0.113.9/22", mark=mark)) == (owner(eni_id, IN, judged=True),)


def packet(side: Direction, remote: str, local: str, ports: tuple[int, int] | None, protocol: int = TCP) -> Packet:
    port, source_port = ports or (None, None)
    return Packet("eni-a", side, Address.parse(remote), Address.parse(local), protocol, port, source_port)


@pytest.mark.parametrize(
    ("entry", "opened"),
    [
        pytest.param(tracked(FROM_OUTSIDE, mark=IN_A), packet(IN, "198.51.100.7", "10.0.0.1", (22, 40000)), id="in"),
        pytest.param(tracked(TO_OUTSIDE, mark=OUT_A), packet(OUT, "198.51.100.7", "10.0.0.1", (443, 40000)), id="out"),
        pytest.param(
            tracked("198.51.100.7/40000 10.0.0.1/8080", "172.17.0.2/80 198.51.100.7/40000", mark=IN_A),
            packet(IN, "198.51.100.7", "10.0.0.1", (8080, 40000)),
            id="to a container, by DNAT: as it came in",
        ),
        pytest.param(
            tracked("172.17.0.2/40000 198.51.100.7/443", "198.51.100.7/443 10.0.0.1/61000", mark=OUT_A),
            packet(OUT, "198.51.100.7", "10.0.0.1", (443, 61000)),
            id="from a container, by SNAT: as it left",
        ),
        pytest.param(
            tracked("10.0.0.1/40000 192.0.2.80/80", "198.51.100.7/8080 10.0.0.1/40000", mark=OUT_A),
            packet(OUT, "198.51.100.7", "10.0.0.1", (8080, 40000)),
            id="to a virtual address, by DNAT: to whom it left",
        ),
        pytest.param(
            tracked("172.17.0.2/40000 198.51.100.7/443", "198.51.100.7/443 10.0.0.1/61000"),
            packet(OUT, "198.51.100.7", "10.0.0.1", (443, 61000)),
            id="from a container, refused: by the address it left with",
        ),
        pytest.param(
            tracked("198.51.100.7 10.0.0.1", protocol=47, mark=IN_A),
            packet(IN, "198.51.100.7", "10.0.0.1", None, 47),
            id="no ports",
        ),
    ],
)
def test_the_opening_packet_is_as_on_the_wire(entry: Tracked, opened: Packet) -> None:
    (found,) = OWNERS.of(entry)
    assert rebuild_opening_packet(entry, found) == opened


def test_icmp_keeps_its_type() -> None:
    entry = tracked("198.51.100.7 10.0.0.1", protocol=ICMP, mark=IN_A, icmp_type=8)
    assert rebuild_opening_packet(entry, owner("eni-a", IN, judged=True)).icmp_type == 8


SSH = Session(
    namespace="lab-i-a",
    eni_id="eni-a",
    ifname="eth0",
    direction=Direction.INGRESS,
    protocol=TCP,
    remote=Address.parse("198.51.100.7"),
    remote_port=40000,
    local=Address.parse("10.0.0.1"),
    local_port=22,
    icmp_type=None,
    state="ESTABLISHED",
    seconds_left=900,
    ingress=None,
    egress=None,
    is_judged=True,
    decision=Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg-a", "sgr-ssh", 1),
)
WEB = replace(SSH, direction=Direction.EGRESS, remote_port=443, local_port=40001, state="TIME_WAIT", seconds_left=2)
DNS = replace(WEB, protocol=UDP, remote=Address.parse("192.0.2.53"), remote_port=53, decision=None)
PING = replace(SSH, protocol=ICMP, remote_port=None, local_port=None, state="REPLIED")
LOCAL = replace(SSH, eni_id="", ifname="", direction=None, decision=None)
ALL = {"ssh": SSH, "web": WEB, "dns": DNS, "ping": PING, "local": LOCAL}


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, "ssh web dns ping"),
        ({"internal": True}, "ssh web dns ping local"),
        ({"eni_id": "eni-a"}, "ssh web dns ping"),
        ({"eni_id": "eni-b"}, ""),
        ({"direction": Direction.EGRESS}, "web dns"),
        ({"remote": Prefix.parse("192.0.2.0/24")}, "dns"),
        ({"remote": Prefix.parse("::/0")}, ""),
        ({"protocol": Protocol.parse("udp")}, "dns"),
        ({"protocol": Protocol.parse("all")}, "ssh web dns ping"),
        ({"protocol": Protocol.parse("icmp")}, "ping"),
        ({"port": 22}, "ssh"),
        ({"port": 443}, "web"),
        ({"port": 40000}, ""),
        ({"port": 40001}, ""),
        ({"state": "TIME_WAIT"}, "web dns"),
        ({"rule_id": "sgr-ssh"}, "ssh web ping"),
        ({"rule_id": "sgr-ssh", "direction": Direction.INGRESS, "protocol": Protocol.parse("tcp")}, "ssh"),
        ({"internal": True, "protocol": Protocol.parse("tcp"), "state": "ESTABLISHED"}, "ssh local"),
        ({"internal": True, "eni_id": "eni-a"}, "ssh web dns ping"),
    ],
    ids=lambda value: value or "none" if isinstance(value, str) else None,
)
def test_all_conditions_must_hold(conditions: dict[str, Any], left: str) -> None:
    assert " ".join(name for name, session in ALL.items() if Selection(**conditions).holds(session)) == left


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("eni", "local web dns ping ssh"),
        ("remote", "dns ping web local ssh"),
        ("port", "ping ssh web local dns"),
        ("seconds-left", "web dns local ping ssh"),
        ("state", "local ssh ping web dns"),
        ("rule", "local dns web ping ssh"),
    ],
)
def test_orders(order: str, names: str) -> None:
    def name_of(session: Session) -> str:
        return next(name for name, known in ALL.items() if known is session)

    assert " ".join(map(name_of, in_order(ALL.values(), order))) == names


def test_descending_is_by_what_was_asked() -> None:
    counted = [replace(SSH, ingress=Accounting(1, size), egress=Accounting(1, size)) for size in (10, 3000, 200)]
    assert [s.ingress.bytes for s in in_order(counted, "bytes", descending=True) if s.ingress] == [3000, 200, 10]
    assert in_order([SSH, WEB], "bytes", descending=True) != []
    assert [s.eni_id for s in in_order([LOCAL, SSH], descending=True)] == ["eni-a", ""]


def test_every_order_takes_every_session() -> None:
    for order in ORDERS:
        assert len(in_order(ALL.values(), order)) == len(ALL)
