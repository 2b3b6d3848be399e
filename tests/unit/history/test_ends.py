"""What is recorded of a packet: whose other end, which port, and which rule decided."""

from __future__ import annotations

import pytest

from sgdataplane.history.ends import UNEXPLAINED, Interpretation
from sgdataplane.history.rows import ANY, Fate
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.net.values import ICMP, TCP, UDP, Address, Direction, Family, Verdict
from sgdataplane.observe.denied import Denied
from sgdataplane.observe.headers import Headers
from sgdataplane.observe.hits import decisions
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

STATE = make_state(
    [make_group("sg-a", [make_rule("ingress tcp 22/22 from 192.0.2.0/24", "sgr-1")]), make_group("sg-b")],
    [
        make_eni("eni-a", "10.0.0.1", "sg-a"),
        make_eni("eni-b", "10.0.0.2", "sg-b"),
        make_eni("eni-c", "10.0.0.3", "sg-a"),
    ],
)
MEANING = Interpretation(STATE, Options())
IN, OUT = Direction.INGRESS, Direction.EGRESS


def packet(
    remote: str, protocol: int = TCP, port: int | None = 22, side: Direction = IN, decision: Decision | None = None
) -> Denied:
    ends = (Address.parse(remote), Address.parse("10.0.0.1"))
    source, destination = ends if side is IN else ends[::-1]
    is_icmp = protocol == ICMP
    kind, code = (8, 0) if is_icmp else (None, None)
    source_port, flags = None if is_icmp else 49152, 2 if protocol == TCP else None
    headers = Headers(Family.IPV4, source, destination, protocol, source_port, port, kind, code, flags, 60)
    return Denied(1.0, "eni-a", "eth0", side, headers, 0x800, "counter", decision)


@pytest.mark.parametrize(
    ("seen", "end", "port", "cause", "rule"),
    [
        (packet("192.0.2.7"), Address.parse("192.0.2.7"), 22, "rule", "sgr-1"),
        (packet("10.0.0.3"), "eni-c", 22, "inner_accept", ""),
        (packet("10.0.0.2", UDP, 53, OUT), "eni-b", 53, "default", ""),
        (packet("10.0.0.2", ICMP, None, OUT), "eni-b", 8 << 8, "default", ""),
        (packet("198.51.100.1"), Address.parse("198.51.100.1"), 22, UNEXPLAINED, ""),
    ],
    ids=["a rule", "an ENI of the same group", "egress", "icmp", "the state has changed"],
)
def test_an_opened_session(seen: Denied, end: object, port: int, cause: str, rule: str) -> None:
    found = MEANING.interpret_opened(seen, 5)
    assert found is not None
    assert (found.end, found.port, found.cause, found.rule_id) == (end, port, cause, rule)
    assert (found.at, found.eni_id, found.fate, found.bytes) == (5, "eni-a", Fate.ACCEPT, 60)


def test_a_denied_packet_has_what_its_counter_stands_for() -> None:
    spoofed = Decision(IN, Verdict.DROP, "spoofed")
    found = MEANING.interpret_dropped(packet("198.51.100.1", decision=spoofed), 5)
    assert found is not None
    assert (found.cause, found.fate, found.port) == ("spoofed", Fate.DROP, 22)
    assert MEANING.interpret_dropped(packet("198.51.100.1"), 5) is None  # nobody knows why


def test_what_is_no_ip_packet_is_only_counted() -> None:
    arp = Denied(1.0, "eni-a", "eth0", IN, Headers(length=46), 0x806, "fence.arp-claim", None)
    assert (MEANING.interpret_opened(arp, 5), MEANING.interpret_dropped(arp, 5)) == (None, None)


def test_a_protocol_without_ports_has_none() -> None:
    found = MEANING.interpret_opened(packet("10.0.0.3", 47, None), 5)
    assert found is not None
    assert found.port == ANY


def test_namespaces_whose_enis_have_equal_groups_share_what_their_counters_mean() -> None:
    assert MEANING.decisions({"eni-a": "eth0"}) is MEANING.decisions({"eni-c": "eth1"})
    for enis in (["eni-a"], ["eni-a", "eni-b"], ["eni-b", "eni-unknown"]):
        interfaces = {eni: f"eth{number}" for number, eni in enumerate(enis)}
        known = {eni: ifname for eni, ifname in interfaces.items() if eni in STATE.eni}
        assert MEANING.decisions(interfaces) == decisions(STATE, known)
