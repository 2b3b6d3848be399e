"""Events to paths, paths to words. Real packets: tests/traffic/test_trace.py."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.sites import HOST, INSTANCE, SITES
from sgdataplane.model.decision import RULE
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft import text
from sgdataplane.nft.tracing import Event, MarkingTable, encode_marking
from sgdataplane.observe.headers import Headers
from sgdataplane.observe.hits import decisions
from sgdataplane.observe.trace import QUIET_S, Paths, Wanted, counter_in, make_marking_tables
from sgdataplane.observe.tracepath import Gate, Scene, gates, headers_of
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

OWN = "sgdataplane-trace-1"
STATE = make_state(
    [make_group("sg-a", [make_rule("ingress tcp 80/80 from 0.0.0.0/0 drop 7", "sgr-80")])],
    [make_eni("eni-a", "10.0.0.1", "sg-a")],
)


def event(chain: str, verdict: str, target: str = "", *, table: str = "sgdataplane", family: str = "inet") -> Event:
    handle = 0 if table == OWN and verdict == "accept" else 1
    return Event(5, family, table, chain, handle, verdict, target, iif=2)


def marked(chain: str = "ingress", family: str = "inet") -> Event:
    return event(chain, "continue", table=OWN, family=family)


class Told:
    def __init__(self) -> None:
        self.now, self.paths = 0.0, Paths(OWN, lambda: self.now)

    def chains(self, *events: Event) -> list[list[str]]:
        """The chains of the paths that are ready after these events."""
        for one in events:
            self.paths.note(one)
        return [[e.chain for e in path.events] for path in self.paths.ready()]

    def later(self) -> list[list[str]]:
        self.now += QUIET_S
        return self.chains()


def test_a_packet_is_whole_when_it_is_dropped_or_nothing_more_comes() -> None:
    told = Told()
    assert told.chains(marked(), event("a", "goto"), event("b", "drop")) == [["a", "b"]]
    assert told.chains(marked(), event("a", "accept")) == []
    assert told.later() == [["a"]]


def test_the_next_packet_may_have_the_same_number() -> None:
    told = Told()
    assert told.chains(marked(), marked(), event("a", "accept"), marked(), event("b", "accept")) == [["a"]]
    assert told.later() == [["b"]]


def test_packets_are_told_in_the_order_in_which_they_came() -> None:
    told = Told()
    first = [replace(one, number=6) for one in (marked(), event("a", "accept"))]
    assert told.chains(*first, marked(), event("b", "goto"), event("c", "drop")) == []
    assert told.later() == [["a"], ["b", "c"]]


def test_both_marks_of_one_packet_are_one_packet() -> None:
    told = Told()
    events = (marked("fence0", "netdev"), event("f", "accept", family="netdev"), marked("egress"), event("a", "drop"))
    assert told.chains(*events) == [["f", "a"]]


def test_what_others_have_traced_is_not_ours() -> None:
    told = Told()
    assert told.chains(event("a", "goto"), event("b", "drop")) == told.later() == []


def gates_of(counters: dict[str, str], *events: Event) -> tuple[Gate, ...]:
    """`counters`: by chain."""
    scene = Scene(
        INSTANCE,
        {"eth0": "eni-a"},
        {2: "eth0"},
        lambda e: counters.get(e.chain, ""),
        decisions(STATE, {"eni-a": "eth0"}),
    )
    return gates(scene, events)


@pytest.mark.parametrize(
    ("counters", "events", "expected"),
    [
        ({"leaf.x": "rule.sg-a.sgr-80"}, (("ingress", "goto", "e"), ("leaf.x", "goto", "y"), ("y", "drop", "")), RULE),
        ({"leaf.x": "default.ingress.drop"}, (("ingress", "goto", "e"), ("leaf.x", "drop", "")), "default"),
        ({"eni-x": "ingress.spoofed"}, (("ingress", "goto", "eni-x"), ("eni-x", "drop", "")), "never"),
        ({"ingress-link-x": "ingress.always"}, (("ingress", "goto", "e"), ("ingress-link-x", "accept", "")), "always"),
        ({}, (("ingress", "accept", ""),), "session"),
        ({}, (("ingress", "goto", "ingress-entry"), ("ingress-entry", "accept", "")), "interface"),
        ({}, (("ingress", "goto", "x"), ("timeouts-x", "return", ""), ("ingress-entry", "accept", "")), "interface"),
        ({}, (("ingress", "goto", "gone"), ("gone", "drop", "")), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_reason_is_that_of_who_decided(
    counters: dict[str, str], events: tuple[tuple[str, str, str], ...], expected: str
) -> None:
    (gate,) = gates_of(counters, *(event(*words) for words in events))
    assert (gate.reason, gate.verdict, gate.direction) == (expected, events[-1][1], Direction.INGRESS)
    assert gate.eni_id == "eni-a"


def test_each_chain_about_the_far_groups_is_at_their_station() -> None:
    narrow = make_rule("ingress tcp 90/90 from sg-b", source_port_range="1000/2000")
    state = make_state(
        [make_group("sg-a", ["ingress tcp 80/80 from sg-b", narrow]), make_group("sg-b")],
        [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
    )
    table = compile_policy(resolve(state, {"eni-a": "eth0"}, DEFAULTS), DEFAULTS)
    about = [chain.name for chain in table.chains if chain.name.startswith(("group", "rank-"))]
    assert [name for name in about if name.startswith("group-sets-")], "steps on group sets"
    (gate,) = gates_of({}, event("ingress", "goto", about[0]), *(event(name, "return") for name in about))
    assert [step.station for step in gate.steps[1:]] == ["groups"] * len(about)


@pytest.mark.parametrize(
    ("hook", "rest"),
    [("egress", (("goto", "uplink-x"), ("accept", ""))), ("ingress", (("accept", ""),))],
    ids=["arriving", "leaving"],
)
def test_a_packet_at_an_uplink_passes_by_its_interface_and_no_session(
    hook: str, rest: tuple[tuple[str, str], ...]
) -> None:
    """A router's base chains begin with its uplinks."""
    scene = Scene(HOST, {"eni-a": "eni-a"}, {2: "up0", 3: "eni-a"}, lambda _: "", {})
    chains = (hook, "uplink-x")
    told = [replace(event(chain, *words), oif=2) for chain, words in zip(chains, rest, strict=False)]
    (gate,) = gates(scene, told)
    assert (gate.reason, gate.verdict, gate.eni_id) == ("interface", "accept", "")
    assert "session" not in " ".join(step.words for step in gate.steps)


