"""suggest(): how ends, ports, groups and priorities are written, and what stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Address, Direction, Verdict
from sgdataplane.suggest.evidence import Passage, SeenFlow
from sgdataplane.suggest.result import Preferences, Suggestion
from sgdataplane.suggest.solve import suggest
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.seen import seen

DROP = Verdict.DROP
OPEN = "ingress all from 0.0.0.0/0"


def told(rule: SecurityGroupRule) -> str:
    """As make_rule() reads it, and its narrowing."""
    match rule.remote:
        case GroupRef(name) | PrefixListRef(name):
            end = name
        case prefix:
            end = str(prefix)
    way = "from" if rule.direction is Direction.INGRESS else "to"
    ports = "" if rule.port_range is None else f" {rule.port_range}"
    at = "" if rule.narrowing is None else f" at {rule.narrowing}"
    return f"{rule.direction.value} {rule.ip_protocol}{ports} {way} {end} {rule.policy.value} {rule.priority}{at}"


def rules(found: Suggestion, group_id: str = "sg-a", direction: str = "ingress") -> list[str]:
    group = found.after.group[group_id]
    return sorted(told(rule) for rule in group.rules if rule.direction.value == direction)


def state_of(
    *rules_: str | SecurityGroupRule,
    groups: Sequence[SecurityGroup] = (),
    prefix_lists: dict[str, str] | None = None,
) -> CloudState:
    """sg-a with these rules at eni-a, beside sg-web (web1, web2), sg-all (all but eni-a) and others."""
    others = [make_group("sg-web", inner=DROP), make_group("sg-all", inner=DROP)]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"),
        make_eni("eni-web1", "10.0.0.11 2001:db8::11", "sg-web sg-all"),
        make_eni("eni-web2", "10.0.0.12", "sg-web sg-all"),
        make_eni("eni-x", "10.0.0.20", "sg-all"),
    ]
    return make_state([make_group("sg-a", rules_, inner=DROP), *others, *groups], enis, prefix_lists=prefix_lists)


def suggested(state: CloudState, *flows: str | SeenFlow, **preferences: object) -> Suggestion:
    found = [seen(flow) if isinstance(flow, str) else flow for flow in flows]
    return suggest(state, found, replace(Preferences(), **preferences), DEFAULTS)  # type: ignore[arg-type]


NARROW = "at 0.0.0.0/0"


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        pytest.param(
            ["eni-a ingress tcp/80 from 10.0.0.11"], [f"ingress tcp 80/80 from sg-web accept 1 {NARROW}"],
            id="none but members of a group: the smallest one that has them",
        ),
        pytest.param(
            ["eni-a ingress tcp/80 from 10.0.0.11", "eni-a ingress tcp/80 from 10.0.0.20"],
            [f"ingress tcp 80/80 from sg-all accept 1 {NARROW}"],
            id="members of a larger group",
        ),
        pytest.param(
            ["eni-a ingress tcp/80 from 10.0.0.11", "eni-a ingress tcp/80 from 192.0.2.9"],
            [f"ingress tcp 80/80 from sg-web accept 1 {NARROW}", "ingress tcp 80/80 from 192.0.2.9/32 accept 1"],
            id="a member and a stranger",
        ),
        pytest.param(
            ["eni-a ingress tcp/80 from 192.0.2.8", "eni-a ingress tcp/80 from 192.0.2.9"],
            ["ingress tcp 80/80 from 192.0.2.8/31 accept 1"],
            id="two addresses that are a block",
        ),
        pytest.param(
            ["eni-a ingress tcp/80 from 192.0.2.8", "eni-a ingress tcp/81 from 192.0.2.8"],
            ["ingress tcp 80/81 from 192.0.2.8/32 accept 1"],
            id="two ports that are a range",
        ),
        pytest.param(
            ["eni-a ingress tcp/80 from 192.0.2.8", "eni-a ingress udp/80 from 192.0.2.8"],
            ["ingress tcp 80/80 from 192.0.2.8/32 accept 1", "ingress udp 80/80 from 192.0.2.8/32 accept 1"],
            id="two protocols",
        ),
        pytest.param(
            ["eni-a ingress icmp from 192.0.2.8"], ["ingress icmp from 192.0.2.8/32 accept 1"], id="no ports"
        ),
    ],
)  # fmt: skip
def test_ends_and_ports_are_written_as_people_do(flows: list[str], expected: list[str]) -> None:
    assert rules(suggested(state_of(OPEN), *flows)) == sorted(expected)


def test_all_members_and_others_are_a_group_and_addresses() -> None:
    state = state_of(OPEN)
    state = replace(state, network_interfaces=(*state.network_interfaces, make_eni("eni-y", "10.0.0.30", "sg-a")))
    flows = [f"eni-a ingress tcp/80 from 10.0.0.{end}" for end in (11, 12, 30)]
    assert rules(suggested(state, *flows)) == [
        "ingress tcp 80/80 from 10.0.0.30/32 accept 1",
        f"ingress tcp 80/80 from sg-web accept 1 {NARROW}",
    ]


def test_a_group_needs_no_narrowing_if_both_families_are_open() -> None:
    found = suggested(state_of(OPEN, "ingress all from ::/0"), "eni-a ingress tcp/80 from 10.0.0.11")
    assert rules(found) == ["ingress tcp 80/80 from sg-web accept 1"]


def test_a_part_of_the_addresses_never_becomes_a_group() -> None:
    """Its members may get other addresses, which the state refuses."""
    found = suggested(state_of("ingress tcp 1/100 from 10.0.0.0/24"), "eni-a ingress tcp/80 from 10.0.0.11")
    assert rules(found) == ["ingress tcp 80/80 from 10.0.0.11/32 accept 1"]


def test_a_prefix_list_stands_for_its_addresses() -> None:
    lists = {"pl-office": "192.0.2.0/25", "pl-wide": "192.0.2.0/24"}
    state = state_of(OPEN, prefix_lists=lists)
    small = tuple(replace(one, max_entries=5) for one in state.prefix_lists)
    state = replace(state, prefix_lists=small)
    found = suggested(state, "eni-a ingress tcp/22 from 192.0.2.9", "eni-a ingress tcp/22 from 192.0.2.200")
    assert rules(found) == ["ingress tcp 22/22 from pl-office accept 1", "ingress tcp 22/22 from pl-wide accept 1"]
    assert {one.members for one in found.rules} == {(1, 128), (1, 256)}


def test_a_list_that_the_quota_has_no_room_for_becomes_addresses() -> None:
    """A list counts as often as it may have entries."""
    lists = {f"pl-{n}": f"192.0.{n}.0/24" for n in range(3)}  # of at most 100 entries each
    state = state_of(OPEN, prefix_lists=lists)
    found = suggested(state, *(f"eni-a ingress tcp/22 from 192.0.{n}.9" for n in range(3)))
    assert rules(found) == [f"ingress tcp 22/22 from 192.0.{n}.9/32 accept 1" for n in range(3)]
    assert "neither groups nor lists are named, as the quotas" in found.notes[0]


def test_many_strangers_keep_the_remote_and_few_dont() -> None:
    flows = [f"eni-a ingress tcp/443 from 198.51.100.{2 * end}" for end in range(17)]
    assert rules(suggested(state_of(OPEN), *flows)) == ["ingress tcp 443/443 from 0.0.0.0/0 accept 1"]
    assert len(rules(suggested(state_of(OPEN), *flows[:16]))) == 16
    assert len(rules(suggested(state_of(OPEN), *flows, ends="address"))) == 17


def test_blocks_are_no_larger_than_what_the_rule_accepts() -> None:
    state = state_of("ingress tcp 1/100 from 192.0.2.128/25", "ingress tcp 1/100 from 198.51.100.0/23 accept 2")
    flows = ["eni-a ingress tcp/80 from 192.0.2.129", "eni-a ingress tcp/80 from 198.51.100.7"]
    assert rules(suggested(state, *flows, ends="prefix")) == [
        "ingress tcp 80/80 from 192.0.2.128/25 accept 1",
        "ingress tcp 80/80 from 198.51.100.0/24 accept 2",
    ]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param((80, 90), ["80/80", "90/90"], id="below 1024"),
        pytest.param((40000, 40100, 41000), ["40000/41000"], id="near"),
        pytest.param((40000, 41024), ["40000/40000", "41024/41024"], id="not near"),
    ],
)
def test_near_ports_become_a_range_on_request(ports: tuple[int, ...], expected: list[str]) -> None:
    flows = [f"eni-a ingress tcp/{port} from 192.0.2.8" for port in ports]
    found = suggested(state_of(OPEN), *flows, ports="range")
    assert rules(found) == [f"ingress tcp {each} from 192.0.2.8/32 accept 1" for each in expected]
    assert len(rules(suggested(state_of(OPEN), *flows))) == len(ports)


def test_a_range_ends_where_its_rule_does() -> None:
    state = state_of("ingress tcp 2000/2010 from 0.0.0.0/0", "ingress tcp 2020/2030 from 0.0.0.0/0")
    found = suggested(
        state, "eni-a ingress tcp/2005 from 192.0.2.8", "eni-a ingress tcp/2025 from 192.0.2.8", ports="range"
    )
    assert len(rules(found)) == 2


def test_a_drop_rule_between_keeps_both_sides_apart() -> None:
    """Merged, 80 would get the weaker priority, and the drop would win."""
    state = state_of(
        "ingress tcp 80/80 from 0.0.0.0/0 accept 5", "ingress tcp 80/81 from 0.0.0.0/0 drop 7",
        "ingress tcp 82/82 from 0.0.0.0/0 accept 9",
    )  # fmt: skip
    flows = [f"eni-a ingress tcp/{port} from 192.0.2.8" for port in (80, 81, 82)]
    found = suggested(state, *flows)
    assert rules(found) == [
        "ingress tcp 80/80 from 192.0.2.8/32 accept 5",
        "ingress tcp 80/81 from 0.0.0.0/0 drop 7",
        "ingress tcp 82/82 from 192.0.2.8/32 accept 9",
    ]
    assert [one.packet.port for one in found.refused] == [81]


def test_a_rule_that_is_just_right_stays_with_its_id() -> None:
    kept = make_rule("ingress tcp 80/80 from sg-web", "sgr-kept")
    found = suggested(state_of(kept, "ingress tcp 90/90 from sg-web"), "eni-a ingress tcp/80 from 10.0.0.12")
    assert kept in found.after.group["sg-a"].rules
    assert len(rules(found)) == 1
    assert [one.rule.security_group_rule_id for one in found.unused] == ["ingress_tcp_90/90_from_sg-web"]
    assert [(one.is_kept, one.replaces) for one in found.rules] == [(True, ("sgr-kept",))]


def test_egress_is_closed_behind_what_was_seen_and_drops_still_win() -> None:
    state = state_of("egress tcp 25/25 to 0.0.0.0/0 drop 40")
    found = suggested(state, "eni-a egress udp/53 to 192.0.2.53")
    assert rules(found, direction="egress") == [
        "egress all to 0.0.0.0/0 drop 100",
        "egress all to ::/0 drop 100",
        "egress tcp 25/25 to 0.0.0.0/0 drop 40",
        "egress udp 53/53 to 192.0.2.53/32 accept 99",
    ]
    assert {one.replaces for one in found.rules} == {("default",)}


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_a_rule_overrides_no_drop_of_a_group_that_its_eni_joins_later(direction: str) -> None:
    """No ENI of sg-a is in sg-guard today. What lets the flow pass, the default or inner accept, loses to its drops
    or names members alone."""
    way = "to" if direction == "egress" else "from"
    guard = make_group("sg-guard", [f"{direction} tcp 25/25 {way} 192.0.2.0/24 drop 50"], inner=DROP)
    state = state_of(groups=[guard])
    found = suggested(state, replace(seen(f"eni-a {direction} tcp/25 {way} 192.0.2.25"), passage=Passage.PASSED),
                      allow_audited=True)  # fmt: skip
    packet = Packet("eni-a", Direction(direction), Address.parse("192.0.2.25"), Address.parse("10.0.0.1"), 6, 25, 40000)

    def verdict(state: CloudState, *groups: str) -> Verdict:
        enis = (replace(e, security_group_ids=groups) if e.network_interface_id == "eni-a" else e
                for e in state.network_interfaces)  # fmt: skip
        return decide(replace(state, network_interfaces=tuple(enis)), packet, DEFAULTS).verdict

    assert verdict(found.after, "sg-a") is Verdict.ACCEPT
    assert [verdict(each, "sg-a", "sg-guard") for each in (state, found.after)] == [DROP, DROP]


def test_egress_stays_open_where_a_rule_is_as_weak_as_closing() -> None:
    found = suggested(state_of("egress tcp 25/25 to 0.0.0.0/0 drop 100"), "eni-a egress udp/53 to 192.0.2.53")
    assert rules(found, direction="egress") == ["egress tcp 25/25 to 0.0.0.0/0 drop 100"]
    assert found.notes == (
        "the egress of sg-a isn't closed: egress_tcp_25/25_to_0.0.0.0/0_drop_100 of sg-a has priority 100 already",
    )


def several() -> CloudState:
    """eni-1 is in a small and in a large group."""
    groups = [make_group("sg-small", inner=DROP), make_group("sg-large", [OPEN], inner=DROP)]
    enis = [make_eni("eni-1", "10.0.0.1", "sg-large sg-small"), make_eni("eni-2", "10.0.0.2", "sg-large")]
    return make_state(groups, enis)


def test_a_rule_for_the_default_opens_for_the_fewest_enis() -> None:
    found = suggested(several(), "eni-1 egress tcp/443 to 192.0.2.9", "eni-1 ingress tcp/22 from 192.0.2.9")
    assert rules(found, "sg-small", "egress")[-1] == "egress tcp 443/443 to 192.0.2.9/32 accept 99"
    assert rules(found, "sg-large") == ["ingress tcp 22/22 from 192.0.2.9/32 accept 1"], (
        "a rule is replaced where it is"
    )
    assert found.silent == ("eni-2",)


def test_an_eni_that_nothing_was_seen_of_is_not_closed_by_a_group_it_shares() -> None:
    groups = [make_group("sg-own"), make_group("sg-one"), make_group("sg-shared", [OPEN], inner=DROP)]
    enis = [make_eni("eni-1", "10.0.0.1", "sg-one sg-shared"), make_eni("eni-2", "10.0.0.2", "sg-own sg-shared")]
    found = suggested(make_state(groups, enis), "eni-1 ingress tcp/22 from 192.0.2.9")
    assert {group_id for group_id, _ in found.closing} == {"sg-one"}
    assert found.after.group["sg-own"] == groups[0]


def test_only_the_groups_that_are_asked_for_change() -> None:
    flows = ["eni-1 egress tcp/443 to 192.0.2.9", "eni-1 ingress tcp/22 from 192.0.2.9"]
    found = suggested(several(), *flows, groups=frozenset(["sg-small"]))
    assert found.after.group["sg-large"] == several().group["sg-large"]
    assert found.after.group["sg-small"] != several().group["sg-small"]


def test_groups_that_nothing_was_seen_of_and_managed_ones_stay() -> None:
    managed = replace(make_group("sg-m", [OPEN], inner=DROP), service_managed=True)
    state = make_state(
        [managed, make_group("sg-n", [OPEN])],
        [make_eni("eni-m", "10.0.0.1", "sg-m"), make_eni("eni-n", "10.0.0.2", "sg-n")],
    )
    found = suggested(state, "eni-m ingress tcp/22 from 192.0.2.9")
    assert found.after == state
    assert found.untouched == ("sg-n",)
    assert found.notes == ("sg-m can't be changed: a service of the cloud manages them",)


def members(*rules_: str) -> CloudState:
    enis = [make_eni("eni-1", "10.0.0.1", "sg-a"), make_eni("eni-2", "10.0.0.2", "sg-a")]
    return make_state([make_group("sg-a", rules_)], enis)


def test_inner_accept_that_nobody_uses_goes() -> None:
    found = suggested(members(OPEN), "eni-1 ingress tcp/22 from 192.0.2.9")
    assert found.inner == ("sg-a",)
    assert found.after.group["sg-a"].inner_access_policy is DROP


def test_what_members_do_becomes_rules_on_addresses_as_a_group_cant_name_itself() -> None:
    found = suggested(members(), "eni-1 egress tcp/5432 to 10.0.0.2", "eni-2 ingress tcp/5432 from 10.0.0.1")
    assert rules(found) == ["ingress tcp 5432/5432 from 10.0.0.1/32 accept 100"]
    assert rules(found, direction="egress")[-1] == "egress tcp 5432/5432 to 10.0.0.2/32 accept 99"
    assert found.inner == ("sg-a",)


def test_inner_accept_stays_where_a_drop_rule_would_take_its_place() -> None:
    found = suggested(members("ingress all from 0.0.0.0/0 drop 50"), "eni-2 ingress tcp/5432 from 10.0.0.1")
    assert found.after.group["sg-a"].inner_access_policy is Verdict.ACCEPT
    assert "stays Accept: without it, a drop rule would refuse what its members were seen to do" in found.notes[0]


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        pytest.param((), "ingress tcp 22/22 from 192.0.2.9/32 accept 100", id="the default"),
        pytest.param(
            ("ingress tcp 22/22 from 0.0.0.0/0 drop 50",), "ingress tcp 22/22 from 192.0.2.9/32 accept 49", id="a drop"
        ),
        pytest.param(("ingress tcp 22/22 from 0.0.0.0/0 drop 1",), None, id="a drop that nothing outranks"),
    ],
)  # fmt: skip
def test_what_passed_though_it_is_refused_becomes_a_rule_on_request(
    drop: tuple[str, ...], expected: str | None
) -> None:
    state, flow = state_of(*drop), "eni-a ingress tcp/22 from 192.0.2.9"
    silent = suggested(state, flow)
    assert [one.is_allowed for one in silent.refused] == [False]
    assert not silent.difference.is_open
    found = suggested(state, flow, allow_audited=True)
    assert [one.is_allowed for one in found.refused] == [expected is not None]
    assert [told(one.rule) for one in found.rules if one.is_new] == ([expected] if expected else [])


def test_what_was_dropped_or_nobody_answered_is_never_allowed() -> None:
    flows = [seen("eni-a ingress tcp/22 from 192.0.2.9", passage=each) for each in (Passage.DROPPED, Passage.UNKNOWN)]
    found = suggested(state_of(), *flows, allow_audited=True)
    assert (found.refused, found.dropped) == ((), 2)


def test_a_flow_without_a_port_keeps_the_rule_that_let_it_pass() -> None:
    kept = make_rule("ingress tcp 1/100 from 0.0.0.0/0", "sgr-kept")
    vague = SeenFlow(
        "eni-a", Direction.INGRESS, seen("eni-a ingress tcp/1 from 192.0.2.0/24").remotes, TCP,
        decided_by=("sg-a", "sgr-kept"), passage=Passage.PASSED,
    )  # fmt: skip
    found = suggested(state_of(kept), vague)
    assert kept in found.after.group["sg-a"].rules
    assert "it stays as it is, as flows that it lets pass were recorded without a port" in found.notes[0]


def test_a_block_is_carried_where_the_state_accepts_it() -> None:
    state = state_of(OPEN, "ingress all from 192.0.2.64/26 drop 1")
    found = suggested(state, "eni-a ingress tcp/80 from 192.0.2.0/24")
    assert rules(found)[1:] == [
        "ingress tcp 80/80 from 192.0.2.0/26 accept 1",
        "ingress tcp 80/80 from 192.0.2.128/25 accept 1",
    ]


def test_an_end_that_may_have_been_several_addresses_needs_only_one_that_passes() -> None:
    both = seen("eni-a ingress tcp/80 from 10.0.0.11")
    both = replace(both, remotes=(*both.remotes, *seen("eni-a ingress tcp/80 from 2001:db8::11").remotes))
    found = suggested(state_of(OPEN), both)
    assert (found.refused, rules(found)) == ((), [f"ingress tcp 80/80 from sg-web accept 1 {NARROW}"])


def test_quotas_widen_what_needs_most_rules_and_say_so() -> None:
    """250 addresses don't fit into 200 rules: they become /24s, of which two are a /23; the other rule stays exact."""
    flows = [f"eni-a ingress tcp/80 from 198.51.{end // 120}.{2 * (end % 120)}" for end in range(250)]
    state = state_of("ingress tcp 80/80 from 0.0.0.0/0", "ingress udp 1/100 from 0.0.0.0/0 accept 2")
    found = suggested(state, *flows, "eni-a ingress udp/53 from 192.0.2.9", ends="address")
    assert rules(found) == [
        "ingress tcp 80/80 from 198.51.0.0/23 accept 1",
        "ingress tcp 80/80 from 198.51.2.0/24 accept 1",
        "ingress udp 53/53 from 192.0.2.9/32 accept 2",
    ]
    assert "addresses are blocks (/24, /64), as the quotas have no room for narrower rules" in found.notes[0]


def test_quotas_of_rules_on_groups_hold() -> None:
    groups = [make_group(f"sg-{n}", inner=DROP) for n in range(25)]
    enis = [make_eni(f"eni-{n}", f"10.1.0.{n + 1}", f"sg-{n}") for n in range(25)]
    state = make_state(
        [make_group("sg-a", [OPEN], inner=DROP), *groups], [make_eni("eni-a", "10.0.0.1", "sg-a"), *enis]
    )
    flows = [f"eni-a ingress tcp/{80 + 2 * n} from 10.1.0.{n + 1}" for n in range(25)]
    assert sum("sg-" in rule for rule in rules(suggested(state, *flows, profile="unlimited"))) == 25
    found = suggested(state, *flows)
    assert sum("sg-" in rule for rule in rules(found)) <= 20
    assert len(rules(found)) == 25
    assert not any("from 0.0.0.0/0" in rule for rule in rules(found)), "addresses are narrower than everybody"
    packet = Packet("eni-a", Direction.INGRESS, Address.parse("10.1.0.25"), Address.parse("10.0.0.1"), TCP, 128, 50000)
    assert decide(found.after, packet).verdict is Verdict.ACCEPT
