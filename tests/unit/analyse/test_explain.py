"""What outranks what, which clause decides before any rule, and both ends of a flow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.analyse.explain import at_other_end, explain, explain_flow
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Direction, Prefix, Verdict
from tests.support.inputs.builders import make_eni, make_group, make_packet, make_rule, make_state

METADATA = Options(metadata=(Prefix.parse("100.100.100.200"),))


def pair(*rules: str, others: tuple[str, ...] = (), inner: Verdict = Verdict.DROP, groups: str = "sg-b") -> CloudState:
    """eni-a is in sg-a, which has the rules; eni-b is in sg-b, which has the others."""
    return make_state(
        [
            make_group("sg-a", [make_rule(text, f"r{number}") for number, text in enumerate(rules)], inner=inner),
            make_group("sg-b", [make_rule(text, f"o{number}") for number, text in enumerate(others)], inner=inner),
        ],
        [
            make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"),
            make_eni("eni-b", "10.0.0.2 2001:db8::2 10.0.1.0/28", groups),
        ],
    )


def ranks(state: CloudState, packet: str, options: Options = DEFAULTS) -> list[tuple[str, str]]:
    """What would decide next, and why it doesn't come first."""
    found = explain(state, make_packet(packet), options).later
    return [(later.decision.security_group_rule_id or later.decision.cause, later.outranked_by) for later in found]


def test_what_outranks_what() -> None:
    all_in = "ingress all from 0.0.0.0/0"
    state = pair(f"{all_in} 9", f"{all_in} 5", f"{all_in} drop 5", f"{all_in} drop 5")
    assert ranks(state, "ingress gre 8.8.8.8") == [
        ("r3", "same"),
        ("r1", "drop_before_accept"),
        ("r0", "priority"),
        ("default", "default_is_last"),
    ]


def test_inner_accept_and_rules_outrank_each_other_by_option() -> None:
    state = pair("egress all to 10.0.0.0/8 drop", inner=Verdict.ACCEPT, groups="sg-a")
    packet = "egress gre 10.0.0.2"
    assert ranks(state, packet) == [("r0", "inner_accept_first"), ("default", "default_is_last")]
    custom_first = Options(inner_accept_egress="custom_first")
    assert ranks(state, packet, custom_first) == [("inner_accept", "rules_first"), ("default", "default_is_last")]


# What is asked before any rule: packet, fields, options, cause, reason.
CAUSES: list[tuple[str, dict[str, object], Options, str, str]] = [
    ("ingress icmpv6 fe80::9", {"icmp_type": 135, "hop_limit": 255}, Options(), "discovery", "always"),
    ("egress udp/68 8.8.8.8", {"source_port": 67}, Options(), "dhcp-server", "never"),
    ("ingress icmpv6 fe80::9", {"icmp_type": 135, "hop_limit": 64}, Options(), "malformed-discovery", "never"),
    ("egress icmpv6 2001:db8:f::1", {"icmp_type": 135, "hop_limit": 255}, Options(), "far-discovery", "never"),
    ("egress udp/67 255.255.255.255", {"source_port": 68}, Options(), "dhcp", "always"),
    ("egress tcp/80 100.100.100.200", {}, METADATA, "metadata", "always"),
    ("egress tcp/80 8.8.8.8", {"local": Address.parse("10.9.9.9")}, Options(), "spoofed", "never"),
    ("ingress tcp/80 10.0.0.1", {}, Options(), "spoofed", "never"),
    ("ingress tcp/80 8.8.8.8", {"local": Address.parse("10.9.9.9")}, Options(), "foreign", "never"),
    ("egress tcp/80 8.8.8.8", {"is_syn": False}, Options(), "midstream", "never"),
    ("ingress tcp/80 8.8.8.8", {"is_syn": False}, Options(strict_syn=True), "midstream", "never"),
    ("egress tcp/80 8.8.8.8", {}, Options(), "default", "default"),
]


@pytest.mark.parametrize(("packet", "fields", "options", "cause", "reason"), CAUSES)
def test_cause_before_any_rule(
    packet: str, fields: dict[str, object], options: Options, cause: str, reason: str
) -> None:
    made = make_packet(packet, **fields)
    found = explain(pair("ingress all from 0.0.0.0/0"), made, options)
    assert (found.decision.cause, found.decision.reason) == (cause, reason)
    assert not (found.decision.is_fixed and found.near_misses), "no rule has a say"
    if found.decision.is_fixed:
        assert found.later[0].outranked_by == "fixed"


