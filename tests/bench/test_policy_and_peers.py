"""Every filter gets the same rules, ENIs and members, in the same order."""

from __future__ import annotations

import re

import pytest
from bench import ours
from bench.morepeers import ENI_PEERS, MEMBER_PEERS, host_ends
from bench.ours import GROUP_RULES, RULES_AMONG_ENIS, Make
from bench.peers import FOOMUURI, PEERS, Peer
from bench.policy import CHANGE, PROBE, PROBE_RULES, STRANGER, member, policy

from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState, SecurityGroupRule

SIZES = (1, 10, 100, 1000)
MAC = "00:16:3e:00:00:01"


def rules_of(state: CloudState) -> list[SecurityGroupRule]:
    return [rule for group in state.security_groups for rule in group.rules]


@pytest.mark.parametrize("size", SIZES)
def test_the_probes_rules_stand_last_and_the_change_fits_into_the_size(size: int) -> None:
    rules = policy(size)
    assert rules[-2:] == PROBE_RULES
    assert len({*rules, CHANGE}) == max(3, size)


def test_no_two_rules_match_the_same_packet() -> None:
    rules = policy(4096)
    assert len({(rule.protocol, rule.port) for rule in rules}) == len(rules)


def test_more_rules_than_there_are_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 4097"):
        policy(4098)


def test_the_probe_is_a_member_and_the_stranger_is_not() -> None:
    members = [member(number) for number in range(65_536)]
    assert members[0] == PROBE
    assert STRANGER not in members
    assert len(set(members)) == len(members)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_told_every_port_and_source_in_order(peer: Peer) -> None:
    rules = policy(100)
    text = "\n".join(peer.files(100).values())
    ports = [int(port) for port in re.findall(r"\b(20\d{3}|5001)\b", text)]
    assert list(dict.fromkeys(ports)) == [rule.port for rule in rules[:-1]]
    assert all(rule.source in text for rule in rules)


@pytest.mark.parametrize("peer", ENI_PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_told_every_interface_and_all_rules_of_the_paths(peer: Peer) -> None:
    text = "\n".join(peer.files(20).values())
    assert all(text.count(name) >= 2 for name in (*host_ends(20), "eni-probe"))
    assert all(rule.source in text for rule in policy(RULES_AMONG_ENIS))


@pytest.mark.parametrize("peer", MEMBER_PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_told_every_member(peer: Peer) -> None:
    found = re.findall(r"\d+\.\d+\.\d+\.\d+", "\n".join(peer.files(300).values()))
    assert found == [member(number) for number in range(300)]


def test_foomuuris_wider_file_differs_by_the_change_alone() -> None:
    files = FOOMUURI.files(10)
    added = set(files["/bench/wider"].splitlines()) - set(files["/bench/base"].splitlines())
    assert added == {f"  {CHANGE.protocol} {CHANGE.port} saddr {CHANGE.source}"}


@pytest.mark.parametrize("is_changed", [False, True], ids=["before the change", "with the change"])
def test_our_state_keeps_the_clouds_limits_and_the_order(is_changed: bool) -> None:
    state = ours.by_rules(MAC, 1000)(0, is_changed).state
    rules = rules_of(state)
    assert [len(group.rules) for group in state.security_groups[:4]] == [GROUP_RULES] * 4
    assert len(state.security_groups[4].rules) == GROUP_RULES - (not is_changed)
    assert [rule.priority for rule in rules] == sorted(rule.priority for rule in rules)
    assert rules[0].priority == 1


@pytest.mark.parametrize("size", SIZES)
def test_the_change_is_one_rule(size: int) -> None:
    make = ours.by_rules(MAC, size)
    before, after = (make(3, is_changed).state for is_changed in (False, True))
    assert len(before.security_groups) == len(after.security_groups)
    assert rules_of(after)[:-1] == rules_of(before)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(ours.by_rules(MAC, 1), id="a rule"),
        pytest.param(ours.by_rules(MAC, 100), id="rules"),
        pytest.param(ours.by_enis(MAC, 4, Placement.INSTANCE), id="ENIs, instance placement"),
        pytest.param(ours.by_enis(MAC, 4, Placement.HOST), id="ENIs, host placement"),
        pytest.param(ours.by_members(MAC, 16), id="members"),
    ],
)
def test_no_state_of_a_run_comes_twice(make: Make) -> None:
    found = [make(turn, is_changed).state for turn in range(8) for is_changed in (False, True)]
    assert all(one != other for number, one in enumerate(found) for other in found[:number])


@pytest.mark.parametrize("where", [Placement.INSTANCE, Placement.HOST])
def test_the_paths_eni_comes_last_among_many(where: Placement) -> None:
    desired = ours.by_enis(MAC, 32, where)(0, False)
    assert [eni.network_interface_id for eni in desired.state.network_interfaces][-1] == "eni-probe"
    assert len(set(desired.interfaces.values())) == 32
    if where is Placement.HOST:
        assert [*desired.interfaces.values()] == [*host_ends(32), "eni-probe"]


def test_members_are_in_one_group_and_the_change_is_one_more() -> None:
    make = ours.by_members(MAC, 16)
    before, after = (make(0, is_changed).state for is_changed in (False, True))
    assert len(after.network_interfaces) == len(before.network_interfaces) + 1 == 18
    assert after.security_groups == before.security_groups
