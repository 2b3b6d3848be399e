"""semantics.md, sections 2, 3 and 6, sentence by sentence, as rows: state, packet, decision."""

from __future__ import annotations

import pytest

from sgdataplane.model.decision import Decision
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide, later_candidates
from sgdataplane.model.state import CloudState, NetworkType, NicType
from sgdataplane.net.values import Address, Direction, Prefix, Verdict, link_local
from tests.support.inputs.builders import OWN, VPC_ID, mac_of, make_eni, make_group, make_packet, make_rule, make_state

INGRESS = Direction.INGRESS


def lone(*rules: object, **group: object) -> CloudState:
    """One ENI in one group with these rules. Inner accept is off unless it is asked for."""
    fields = {"inner": Verdict.DROP, **group}
    return make_state(
        [make_group("sg-a", rules, **fields)],  # type: ignore[arg-type]
        [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a")],
        prefix_lists={"pl-x": "192.0.2.0/24 198.51.100.7/32", "pl-empty": ""},
        port_lists={"prl-x": "80/80 8000/8100", "prl-empty": ""},
    )


AUDIT_RULES = (
    "ingress tcp 22/22 from 0.0.0.0/0",
    "ingress tcp 23/23 from 0.0.0.0/0 drop",
    "egress gre to 0.0.0.0/0 drop",
)
AUDITED = [
    ("ingress tcp/22 8.8.8.8", "rule", ""),
    ("ingress tcp/23 8.8.8.8", "audited", "rule"),
    ("ingress tcp/24 8.8.8.8", "audited", "default"),
    ("egress gre 8.8.8.8", "audited", "rule"),
    ("egress tcp/24 8.8.8.8", "default", ""),
]


@pytest.mark.parametrize(("packet", "cause", "would"), AUDITED)
def test_in_audit_mode_only_what_rules_refuse_passes(packet: str, cause: str, would: str) -> None:
    """The same state enforced is the control: there it is dropped, by what would have dropped it."""
    enforced = lone(*AUDIT_RULES)
    audited = enforced.with_mode({"eni-a"}, Mode.AUDIT)
    asked = make_packet(packet)
    found, other = decide(audited, asked), decide(enforced, asked)
    assert (found.verdict, found.cause, found.would.cause if found.would else "") == (Verdict.ACCEPT, cause, would)
    assert found.enforced == other
    assert found == other or other.verdict is Verdict.DROP
    assert later_candidates(audited, asked, found) == later_candidates(enforced, asked, other)


def test_audit_mode_lets_nothing_pass_that_no_rule_decides() -> None:
    audited = lone().with_mode({"eni-a"}, Mode.AUDIT)
    spoofed = make_packet("egress tcp/80 8.8.8.8", local="10.0.0.9")
    midstream = make_packet("egress tcp/80 8.8.8.8", is_syn=False)
    assert [decide(audited, packet).cause for packet in (spoofed, midstream)] == ["spoofed", "midstream"]
    assert decide(audited, spoofed).verdict is decide(audited, midstream).verdict is Verdict.DROP


def test_json_of_an_audited_packet_says_what_would_drop_it() -> None:
    found = decide(lone().with_mode({"eni-a"}, Mode.AUDIT), make_packet("ingress tcp/80 8.8.8.8")).as_json()
    assert found == {
        "verdict": "accept",
        "reason": "audited",
        **dict.fromkeys(("security_group_id", "security_group_rule_id", "priority")),
        "would": {
            "verdict": "drop",
            "reason": "default",
            **dict.fromkeys(("security_group_id", "security_group_rule_id", "priority")),
        },
    }


MATCHES = [
    ("tcp port inside", "ingress tcp 80/90 from 0.0.0.0/0", "ingress tcp/85 8.8.8.8", True),
    ("tcp first port", "ingress tcp 80/90 from 0.0.0.0/0", "ingress tcp/80 8.8.8.8", True),
    ("tcp last port", "ingress tcp 80/90 from 0.0.0.0/0", "ingress tcp/90 8.8.8.8", True),
    ("tcp port below", "ingress tcp 80/90 from 0.0.0.0/0", "ingress tcp/79 8.8.8.8", False),
    ("tcp port above", "ingress tcp 80/90 from 0.0.0.0/0", "ingress tcp/91 8.8.8.8", False),
    ("port 0 of a full range", "ingress tcp 1/65535 from 0.0.0.0/0", "ingress tcp/0 8.8.8.8", False),
    ("port 0 of all", "ingress all from 0.0.0.0/0", "ingress tcp/0 8.8.8.8", True),
    ("udp isn't tcp", "ingress tcp 1/65535 from 0.0.0.0/0", "ingress udp/80 8.8.8.8", False),
    ("number is the name", "ingress 6 1/65535 from 0.0.0.0/0", "ingress tcp/80 8.8.8.8", True),
    ("other direction", "egress tcp 1/65535 to 0.0.0.0/0", "ingress tcp/80 8.8.8.8", False),
    ("icmp", "ingress icmp from 0.0.0.0/0", "ingress icmp 8.8.8.8", True),
    ("icmp is IPv4 only", "ingress icmp from ::/0", "ingress 1 2001:db8:f::8", False),
    ("icmpv6 is IPv6 only", "ingress icmpv6 from 0.0.0.0/0", "ingress 58 8.8.8.8", False),
    ("icmpv6", "ingress icmpv6 from ::/0", "ingress icmpv6 2001:db8:f::8", True),
    ("gre", "ingress gre from 0.0.0.0/0", "ingress gre 8.8.8.8", True),
    ("a number", "ingress 132 from 0.0.0.0/0", "ingress 132 8.8.8.8", True),
    ("another number", "ingress 132 from 0.0.0.0/0", "ingress 133 8.8.8.8", False),
    ("all has every protocol", "ingress all from 0.0.0.0/0", "ingress 200 8.8.8.8", True),
    ("all of IPv4 says nothing of IPv6", "ingress all from 0.0.0.0/0", "ingress tcp/80 2001:db8:f::8", False),
    ("all of IPv6 says nothing of IPv4", "ingress all from ::/0", "ingress tcp/80 8.8.8.8", False),
    ("first address of a block", "ingress all from 192.0.2.0/25", "ingress gre 192.0.2.0", True),
    ("last address of a block", "ingress all from 192.0.2.0/25", "ingress gre 192.0.2.127", True),
    ("next after a block", "ingress all from 192.0.2.0/25", "ingress gre 192.0.2.128", False),
    ("entry of a prefix list", "ingress all from pl-x", "ingress gre 198.51.100.7", True),
    ("not in a prefix list", "ingress all from pl-x", "ingress gre 198.51.100.8", False),
    ("empty prefix list", "ingress all from pl-empty", "ingress gre 198.51.100.7", False),
    ("unknown group", "ingress all from sg-nowhere", "ingress gre 10.0.0.9", False),
]


@pytest.mark.parametrize(("rule", "packet", "holds"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES])
def test_rule_matches(rule: str, packet: str, holds: bool) -> None:
    decision = decide(lone(make_rule(rule, "r")), make_packet(packet))
    expected = Decision(INGRESS, Verdict.ACCEPT, "rule", "sg-a", "r", 1)
    assert decision == (expected if holds else Decision(INGRESS, Verdict.DROP, "default"))


FIVE_TUPLES: list[tuple[str, dict[str, str], str, dict[str, object], bool]] = [
    ("source port inside", {"source_port_range": "1000/2000"}, "ingress tcp/80 8.8.8.8", {"source_port": 1000}, True),
    ("source port outside", {"source_port_range": "1000/2000"}, "ingress tcp/80 8.8.8.8", {"source_port": 999}, False),
    ("source port 0", {"source_port_range": "1/65535"}, "ingress tcp/80 8.8.8.8", {"source_port": 0}, False),
    ("narrowed to own", {"narrowing": "10.0.0.1"}, "ingress tcp/80 8.8.8.8", {}, True),
    ("narrowed to another", {"narrowing": "10.0.0.2"}, "ingress tcp/80 8.8.8.8", {}, False),
    ("port list entry", {"port_list_id": "prl-x"}, "ingress tcp/8100 8.8.8.8", {}, True),
    ("between port list entries", {"port_list_id": "prl-x"}, "ingress tcp/81 8.8.8.8", {}, False),
    ("empty port list", {"port_list_id": "prl-empty"}, "ingress tcp/80 8.8.8.8", {}, False),
]


@pytest.mark.parametrize(
    ("extra", "packet", "fields", "holds"), [row[1:] for row in FIVE_TUPLES], ids=[row[0] for row in FIVE_TUPLES]
)
def test_five_tuple_rule(extra: dict[str, str], packet: str, fields: dict[str, object], holds: bool) -> None:
    text = "ingress tcp from 0.0.0.0/0" if "port_list_id" in extra else "ingress tcp 1/65535 from 0.0.0.0/0"
    rule = make_rule(text, "r", **extra)  # type: ignore[arg-type]
    decision = decide(lone(rule), make_packet(packet, **fields))
    assert decision.verdict is (Verdict.ACCEPT if holds else Verdict.DROP)


@pytest.mark.parametrize(
    ("rules", "winner"),
    [
        pytest.param(("all 1", "all drop 2"), "accept", id="smaller_number_is_stronger"),
        pytest.param(("all 2", "all drop 1"), "drop", id="stronger_drop"),
        pytest.param(("all 7", "all drop 7"), "drop", id="a_tie_is_decided_by_drop"),
        pytest.param(("all drop 100", "all 99"), "accept", id="weakest_priority"),
    ],
)
def test_priority_then_drop_decides(rules: tuple[str, str], winner: str) -> None:
    made = [
        make_rule(f"ingress all from 8.8.8.0/24 {' '.join(text.split()[1:])}", f"r{i}") for i, text in enumerate(rules)
    ]
    for order in (made, made[::-1]):
        assert decide(lone(*order), make_packet("ingress gre 8.8.8.8")).verdict.value == winner


def pair(*, inner: Verdict = Verdict.ACCEPT, rules: tuple[str, ...] = (), advanced: bool = False) -> CloudState:
    """eni-a and eni-b share sg-a; eni-c is in sg-c alone."""
    return make_state(
        [make_group("sg-a", rules, inner=inner, advanced=advanced), make_group("sg-c", advanced=advanced)],
        [
            make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"),
            make_eni("eni-b", "10.0.0.2 10.0.0.22 2001:db8::2 10.0.1.0/28", "sg-a"),
            make_eni("eni-c", "10.0.0.3", "sg-c"),
        ],
    )


def told(decision: Decision) -> str:
    return f"{decision.verdict.value} {decision.cause}"


INNER, DROPPED, OPEN = "accept inner_accept", "drop default", "accept default"


@pytest.mark.parametrize(
    ("packet", "decision"),
    [
        pytest.param("ingress tcp/3306 10.0.0.2", INNER, id="primary_address"),
        pytest.param("ingress tcp/3306 10.0.0.22", INNER, id="secondary_address"),
        pytest.param("ingress tcp/3306 2001:db8::2", INNER, id="ipv6_address"),
        pytest.param("ingress tcp/3306 10.0.1.15", INNER, id="delegated_prefix"),
        pytest.param("ingress tcp/3306 10.0.1.16", DROPPED, id="next_to_delegated_prefix"),
        pytest.param("ingress tcp/3306 10.0.0.3", DROPPED, id="member_of_another_group"),
        pytest.param("egress tcp/3306 10.0.0.2", INNER, id="egress"),
        pytest.param("egress tcp/3306 10.0.0.3", OPEN, id="egress_to_others_is_open"),
    ],
)
def test_members_of_an_accept_group_reach_each_other(packet: str, decision: str) -> None:
    found = decide(pair(), make_packet(packet))
    assert told(found) == decision
    assert found.security_group_id == ("sg-a" if decision == INNER else "")


def test_inner_accept_outranks_a_custom_drop() -> None:
    state = pair(rules=("ingress all from 0.0.0.0/0 drop 1",))
    assert told(decide(state, make_packet("ingress gre 10.0.0.2"))) == INNER


def test_inner_drop_takes_away_only_the_implicit_accept() -> None:
    state = pair(inner=Verdict.DROP, rules=("ingress tcp 22/22 from 10.0.0.2",))
    assert decide(state, make_packet("ingress tcp/22 10.0.0.2")).reason == "rule"
    assert told(decide(state, make_packet("ingress tcp/23 10.0.0.2"))) == DROPPED


@pytest.mark.parametrize(("choice", "verdict"), [("first", Verdict.ACCEPT), ("custom_first", Verdict.DROP)])
def test_egress_half_of_inner_accept_is_an_option(choice: str, verdict: Verdict) -> None:
    state = pair(rules=("egress all to 10.0.0.0/8 drop 1",))
    options = Options(inner_accept_egress=choice)  # type: ignore[arg-type]
    assert decide(state, make_packet("egress gre 10.0.0.2"), options).verdict is verdict
    assert decide(state, make_packet("egress gre 10.0.0.3"), options).verdict is Verdict.DROP


@pytest.mark.parametrize("packet", ["ingress tcp/22 10.0.0.2", "egress tcp/22 10.0.0.2", "egress udp/53 8.8.8.8"])
def test_advanced_group_without_rules_blocks_everything(packet: str) -> None:
    assert told(decide(pair(advanced=True), make_packet(packet))) == DROPPED


def test_group_remote_follows_membership() -> None:
    def made(groups_of_b: str) -> CloudState:
        return make_state(
            [
                make_group("sg-a", [make_rule("ingress tcp 22/22 from sg-b", "r")]),
                make_group("sg-b"),
                make_group("sg-c"),
            ],
            [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", groups_of_b)],
        )

    packet = make_packet("ingress tcp/22 10.0.0.2")
    assert decide(made("sg-b"), packet) == Decision(INGRESS, Verdict.ACCEPT, "rule", "sg-a", "r", 1)
    assert told(decide(made("sg-c"), packet)) == DROPPED


def test_rules_of_all_groups_are_pooled() -> None:
    groups = [
        make_group("sg-a", [make_rule("ingress tcp 1/65535 from 0.0.0.0/0 50", "weak")]),
        make_group("sg-z", [make_rule("ingress tcp 22/22 from 0.0.0.0/0 drop 50", "strong")]),
    ]
    for order in ("sg-a sg-z", "sg-z sg-a"):
        state = make_state(groups, [make_eni("eni-a", "10.0.0.1", order)])
        assert decide(state, make_packet("ingress tcp/22 8.8.8.8")).security_group_rule_id == "strong"
        assert decide(state, make_packet("ingress tcp/23 8.8.8.8")).security_group_rule_id == "weak"


def test_classic_rules_are_judged_on_the_interface_of_their_nic_type() -> None:
    rules = [make_rule("ingress tcp 22/22 from 0.0.0.0/0", "r", nic_type=NicType.INTERNET)]
    enis = [
        make_eni("eni-a", "10.0.0.1", "sg-a"),
        make_eni("eni-pub", "198.51.100.1", "sg-a", nic_type=NicType.INTERNET, instance_id="i-a"),
    ]
    state = make_state([make_group("sg-a", rules)], enis, network_type=NetworkType.CLASSIC)
    assert told(decide(state, make_packet("ingress tcp/22 8.8.8.8"))) == DROPPED
    public = make_packet("ingress tcp/22 8.8.8.8", eni_id="eni-pub", local="198.51.100.1")
    assert decide(state, public).security_group_rule_id == "r"
    inner = make_packet("ingress udp/53 10.0.0.1", eni_id="eni-pub", local="198.51.100.1")
    assert told(decide(state, inner)) == DROPPED, "the implicit accept is of the internal network"


DISCOVERY, DHCP, METADATA = "accept discovery", "accept dhcp", "accept metadata"
FAR, MALFORMED, SPOOFED = "drop far-discovery", "drop malformed-discovery", "drop spoofed"
FOREIGN, MIDSTREAM = "drop foreign", "drop midstream"
LINK = str(link_local(mac_of("eni-a")))


def nd(icmp_type: int, hop_limit: int, local: str = OWN[6]) -> dict[str, object]:
    """The fields of a neighbour discovery message."""
    return {"icmp_type": icmp_type, "hop_limit": hop_limit, "local": local}


@pytest.mark.parametrize(
    ("packet", "fields", "decision"),
    [
        pytest.param("egress icmpv6 ff02::1:ff00:2", nd(135, 255, LINK), DISCOVERY, id="solicitation"),
        pytest.param(
            "egress icmpv6 ff02::1:ff00:2", nd(135, 255, "fe80::1"), SPOOFED, id="solicitation_as_the_gateway"
        ),
        pytest.param("egress icmpv6 ff02::2", nd(133, 255, "fe80::5"), SPOOFED, id="router_solicitation_as_another"),
        pytest.param("egress icmpv6 ff02::1:ff00:2", nd(135, 255, "::"), DISCOVERY, id="duplicate_address_detection"),
        pytest.param("egress icmpv6 ff02::1:ff00:2", nd(135, 255), DISCOVERY, id="solicitation_from_own_address"),
        pytest.param("egress icmpv6 ff02::1:ff00:2", nd(135, 255, "2001:db8::9"), SPOOFED, id="solicitation_spoofed"),
        pytest.param("egress icmpv6 2001:db8:f::1", nd(136, 64), FAR, id="advertisement_that_leaves_the_link"),
        pytest.param("egress icmpv6 2001:db8:f::1", nd(136, 255), FAR, id="advertisement_beyond_the_link"),
        pytest.param("egress icmpv6 2001:db8:f::1", nd(135, 255), FAR, id="solicitation_beyond_the_link"),
        pytest.param("egress icmpv6 2001:db8:0:1::", nd(135, 255), FAR, id="solicitation_beside_the_subnet"),
        pytest.param("egress icmpv6 2001:db8::ffff:0:0:1", nd(135, 255), DISCOVERY, id="solicitation_of_a_neighbour"),
        pytest.param("egress icmpv6 2001:db8::9", nd(136, 255), DISCOVERY, id="advertisement_to_a_neighbour"),
        pytest.param("egress icmpv6 fe80::1", nd(136, 255), DISCOVERY, id="advertisement_to_the_gateway"),
        pytest.param("ingress icmpv6 fe80::1", nd(134, 255), DISCOVERY, id="router_from_link_scope"),
        pytest.param("ingress icmpv6 2001:db8:f::f", nd(134, 255), MALFORMED, id="router_from_afar"),
        pytest.param("ingress icmpv6 2001:db8:f::f", nd(137, 255), MALFORMED, id="redirect_from_afar"),
        pytest.param("ingress icmpv6 fe80::1", nd(135, 254), MALFORMED, id="solicitation_that_was_routed"),
        pytest.param("egress icmpv6 ff02::16", nd(143, 1, LINK), DISCOVERY, id="mld"),
        pytest.param("egress icmpv6 2001:db8:f::1", nd(143, 64, LINK), FAR, id="mld_as_a_tunnel"),
        pytest.param("egress icmpv6 ff02::16", nd(143, 1), MALFORMED, id="mld_from_no_link_scope"),
        pytest.param("egress icmpv6 ff02::1", nd(134, 255, LINK), SPOOFED, id="rogue_router"),
        pytest.param("egress icmpv6 fe80::9", nd(137, 255, LINK), SPOOFED, id="rogue_redirect"),
        pytest.param(
            "egress udp/67 255.255.255.255", {"source_port": 68, "local": "0.0.0.0"}, DHCP, id="dhcp_discover"
        ),
        pytest.param("egress udp/67 169.254.1.1", {"source_port": 68}, DHCP, id="dhcp_renewal"),
        pytest.param("egress udp/67 169.254.1.1", {"source_port": 68, "local": "10.0.0.9"}, SPOOFED, id="dhcp_spoofed"),
        pytest.param("egress udp/67 8.8.8.8", {"source_port": 68}, OPEN, id="dhcp_to_another_is_judged"),
        pytest.param("ingress udp/68 169.254.1.1", {"source_port": 67}, DHCP, id="dhcp_offer_of_the_gateway"),
        pytest.param("ingress udp/68 10.0.0.9", {"source_port": 67}, DROPPED, id="dhcp_offer_of_another"),
        pytest.param("egress udp/547 ff02::1:2", {"source_port": 546, "local": LINK}, DHCP, id="dhcpv6"),
        pytest.param(
            "egress udp/547 ff02::1:2", {"source_port": 546, "local": "fe80::1"}, SPOOFED, id="dhcpv6_as_the_gateway"
        ),
        pytest.param("egress tcp/80 8.8.8.8", {"local": "10.0.0.99"}, SPOOFED, id="spoofed_source"),
        pytest.param("ingress tcp/80 10.0.0.1", {}, SPOOFED, id="own_address_from_outside"),
        pytest.param("ingress tcp/80 8.8.8.8", {"local": "10.0.0.99"}, FOREIGN, id="addressed_to_somebody_else"),
        pytest.param("ingress udp/80 8.8.8.8", {"local": "224.0.0.251"}, DROPPED, id="multicast_is_judged"),
        pytest.param("egress tcp/80 8.8.8.8", {"is_syn": False}, MIDSTREAM, id="midstream_egress"),
        pytest.param("egress tcp/80 8.8.8.8", {}, OPEN, id="bare_syn_egress"),
        pytest.param("ingress tcp/80 8.8.8.8", {"is_syn": False}, DROPPED, id="midstream_ingress_is_judged"),
    ],
)
def test_what_always_and_never_passes(packet: str, fields: dict[str, object], decision: str) -> None:
    assert told(decide(lone(), make_packet(packet, **fields))) == decision


def test_in_host_placement_nobody_is_on_the_link_but_the_router() -> None:
    """That is so unless a gateway has another address."""
    to_a_neighbour, to_the_gateway = (
        make_packet(f"egress icmpv6 {remote}", **nd(135, 255)) for remote in ("2001:db8::9", "fe80::1")
    )
    assert told(decide(lone(), to_the_gateway, placement=Placement.HOST)) == DISCOVERY
    assert told(decide(lone(), to_a_neighbour)) == DISCOVERY
    assert told(decide(lone(), to_a_neighbour, placement=Placement.HOST)) == FAR
    its_gateway = Options(gateways=(Address.parse("2001:db8::9"),))
    assert told(decide(lone(), to_a_neighbour, its_gateway, Placement.HOST)) == DISCOVERY


def test_an_allowed_block_that_is_larger_than_a_subnet_is_its_own() -> None:
    pair = Prefix.parse("2001:db8:f::/48")
    state = make_state([make_group("sg-a")], [make_eni("eni-a", OWN[6], "sg-a", allowed_address_pairs=(pair,))])
    for remote, decision in (("2001:db8:f:7::1", DISCOVERY), ("2001:db8:10::1", FAR)):
        assert told(decide(state, make_packet(f"egress icmpv6 {remote}", **nd(135, 255)))) == decision


def test_allowed_pairs_and_delegated_prefixes_are_own_addresses() -> None:
    eni = make_eni("eni-a", "10.0.0.1 10.0.1.0/28", "sg-a", allowed_address_pairs=(Prefix.parse("10.0.2.5"),))
    state = make_state([make_group("sg-a")], [eni])
    for local, decision in (("10.0.1.3", OPEN), ("10.0.2.5", OPEN), ("10.0.2.6", SPOOFED)):
        assert told(decide(state, make_packet("egress tcp/80 8.8.8.8", local=local))) == decision
    for remote, decision in (("10.0.1.3", SPOOFED), ("10.0.2.5", DROPPED)):
        assert told(decide(state, make_packet(f"ingress tcp/80 {remote}"))) == decision, (
            "a pair may be shared with others"
        )


def test_metadata_is_reachable_when_asked_for() -> None:
    state, packet = pair(advanced=True), make_packet("egress tcp/80 100.100.100.200")
    assert told(decide(state, packet)) == DROPPED
    assert told(decide(state, packet, Options(metadata=(Prefix.parse("100.100.100.200"),)))) == METADATA


def test_strict_syn_refuses_midstream_ingress() -> None:
    state = lone("ingress tcp 80/80 from 0.0.0.0/0")
    packet = make_packet("ingress tcp/80 8.8.8.8", is_syn=False)
    assert decide(state, packet).verdict is Verdict.ACCEPT
    assert told(decide(state, packet, Options(strict_syn=True))) == MIDSTREAM


def test_later_candidates_are_what_would_have_decided() -> None:
    state = pair(rules=("ingress all from 10.0.0.0/8 drop 5", "ingress tcp 22/22 from 0.0.0.0/0 9"))
    packet = make_packet("ingress tcp/22 10.0.0.2")
    decision = decide(state, packet)
    reasons = [(d.cause, d.priority) for d in (decision, *later_candidates(state, packet, decision))]
    assert reasons == [("inner_accept", 0), ("rule", 5), ("rule", 9), ("default", 0)]


@pytest.mark.parametrize(("vpc_id", "passes"), [(VPC_ID, True), ("vpc-other", False)])
def test_a_group_as_remote_has_only_members_in_the_same_vpc(vpc_id: str, passes: bool) -> None:
    """Two VPCs may use the same addresses."""
    groups = [make_group("sg-a", ["ingress tcp 80/80 from sg-b"]), make_group("sg-b", vpc_id=vpc_id)]
    state = make_state(groups, [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")])
    decision = decide(state, make_packet("ingress tcp/80 10.0.0.2"))
    assert decision.verdict is (Verdict.ACCEPT if passes else Verdict.DROP)
