"""Every filter gets the same rules, in the same order."""

from __future__ import annotations

import re

import pytest
from bench.ours import GROUP_RULES, _desired
from bench.peers import FOOMUURI, PEERS, Peer
from bench.policy import CHANGE, PROBE_RULES, policy

SIZES = (1, 10, 100, 1000)


@pytest.mark.parametrize("size", SIZES)
def test_the_probes_rules_stand_last(size: int) -> None:
    rules = policy(size)
    assert rules[-2:] == PROBE_RULES
    assert len(rules) == max(2, size)
    assert CHANGE not in rules


def test_no_two_rules_match_the_same_packet() -> None:
    rules = policy(4096)
    assert len({(rule.protocol, rule.port) for rule in rules}) == len(rules)


def test_more_rules_than_there_are_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        policy(4097)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_told_every_port_and_source_in_order(peer: Peer) -> None:
    rules = policy(100)
    text = "\n".join(peer.files(rules).values())
    ports = [int(port) for port in re.findall(r"\b(20\d{3}|5001)\b", text)]
    assert list(dict.fromkeys(ports)) == [rule.port for rule in rules[:-1]]
    assert all(rule.source in text for rule in rules)


def test_foomuuris_wider_file_differs_by_the_change_alone() -> None:
    files = FOOMUURI.files(policy(10))
    added = set(files["/bench/wider"].splitlines()) - set(files["/bench/base"].splitlines())
    assert added == {f"  {CHANGE.protocol} {CHANGE.port} saddr {CHANGE.source}"}


def test_our_state_keeps_the_clouds_limits_and_the_order() -> None:
    state = _desired("00:16:3e:00:00:01", policy(1000), 1).state
    rules = [rule for group in state.security_groups for rule in group.rules]
    assert max(len(group.rules) for group in state.security_groups) == GROUP_RULES
    assert [rule.priority for rule in rules] == sorted(rule.priority for rule in rules)
    assert (rules[0].priority, rules[-1].priority) == (1, 100)


def test_the_paths_eni_comes_last_among_many() -> None:
    desired = _desired("00:16:3e:00:00:01", policy(10), 32)
    assert [eni.network_interface_id for eni in desired.state.network_interfaces][-1] == "eni-probe"
    assert max(desired.interfaces.values()) == "eth0"
    assert len(set(desired.interfaces.values())) == 32