def test_a_chain_that_gives_timeouts_and_decides_nothing_is_not_told() -> None:
    own = (event("timeouts-delivered", "jump", "timeouts-x"), event("timeouts-delivered", "accept"))
    assert [gate.name for gate in gates_of({}, event("egress", "accept"), *own)] == ["egress"]
    assert [gate.kind for gate in gates_of({}, event("timeouts-delivered", "accept", table="others"))] == ["other"]


def test_who_decided_is_known_also_where_the_rule_that_logs_is_not_told() -> None:
    rules = {1: "", 2: "default.ingress.drop"}
    assert counter_in(rules, event("leaf.x", "goto")) == "default.ingress.drop"
    assert counter_in(rules, event("ingress-entry", "accept")) == counter_in({}, event("leaf.x", "goto")) == ""


def test_a_rule_that_is_not_known_is_told_by_its_counter() -> None:
    (gate,) = gates_of({"leaf.x": "rule.sg-z.sgr-9"}, event("leaf.x", "drop"))
    assert gate.decision is not None
    assert (gate.decision.security_group_id, gate.decision.security_group_rule_id) == ("sg-z", "sgr-9")
    assert gate.steps[0].words == "rule sgr-9 of sg-z decides"


def heard(network: bytes, transport: bytes) -> Headers:
    return headers_of(replace(event("ingress", "goto"), network=network, transport=transport))


def test_headers_are_read_as_far_as_they_are_told() -> None:
    ends = [ip_address(text).packed for text in ("10.0.0.1", "10.0.0.2")]
    v4 = b"\x45" + bytes(8) + b"\x06" + bytes(2) + b"".join(ends) + bytes(20)  # the kernel tells 40 octets
    found = heard(v4, b"\x00\x16\x00\x50" + bytes(16))
    assert (str(found.source), str(found.destination)) == ("10.0.0.1", "10.0.0.2")
    assert (found.protocol, found.source_port, found.port) == (6, 22, 80)
    v6 = b"\x60" + bytes(5) + b"\x3a\x40" + bytes(15) + b"\x01" + bytes(15) + b"\x02"
    echo = heard(v6, b"\x80" + bytes(7))
    assert (str(echo.destination), echo.icmp_type, echo.port) == ("::2", 128, None)
    routed = heard(v6[:6] + b"\x2b" + v6[7:], b"\x80" + bytes(7))
    assert (str(routed.destination), routed.protocol, routed.icmp_type) == ("::2", 43, None)
    for nonsense in (v4[:12], v6[:6], b"", b"\xff"):
        assert heard(nonsense, b"").source is None


@pytest.mark.parametrize("where", Placement, ids=lambda where: where.value)
def test_packets_are_marked_just_before_the_policy_and_the_fence(where: Placement) -> None:
    wanted = Wanted("eth0", Direction.EGRESS, 6, Prefix.parse("192.0.2.0/24"), 443)
    policy, fence = make_marking_tables((wanted,), SITES[where], OWN)
    chains = [(table, chain) for table in (policy, fence) for chain in table.chains]
    lines = [line for table, chain in chains for line in (text.add_chain(table, chain), *text.add_rules(table, chain))]
    hook, asked, netdev = (
        ("postrouting priority 149", "oifname", "egress") if where is Placement.INSTANCE
        else ("prerouting priority -151", "iifname", "ingress")
    )  # fmt: skip
    conditions = "ip daddr 192.0.2.0-192.0.2.255 meta l4proto 6 th dport 443"
    assert lines == [
        f"add chain inet {OWN} egress {{ type filter hook {hook}; }}",
        f'add rule inet {OWN} egress {asked} "eth0" {conditions}',
        f'add chain netdev {OWN} fence0 {{ type filter hook {netdev} device "eth0" priority -1; }}',
        f"add rule netdev {OWN} fence0 {conditions}",
    ]
    for table in (policy, fence):
        *_, (messages, _) = MarkingTable.make(table, 100).requests()
        assert messages[-1].attributes.endswith(encode_marking(100))
