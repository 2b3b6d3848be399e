"""What diff says about a change: a table of changes that people make, and the rows that they see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.document import exposure_as_json
from sgdataplane.analyse.view import Exposure, VerdictChange
from sgdataplane.cli.diff import row_of
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

OTHER = make_eni("eni-b", "10.0.0.2", "sg-b")
SSH = "ingress tcp 22/22 from"


def state_of(
    *rules: str, advanced: bool = False, addresses: str = "10.0.0.1", inner: Verdict = Verdict.DROP
) -> CloudState:
    """eni-a is in sg-a, which has these rules; eni-b is in sg-b, which has none."""
    groups = [make_group("sg-a", [make_rule(text) for text in rules], advanced=advanced, inner=inner)]
    enis = [make_eni("eni-a", addresses, "sg-a"), OTHER]
    return make_state([*groups, make_group("sg-b", inner=Verdict.DROP)], enis, prefix_lists={"pl-x": "192.0.2.0/25"})


def told(change: VerdictChange) -> str:
    verdict, protocol, ports, remote, *_ = row_of(change)
    return f"{change.eni_id} {change.direction.value} {verdict} {protocol} {ports} {remote}"


def changes_of(before: CloudState, after: CloudState) -> list[VerdictChange]:
    diff = StateDiff(before, after)
    return [change for eni_id in diff.list_concerned() for change in diff.at(eni_id).changes]


def exposures_of(before: CloudState, after: CloudState) -> list[str]:
    diff = StateDiff(before, after)
    found: list[Exposure] = [one for eni_id in diff.list_concerned() for one in diff.at(eni_id).exposures]
    return [" ".join(str(value) for value in exposure_as_json(one).values()) for one in found]


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        pytest.param([f"{SSH} 10.0.0.0/8"], [f"{SSH} 10.0.0.0/8"], [], id="nothing"),
        pytest.param([], [f"{SSH} 0.0.0.0/0"], ["opens tcp 22 0.0.0.0/0"], id="own address makes no hole"),
        pytest.param([], [f"{SSH} 10.0.0.1/32"], [], id="only from itself, which never passes"),
        pytest.param([f"{SSH} 10.0.0.0/8"], [f"{SSH} 10.0.0.0/9"], ["closes tcp 22 10.128.0.0/9"], id="narrower"),
        pytest.param([f"{SSH} 192.0.2.0/24"], [f"{SSH} pl-x"], ["closes tcp 22 192.0.2.128/25"], id="a list"),
        pytest.param(["ingress tcp 80/90 from 192.0.2.0/24"], ["ingress tcp 85/95 from 192.0.2.0/24"],
                     ["opens tcp 91-95 192.0.2.0/24", "closes tcp 80-84 192.0.2.0/24"], id="other ports"),
        pytest.param(["ingress all from ::/0"], ["ingress icmpv6 from ::/0"],
                     ["closes 0-57 any ::/0", "closes 59-255 any ::/0"], id="another protocol, of IPv6"),
        pytest.param(["ingress gre from sg-b"], [], ["closes gre any 10.0.0.2"], id="from a group"),
        pytest.param([f"{SSH} 10.0.0.0/8 5"], [f"{SSH} 10.0.0.0/8 5", f"{SSH} 10.1.0.0/16 drop 5"],
                     ["closes tcp 22 10.1.0.0/16"], id="a tie, and drop decides it"),
        pytest.param([f"{SSH} 10.0.0.0/8 5"], [f"{SSH} 10.0.0.0/8 5", f"{SSH} 10.1.0.0/16 drop 6"], [],
                     id="a drop that is too weak"),
        pytest.param([], ["egress all to 0.0.0.0/0 drop"], ["closes all any 0.0.0.0/0"], id="all of egress"),
    ],
)  # fmt: skip
def test_rows_of_changed_rules(old: list[str], new: list[str], rows: list[str]) -> None:
    direction = "egress" if any(text.startswith("egress") for text in new) else "ingress"
    assert [told(one) for one in changes_of(state_of(*old), state_of(*new))] == [
        f"eni-a {direction} {row}" for row in rows
    ]


def test_what_is_nothing_but_dhcp_passes_anyway() -> None:
    """A row with more traffic reaches over it."""
    text = "ingress udp 68/68 from 169.254.1.1"
    assert [told(one) for one in changes_of(state_of(), state_of(text))] == ["eni-a ingress opens udp 68 169.254.1.1"]
    group = make_group("sg-a", [make_rule(text, source_port_range="67/67")], inner=Verdict.DROP)
    before = state_of()
    assert changes_of(before, make_state([group, before.group["sg-b"]], before.network_interfaces)) == []


def test_each_row_names_what_decides_before_and_after() -> None:
    before = state_of("ingress tcp 22/23 from 10.0.0.0/8", "ingress all from 192.0.2.0/24 drop 7")
    (change,) = changes_of(before, state_of("ingress tcp 22/23 from 10.0.0.0/8", "ingress udp 1/2 from 192.0.2.0/24"))
    assert (change.before.security_group_rule_id, change.before.priority) == ("ingress_all_from_192.0.2.0/24_drop_7", 7)
    assert (change.after.security_group_rule_id, change.after.reason) == ("ingress_udp_1/2_from_192.0.2.0/24", "rule")


def test_another_type_of_group_closes_egress() -> None:
    assert [told(one) for one in changes_of(state_of(), state_of(advanced=True))] == [
        "eni-a egress closes all any 0.0.0.0/0"
    ]


def test_inner_accept_and_who_joins() -> None:
    groups = [make_group("sg-a", ["egress all to 0.0.0.0/0 drop"])]
    before = make_state(groups, [make_eni("eni-a", "10.0.0.1", "sg-a")])
    after = make_state(groups, [*before.network_interfaces, make_eni("eni-c", "10.0.0.3", "sg-a")])
    diff = StateDiff(before, after)
    assert (diff.added, diff.removed) == (["eni-c"], [])
    assert [told(one) for one in changes_of(before, after)] == [
        "eni-a ingress opens all any 10.0.0.3",
        "eni-a egress opens all any 10.0.0.3",
        "eni-c ingress opens all any 10.0.0.1",
        "eni-c egress opens all any 10.0.0.1",
        "eni-c egress opens all any 10.0.0.3",
    ]
    assert {one.before.reason for one in diff.at("eni-c").changes} == {"never"}


def test_another_address_is_told_at_both_ends() -> None:
    rules = [make_rule("ingress tcp 80/80 from sg-a")]
    groups = [make_group("sg-a", inner=Verdict.DROP, advanced=False), make_group("sg-b", rules, inner=Verdict.DROP)]
    before = make_state(groups, [make_eni("eni-a", "10.0.0.1", "sg-a"), OTHER])
    after = make_state(groups, [make_eni("eni-a", "10.0.0.9", "sg-a"), OTHER])
    assert [told(one) for one in changes_of(before, after)] == [
        "eni-a egress opens all any 0.0.0.0/0 at 10.0.0.9",
        "eni-a egress closes all any 0.0.0.0/0 at 10.0.0.1",
        "eni-b ingress opens tcp 80 10.0.0.9",
        "eni-b ingress closes tcp 80 10.0.0.1",
    ]


def test_an_eni_that_goes_closes_what_it_let_in() -> None:
    before = state_of(f"{SSH} 192.0.2.0/24", advanced=True)
    after = make_state(before.security_groups, [OTHER], prefix_lists={"pl-x": "192.0.2.0/25"})
    assert StateDiff(before, after).removed == ["eni-a"]
    assert [told(one) for one in changes_of(before, after)] == ["eni-a ingress closes tcp 22 192.0.2.0/24"]


@pytest.mark.parametrize(
    ("old", "new", "exposed"),
    [
        ([], [f"{SSH} 0.0.0.0/0"], ["eni-a ipv4 tcp 22-22"]),
        ([], [f"{SSH} ::/0"], ["eni-a ipv6 tcp 22-22"]),
        ([], [f"{SSH} 2000::/3"], ["eni-a ipv6 tcp 22-22"]),
        ([], [f"{SSH} 0.0.0.0/1", f"{SSH} 128.0.0.0/1"], ["eni-a ipv4 tcp 22-22"]),
        ([f"{SSH} 128.0.0.0/1"], [f"{SSH} 0.0.0.0/1", f"{SSH} 128.0.0.0/1"], ["eni-a ipv4 tcp 22-22"]),
        ([f"{SSH} 10.0.0.0/8"], [f"{SSH} 0.0.0.0/0", f"{SSH} 203.0.113.0/24 drop"], ["eni-a ipv4 tcp 22-22"]),
        ([f"{SSH} 0.0.0.0/0"], ["ingress tcp 20/25 from 0.0.0.0/0"], ["eni-a ipv4 tcp 20-21", "eni-a ipv4 tcp 23-25"]),
        ([f"{SSH} 0.0.0.0/0", f"{SSH} 203.0.113.0/24 drop"], [f"{SSH} 0.0.0.0/0"], []),
        ([], [f"{SSH} 10.0.0.0/8", f"{SSH} 192.0.2.0/24"], []),
        ([], [f"{SSH} 0.0.0.0/0", "ingress all from 0.0.0.0/0 drop"], []),
        (["egress all to 0.0.0.0/0 drop"], [], []),
    ],
)
def test_what_opens_to_the_internet(old: list[str], new: list[str], exposed: list[str]) -> None:
    assert exposures_of(state_of(*old), state_of(*new)) == exposed


@pytest.mark.parametrize(
    ("old", "new", "exposed"),
    [
        ("10.0.0.1", "10.0.0.1 10.0.0.9", ["eni-a ipv4 tcp 22-22"]),
        ("10.0.0.1 10.0.0.9", "10.0.0.1", []),
    ],
    ids=["one more", "one less, which may be somebody else's now"],
)
def test_an_address_more_is_open_to_the_internet_as_the_others_are(old: str, new: str, exposed: list[str]) -> None:
    rule = f"{SSH} 0.0.0.0/0"
    assert exposures_of(state_of(rule, addresses=old), state_of(rule, addresses=new)) == exposed


def test_a_new_eni_that_is_open_has_been_opened() -> None:
    after = state_of(f"{SSH} 0.0.0.0/0")
    before = replace(after, network_interfaces=(OTHER,))
    assert exposures_of(before, after) == ["eni-a ipv4 tcp 22-22"]
    assert exposures_of(after, before) == []
