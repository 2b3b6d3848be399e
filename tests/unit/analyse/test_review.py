"""Each finding is reported where it belongs, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.analyse.arrangement import Budget
from sgdataplane.analyse.review import review
from sgdataplane.model.state import CloudState
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import load
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

TOP = """\
version: 1
unknown_security_group_ids: [sg-foreign]
vpcs: [{vpc_id: vpc-a}, {vpc_id: vpc-b}, {vpc_id: vpc-old, network_type: classic}]
prefix_lists:
  - {prefix_list_id: pl-empty, address_family: IPv4, max_entries: 3}
  - {prefix_list_id: pl-v4, address_family: IPv4, max_entries: 3, entries: [{cidr: 10.0.0.2}]}
  - {prefix_list_id: pl-v6, address_family: IPv6, max_entries: 3, entries: [{cidr: "2001:db8::/32"}]}
  - prefix_list_id: pl-halves
    address_family: IPv4
    max_entries: 3
    entries: [{cidr: 0.0.0.0/1}, {cidr: 128.0.0.0/1}]
port_lists:
  - {port_list_id: prl-empty, max_entries: 3}
  - {port_list_id: prl-ssh, max_entries: 3, entries: [{port_range: 20/25}]}
"""
ENIS = """\
network_interfaces:
  - {network_interface_id: eni-1, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1], security_group_ids: [sg-x],
     ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-2, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2], security_group_ids: [sg-x]}
  - {network_interface_id: eni-3, vpc_id: vpc-a, private_ip_addresses: [10.0.0.3], security_group_ids: [sg-y]}
  - {network_interface_id: eni-5, vpc_id: vpc-a, private_ip_addresses: [10.0.0.5], security_group_ids: [sg-both],
     ipv6_addresses: ["2001:db8:a::5"]}
  - {network_interface_id: eni-4, vpc_id: vpc-b, private_ip_addresses: [10.0.0.3], security_group_ids: [sg-b]}
"""
OTHERS = """\
  - {security_group_id: sg-y, vpc_id: vpc-a}
  - {security_group_id: sg-empty, vpc_id: vpc-a}
  - {security_group_id: sg-b, vpc_id: vpc-b}
  - {security_group_id: sg-both, vpc_id: vpc-a}
