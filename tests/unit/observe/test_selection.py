"""Which sessions a selection lets through, and in what order they come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sgdataplane.host.conntrack import Traffic
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import ICMP, TCP, UDP, Address, Direction, Prefix, Protocol, Verdict
from sgdataplane.observe.selection import ORDERS, Selection, in_order
from sgdataplane.observe.sessions import Session

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
    counted = [replace(SSH, ingress=Traffic(1, size), egress=Traffic(1, size)) for size in (10, 3000, 200)]
    assert [s.ingress.bytes for s in in_order(counted, "bytes", descending=True) if s.ingress] == [3000, 200, 10]
    assert in_order([SSH, WEB], "bytes", descending=True) != []
    assert [s.eni_id for s in in_order([LOCAL, SSH], descending=True)] == ["eni-a", ""]


def test_every_order_takes_every_session() -> None:
    for order in ORDERS:
        assert len(in_order(ALL.values(), order)) == len(ALL)