def test_other_end_is_the_eni_of_the_same_vpc_that_has_the_address() -> None:
    state = pair()
    packet = make_packet("egress tcp/80 10.0.0.2", source_port=1234)
    there = at_other_end(state, packet)
    assert there == replace(
        packet, eni_id="eni-b", direction=Direction.INGRESS, remote=packet.local, local=packet.remote
    )
    assert at_other_end(state, there) == packet, "and back"
    behind = at_other_end(state, make_packet("egress tcp/80 10.0.1.15"))
    assert behind is not None, "a delegated prefix is the ENI's own"
    assert behind.eni_id == "eni-b"
    for nobody in ("egress tcp/80 10.0.1.16", "egress tcp/80 10.0.0.1"):
        assert at_other_end(state, make_packet(nobody)) is None
    elsewhere = replace(
        state, network_interfaces=(state.network_interfaces[0], make_eni("eni-b", "10.0.0.2", "sg-b", vpc_id="vpc-x"))
    )
    assert at_other_end(elsewhere, packet) is None, "another VPC's"


@pytest.mark.parametrize(
    ("rules", "others", "passes"),
    [
        pytest.param((), ("ingress tcp 80/80 from 10.0.0.1",), True, id="both_accept"),
        pytest.param((), ("ingress tcp 81/81 from 10.0.0.1",), False, id="receiver_drops"),
        pytest.param(("egress tcp 80/80 to 10.0.0.2 drop",), ("ingress all from 0.0.0.0/0",), False, id="sender_drops"),
    ],
)
def test_a_flow_passes_if_both_ends_accept_it(rules: tuple[str, ...], others: tuple[str, ...], passes: bool) -> None:
    state = pair(*rules, others=others)
    sent = make_packet("egress tcp/80 10.0.0.2")
    flow = explain_flow(state, sent)
    assert flow.other is not None
    assert flow.passes is passes
    assert [end.decision for end in flow.ends] == [decide(state, end.packet) for end in flow.ends]
    back = explain_flow(state, flow.other.packet)
    assert (back.other, back.asked) == (flow.asked, flow.other), "asked at the other end, it is the same flow"


def test_a_flow_to_nobody_of_the_state_is_up_to_one_end() -> None:
    flow = explain_flow(pair(), make_packet("egress tcp/80 8.8.8.8"))
    assert (flow.other, flow.passes, len(flow.ends)) == (None, True, 1)


def test_what_a_near_miss_asks_for_reads_short() -> None:
    """A group or list is named with its size: an empty one matches nothing."""
    rules = [
        make_rule("ingress tcp 80/90 from 0.0.0.0/0", "r-port"),
        make_rule("ingress tcp from 0.0.0.0/0", "r-ports", port_list_id="prl-x"),
        make_rule("ingress tcp 22/22 from 0.0.0.0/0", "r-source", source_port_range="7/7"),
        make_rule("ingress tcp 22/22 from sg-b", "r-group"),
        make_rule("ingress tcp 22/22 from sg-nowhere", "r-nowhere"),
        make_rule("ingress tcp 22/22 from pl-x", "r-list"),
        make_rule("ingress gre from 0.0.0.0/0", "r-protocol"),
        make_rule("ingress all from 0.0.0.0/0", "r-local", narrowing="10.0.0.7"),
        make_rule("ingress tcp 22/22 from ::/0", "r-family"),
    ]
    state = make_state(
        [make_group("sg-a", rules), make_group("sg-b")],
        [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
        prefix_lists={"pl-x": "192.0.2.0/24"},
        port_lists={"prl-x": "80/80 90/90"},
    )
    misses = explain(state, make_packet("ingress tcp/22 8.8.8.8")).near_misses
    assert {miss.decision.security_group_rule_id: (miss.field, miss.asked, miss.found) for miss in misses} == {
        "r-port": ("port", "80-90", "22"),
        "r-ports": ("port", "prl-x (2 entries)", "22"),
        "r-source": ("source_port", "7", "40000"),
        "r-group": ("remote", "sg-b (1 ENI)", "8.8.8.8"),
        "r-nowhere": ("remote", "sg-nowhere (0 ENIs)", "8.8.8.8"),
        "r-list": ("remote", "pl-x (1 entry)", "8.8.8.8"),
        "r-protocol": ("protocol", "gre", "tcp"),
        "r-local": ("local", "10.0.0.7/32", "10.0.0.1"),
    }