"""


def state_of(folder: Path, *rules: str, group: str = "inner_access_policy: Drop", others: str = OTHERS) -> CloudState:
    """sg-x has these rules, with ids from sgr-0 on, and two ENIs; sg-y has one ENI, sg-empty none."""
    lines = "".join(f"      - {{security_group_rule_id: sgr-{n}, {rule}}}\n" for n, rule in enumerate(rules))
    own = f"  - security_group_id: sg-x\n    vpc_id: vpc-a\n    {group}\n    rules:{'' if rules else ' []'}\n{lines}"
    path = folder / "state.yaml"
    path.write_text(f"{TOP}security_groups:\n{own}{others}{ENIS}", encoding="utf-8")
    return load(path).state


def about_rules(state: CloudState, *codes: str) -> list[tuple[str, str, str]]:
    """(code, severity, message) of the findings with these codes, by default those about rules that are open, void or
    match nothing."""
    wanted = codes or ("WideOpenIngress", "WideOpenEgress", "VoidDrop", NOTHING, UNKNOWN, NEVER)
    return [(f.code, f.severity.value, f.message) for f in review(state) if f.code in wanted]


IN, OUT = "type: ingress", "type: egress"
DROP = "policy: drop"
NOTHING = "RemoteMatchesNothing"
NEVER = "RuleNeverMatches"
UNKNOWN = "UnknownRemote"
EMPTY = (
    ("unknown group", f"{IN}, ip_protocol: all, source_security_group_id: sg-foreign", UNKNOWN,
     "the state doesn't have sg-foreign, so the rule matches nobody here"),
    ("group of another VPC", f"{OUT}, ip_protocol: all, dest_security_group_id: sg-b", NOTHING,
     "the rule matches nothing: sg-b is in another VPC, vpc-b"),
    ("group without members", f"{IN}, ip_protocol: all, source_security_group_id: sg-empty", NOTHING,
     "the rule matches nothing: sg-empty has no members"),
    ("empty prefix list", f"{IN}, ip_protocol: all, prefix_list_id: pl-empty", NOTHING,
     "the rule matches nothing: pl-empty has no entries"),
    ("empty port list", f"{IN}, ip_protocol: tcp, port_list_id: prl-empty, cidr_ip: 10.0.0.0/8", NEVER,
     "the rule can never match: prl-empty has no entries"),
    ("icmp from an IPv6 block", f'{IN}, ip_protocol: icmp, ipv6_cidr_ip: "::/0"', NEVER,
     "the rule can never match: icmp doesn't exist in the remote's family"),
    ("icmpv6 to an IPv4 block", f"{OUT}, ip_protocol: icmpv6, cidr_ip: 10.0.0.0/8", NEVER,
     "the rule can never match: icmpv6 doesn't exist in the remote's family"),
    ("icmp from an IPv6 prefix list", f"{IN}, ip_protocol: icmp, prefix_list_id: pl-v6", NEVER,
     "the rule can never match: icmp doesn't exist in the remote's family"),
    ("narrowing of another family than the list",
     f'{IN}, ip_protocol: all, prefix_list_id: pl-v4, ipv6_dest_cidr_ip: "2001:db8::1"', NEVER,
     "the rule can never match: 2001:db8::1/128 is not of the remote's family"),
    ("narrowing of another family than the protocol",
     f'{IN}, ip_protocol: icmp, source_security_group_id: sg-y, ipv6_dest_cidr_ip: "2001:db8::1"', NEVER,
     "the rule can never match: 2001:db8::1/128 is not of the remote's family"),
    ("narrowing of another family than a protocol of the remote's",
     f'{IN}, ip_protocol: icmp, source_security_group_id: sg-both, ipv6_dest_cidr_ip: "2001:db8::1"', NEVER,
     "the rule can never match: icmp doesn't exist in the family of 2001:db8::1/128"),
    ("a group without members of the protocol's family",
     f"{IN}, ip_protocol: icmpv6, source_security_group_id: sg-y", NEVER,
     "the rule can never match: icmpv6 doesn't exist in the remote's family"),
    ("narrowing to an address that no ENI has",
     f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.0/8, dest_cidr_ip: 10.0.0.3", NEVER,
     "the rule can never match: no ENI of the group has an address in 10.0.0.3/32"),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "code", "message"), [row[1:] for row in EMPTY], ids=[row[0] for row in EMPTY])
def test_a_rule_that_matches_nothing_is_reported(rule: str, code: str, message: str, tmp_path: Path) -> None:
    state = state_of(tmp_path, rule)
    assert about_rules(state) == [(code, "warning", message)]
    assert (subject(security_group_id="sg-x", security_group_rule_id="sgr-0")) in [f.subject for f in review(state)]


FINE = (
    f"{IN}, ip_protocol: all, source_security_group_id: sg-y",
    f"{IN}, ip_protocol: icmp, source_security_group_id: sg-y, dest_cidr_ip: 10.0.0.1",
    f"{IN}, ip_protocol: tcp, port_range: 22/22, prefix_list_id: pl-v4",
    f'{OUT}, ip_protocol: icmpv6, ipv6_cidr_ip: "::/0"',
    f"{IN}, ip_protocol: tcp, port_list_id: prl-ssh, cidr_ip: 10.0.0.0/8",
    f"{IN}, ip_protocol: tcp, port_range: 80/80, cidr_ip: 0.0.0.0/0",
    f"{IN}, ip_protocol: udp, port_range: 1/65535, cidr_ip: 0.0.0.0/0",
    f"{IN}, ip_protocol: icmp, cidr_ip: 0.0.0.0/0",
    f"{IN}, ip_protocol: udp, port_range: 9/9, cidr_ip: 10.0.0.0/8, dest_cidr_ip: 224.0.0.1",
    f"{IN}, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/1",
    f"{IN}, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0, policy: drop",
    f"{OUT}, ip_protocol: all, cidr_ip: 0.0.0.0/0",
    f"{OUT}, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0",
)


@pytest.mark.parametrize("rule", FINE)
def test_a_rule_that_is_fine_is_not_reported(rule: str, tmp_path: Path) -> None:
    assert about_rules(state_of(tmp_path, rule)) == []


SSH = f"{IN}, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0, priority: 5"
ALL = f"{IN}, ip_protocol: all, cidr_ip: 0.0.0.0/0, priority: 5"
DROP_ALL = f"{ALL[:-1]}1, {DROP}"
OPEN = (
    ("SSH", (SSH,), "the rule opens SSH (22) to 0.0.0.0/0"),
    ("RDP over IPv6", (f'{IN}, ip_protocol: tcp, port_range: 3389/3389, ipv6_cidr_ip: "::/0"',),
     "the rule opens RDP (3389) to ::/0"),
    ("a range", (f"{IN}, ip_protocol: tcp, port_range: 3000/6000, cidr_ip: 0.0.0.0/0",),
     "the rule opens MySQL (3306), RDP (3389), PostgreSQL (5432), VNC (5900) to 0.0.0.0/0"),
    ("a port list", (f"{IN}, ip_protocol: tcp, port_list_id: prl-ssh, cidr_ip: 0.0.0.0/0",),
     "the rule opens SSH (22), Telnet (23) to 0.0.0.0/0"),
    ("one address of the ENIs", (f"{SSH}, dest_cidr_ip: 10.0.0.1",), "the rule opens SSH (22) to 0.0.0.0/0"),
    ("some source ports", (f"{SSH}, source_port_range: 1000/2000",), "the rule opens SSH (22) to 0.0.0.0/0"),
    ("a prefix list of halves", (f"{IN}, ip_protocol: tcp, port_range: 22/22, prefix_list_id: pl-halves",),
     "the rule opens SSH (22) to pl-halves"),
    ("all of the internet and nothing else",
     (f'{IN}, ip_protocol: tcp, port_range: 22/22, ipv6_cidr_ip: "2000::/3"',), "the rule opens SSH (22) to 2000::/3"),
    ("everything", (ALL,), "the rule opens every protocol and port to 0.0.0.0/0"),
    ("a weaker drop hides nothing", (SSH, f"{ALL[:-1]}6, policy: drop"), "the rule opens SSH (22) to 0.0.0.0/0"),
    ("a drop of the other family hides nothing", (SSH, f'{IN}, ip_protocol: all, ipv6_cidr_ip: "::/0", policy: drop'),
     "the rule opens SSH (22) to 0.0.0.0/0"),
    ("a drop for some hides nothing", (SSH, f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.0/8, policy: drop"),
     "the rule opens SSH (22) to 0.0.0.0/0"),
    ("a drop of some source ports hides nothing",
     (SSH, f"{IN}, ip_protocol: tcp, port_range: 22/22, source_port_range: 1/9, cidr_ip: 0.0.0.0/0, policy: drop"),
     "the rule opens SSH (22) to 0.0.0.0/0"),
    ("a drop of one port leaves the others",
     (f"{IN}, ip_protocol: tcp, port_range: 22/23, cidr_ip: 0.0.0.0/0", f"{SSH[:-1]}1, policy: drop"),
     "the rule opens Telnet (23) to 0.0.0.0/0"),
)  # fmt: skip


@pytest.mark.parametrize(("rules", "message"), [row[1:] for row in OPEN], ids=[row[0] for row in OPEN])
def test_a_door_open_to_everyone_is_reported(rules: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert about_rules(state_of(tmp_path, *rules)) == [("WideOpenIngress", "high", message)]


@pytest.mark.parametrize(
    "drops",
    [
        (f"{SSH}, policy: drop",),
        (f"{ALL}, policy: drop",),
        (DROP_ALL,),
        (DROP_ALL.replace("0.0.0.0/0", "0.0.0.0/1"), DROP_ALL.replace("0.0.0.0/0", "128.0.0.0/1")),
        (f"{ALL[:-1]}3, policy: drop", SSH.replace("0.0.0.0/0", "8.8.8.8").replace("5", "2")),
        (f"{DROP_ALL}, dest_cidr_ip: 10.0.0.0/30",),
    ],
    ids=[
        "the same port and priority", "every protocol", "stronger", "two halves", "all but one address",
        "the addresses of all ENIs",
    ],
)  # fmt: skip
def test_a_door_that_stronger_drops_close_is_not_reported(drops: tuple[str, ...], tmp_path: Path) -> None:
    assert about_rules(state_of(tmp_path, SSH, *drops)) == []


def test_a_door_that_rules_open_together_is_reported_for_each_of_them(tmp_path: Path) -> None:
    halves = (SSH.replace("0.0.0.0/0", "0.0.0.0/1"), SSH.replace("0.0.0.0/0", "128.0.0.0/1"))
    one = SSH.replace("0.0.0.0/0", "8.8.8.8")
    assert about_rules(state_of(tmp_path, *halves, one)) == [
        ("WideOpenIngress", "high", "together with sgr-1 of sg-x the rule opens SSH (22) to the internet"),
        ("WideOpenIngress", "high", "together with sgr-0 of sg-x the rule opens SSH (22) to the internet"),
    ]


def test_a_door_is_closed_by_another_group_of_all_its_enis(tmp_path: Path) -> None:
    shut = f"sg-shut, vpc_id: vpc-a, inner_access_policy: Drop, rules: [{{{DROP_ALL}}}]"
    others = f"{OTHERS}  - {{security_group_id: {shut}}}\n"
    state = state_of(tmp_path, SSH, others=others)
    enis = [replace(eni, security_group_ids=("sg-shut", "sg-x")) for eni in state.network_interfaces[:2]]
    assert about_rules(replace(state, network_interfaces=(*enis, *state.network_interfaces[2:]))) == []
    one_open = replace(state, network_interfaces=(enis[0], *state.network_interfaces[1:]))
    assert about_rules(one_open) == [("WideOpenIngress", "high", "the rule opens SSH (22) to 0.0.0.0/0")]


@pytest.mark.parametrize("remote", ["cidr_ip: 0.0.0.0/0", 'ipv6_cidr_ip: "::/0"'])
def test_an_advanced_group_that_may_send_anywhere_is_worth_knowing(remote: str, tmp_path: Path) -> None:
    rule = f"{OUT}, ip_protocol: all, {remote}"
    state = state_of(tmp_path, rule, group="security_group_type: enterprise")
    assert about_rules(state) == [("WideOpenEgress", "info", "the rule lets the group send anything to any address")]


def test_a_group_that_nothing_uses_is_worth_knowing(tmp_path: Path) -> None:
    assert review(state_of(tmp_path)) == (
        Finding(
            "UnusedGroup",
            Severity.INFO,
            "no ENI is in the group and no rule names it",
            (("security_group_id", "sg-empty"),),
        ),
    )


ACCEPT = "inner_access_policy: Accept"
VOID = "the drop has no effect between members of sg-x, whose inner policy is Accept"
VOID_DROPS = (
    ("a block with a member", f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.0/30, {DROP}", "warning"),
    ("one member", f"{OUT}, ip_protocol: tcp, port_range: 1/9, cidr_ip: 10.0.0.2, {DROP}", "warning"),
    ("a prefix list with a member", f"{IN}, ip_protocol: all, prefix_list_id: pl-v4, {DROP}", "warning"),
    ("everyone", f"{IN}, ip_protocol: all, cidr_ip: 0.0.0.0/0, {DROP}, priority: 100", "info"),
)


@pytest.mark.parametrize(("rule", "severity"), [row[1:] for row in VOID_DROPS], ids=[row[0] for row in VOID_DROPS])
def test_a_drop_that_inner_accept_makes_void_is_reported(rule: str, severity: str, tmp_path: Path) -> None:
    assert about_rules(state_of(tmp_path, rule, group=ACCEPT)) == [("VoidDrop", severity, VOID)]
    assert about_rules(state_of(tmp_path, rule)) == []


@pytest.mark.parametrize(
    "rule",
    [
        f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.3, {DROP}",
        f"{IN}, ip_protocol: all, cidr_ip: 192.0.2.0/24, {DROP}",
        f'{IN}, ip_protocol: all, ipv6_cidr_ip: "2001:db8::/32", {DROP}',
        f"{IN}, ip_protocol: all, source_security_group_id: sg-y, {DROP}",
        f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.2",
    ],
    ids=["a member of another group", "outsiders", "the other family", "another group", "an accept"],
)
def test_a_rule_that_inner_accept_leaves_alone_is_not_reported(rule: str, tmp_path: Path) -> None:
    assert about_rules(state_of(tmp_path, rule, group=ACCEPT)) == []


def test_a_drop_of_a_group_whose_members_share_an_accepting_group_is_void(tmp_path: Path) -> None:
    """eni-1 drops what comes from sg-y, but eni-1 and eni-3 are together in sg-z, which accepts within."""
    others = OTHERS + "  - {security_group_id: sg-z, vpc_id: vpc-a}\n"
    rule = f"{IN}, ip_protocol: all, source_security_group_id: sg-y, {DROP}"
    state = state_of(tmp_path, rule, others=others)
    joined = tuple(
        replace(eni, security_group_ids=(*eni.security_group_ids, "sg-z"))
        if eni.network_interface_id in ("eni-1", "eni-3")
        else eni
        for eni in state.network_interfaces
    )
    (finding,) = about_rules(replace(state, network_interfaces=joined))
    assert finding[0] == "VoidDrop"
    assert "members of sg-z" in finding[2]


def test_a_drop_of_the_only_member_against_itself_is_not_void(tmp_path: Path) -> None:
    state = state_of(tmp_path, f"{IN}, ip_protocol: all, cidr_ip: 10.0.0.1, {DROP}", group=ACCEPT)
    alone = tuple(eni for eni in state.network_interfaces if eni.network_interface_id != "eni-2")
    assert about_rules(replace(state, network_interfaces=alone)) == []


def test_a_delegated_prefix_of_a_member_is_found_too(tmp_path: Path) -> None:
    rule = f"{IN}, ip_protocol: all, cidr_ip: 10.7.0.9, {DROP}"
    state = state_of(tmp_path, rule, group=ACCEPT)
    text = (tmp_path / "state.yaml").read_text(encoding="utf-8")
    assert about_rules(state) == []
    text = text.replace("[10.0.0.2], security", "[10.0.0.2, 10.7.0.1], ipv4_prefixes: [10.7.0.0/28], security")
    (tmp_path / "state.yaml").write_text(text, encoding="utf-8")
    assert about_rules(load(tmp_path / "state.yaml").state) == [("VoidDrop", "warning", VOID)]


NEEDLESS = ("RedundantRule", "ShadowedRule", "TieDecidedByDrop")
TEN = f"{IN}, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.0/8, priority: 5"
NARROW = TEN.replace("10.0.0.0/8", "10.7.0.0/16")
ANYWAY = "without the rule, everything that it accepts is still accepted, by"
NEVER_ACCEPTS = "the rule never decides: everything that it accepts is already dropped, by sgr-0 of sg-x"
HIDDEN = (
    ("the same block twice", (TEN, TEN), ("sgr-1", "RedundantRule", f"{ANYWAY} sgr-0 of sg-x")),
    ("a stronger, wider one", (TEN, f"{NARROW[:-1]}9"),
     ("sgr-1", "RedundantRule", f"{ANYWAY} sgr-0 of sg-x")),
    ("a weaker, wider one", (TEN, f"{NARROW[:-1]}1"),
     ("sgr-1", "RedundantRule", f"{ANYWAY} sgr-0 of sg-x")),
    ("two halves", (TEN.replace("0/8", "0/9"), TEN.replace("10.0.0.0/8", "10.128.0.0/9"), f"{TEN[:-1]}9"),
     ("sgr-2", "RedundantRule", f"{ANYWAY} sgr-0 of sg-x and sgr-1 of sg-x")),
    ("the default", (f"{OUT}, ip_protocol: all, cidr_ip: 0.0.0.0/0",),
     ("sgr-0", "RedundantRule", f"{ANYWAY} default")),
    ("a stronger, wider drop", (f"{TEN}, policy: drop", f"{NARROW[:-1]}9"),
     ("sgr-1", "ShadowedRule", NEVER_ACCEPTS)),
    ("a drop of equal priority", (f"{TEN}, policy: drop", NARROW),
     ("sgr-1", "ShadowedRule", NEVER_ACCEPTS)),
    ("a drop behind an accept", (TEN, f"{NARROW[:-1]}9, policy: drop"),
     ("sgr-1", "ShadowedRule", NEVER_ACCEPTS.replace("accepts", "drops").replace("dropped", "accepted"))),
    ("a tie", (TEN, f"{NARROW}, policy: drop"),
     ("sgr-0", "TieDecidedByDrop",
      "packets that also match sgr-1 of sg-x are dropped: all have priority 5, and a drop wins a tie")),
)  # fmt: skip


@pytest.mark.parametrize(("rules", "expected"), [row[1:] for row in HIDDEN], ids=[row[0] for row in HIDDEN])
def test_a_rule_that_others_hide_is_reported(rules: tuple[str, ...], expected: tuple[str, ...], tmp_path: Path) -> None:
    found = [finding for finding in review(state_of(tmp_path, *rules)) if finding.code in NEEDLESS]
    hidden = (dict(found[0].subject)["security_group_rule_id"], found[0].code, found[0].message)
    assert (hidden, [f.message for f in found[1:] if "by default" not in f.message]) == (expected, [])


@pytest.mark.parametrize(
    "rules",
    [
        (TEN, f"{NARROW[:-1]}9, policy: drop", f"{TEN[:-1]}1".replace("22/22", "23/23")),
        (TEN, f"{NARROW[:-1]}1, policy: drop", f"{NARROW[:-1]}1".replace("10.7.0.0/16", "10.7.7.0/24")),
    ],
)
def test_a_rule_that_decides_something_is_not_called_shadowed(rules: tuple[str, ...], tmp_path: Path) -> None:
    state = state_of(tmp_path, *rules)
    assert [f[0] for f in about_rules(state, "RedundantRule")] == []


def test_a_rule_is_needed_if_one_of_its_enis_needs_it(tmp_path: Path) -> None:
    """sg-y accepts what sg-x does, but only one of the two ENIs in sg-x is in sg-y."""
    others = OTHERS.replace("sg-y, vpc_id: vpc-a}", f"sg-y, vpc_id: vpc-a, rules: [{{{TEN[:-1]}1}}]}}")
    state = state_of(tmp_path, TEN, others=others)
    both = ("sg-x", "sg-y")
    enis = [replace(eni, security_group_ids=both) for eni in state.network_interfaces[:2]]
    some = replace(state, network_interfaces=(enis[0], *state.network_interfaces[1:]))
    every = replace(state, network_interfaces=(*enis, *state.network_interfaces[2:]))
    assert about_rules(some, *NEEDLESS) == []
    (found,) = about_rules(every, *NEEDLESS)
    assert found[:2] == ("RedundantRule", "info")


def test_a_group_without_enis_is_judged_alone_but_no_rule_of_it_is_called_redundant_for_the_default(
    tmp_path: Path,
) -> None:
    rules = f"rules: [{{{ALL}, policy: drop}}, {{{SSH[:-1]}9}}]"
    others = OTHERS.replace("sg-empty, vpc_id: vpc-a}", f"sg-empty, vpc_id: vpc-a, {rules}}}")
    found = [f for f in review(state_of(tmp_path, others=others)) if f.code != "UnusedGroup"]
    assert [(f.code, dict(f.subject)["security_group_id"]) for f in found] == [("ShadowedRule", "sg-empty")]


def test_what_is_too_much_to_look_at_is_left_out_and_said_once(tmp_path: Path) -> None:
    state = state_of(tmp_path, TEN, TEN, f"{NARROW[:-1]}9, policy: drop")
    assert [f.code for f in review(state)] == ["UnusedGroup", "RedundantRule", "ShadowedRule"]
    for budget in (Budget(most_of_policy=3), Budget(left=3)):
        assert [f.code for f in review(state, budget)] == ["NotExamined", "UnusedGroup"]


OVERLAPPING = [f"ingress tcp {n}/{900 - n} from 10.{n}.0.0/16 {n}" for n in range(1, 60)]


def test_rules_that_take_long_to_compare_hide_no_open_port_of_another_group() -> None:
    """Whoever writes sg-a spends the budget; what sg-z opens is found before that."""
    groups = [
        make_group("sg-a", [make_rule(text) for text in OVERLAPPING]),
        make_group("sg-z", [make_rule("ingress tcp 22/22 from 0.0.0.0/0 1")]),
    ]
    state = make_state(groups, [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-z", "10.0.0.2", "sg-z")])
    found = {finding.code: finding for finding in review(state, Budget(left=120))}
    assert found.keys() >= {"WideOpenIngress", "NotExamined"}
    assert found["NotExamined"].severity is Severity.INFO
    assert "NotExamined" not in {finding.code for finding in review(state)}


def test_what_may_be_open_and_is_not_examined_is_grave() -> None:
    texts = ("ingress tcp 22/22 from 0.0.0.0/0 2", "ingress tcp 22/22 from 0.0.0.0/9 drop 1")
    rules = [make_rule(text) for text in texts]
    state = make_state([make_group("sg-a", rules)], [make_eni("eni-a", "10.0.0.1", "sg-a")])
    assert [finding.code for finding in review(state) if finding.severity is Severity.HIGH] == ["WideOpenIngress"]
    (found,) = review(state, Budget(left=0))
    assert (found.code, found.severity) == ("NotExamined", Severity.HIGH)
