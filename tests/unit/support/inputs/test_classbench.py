"""ClassBench-like sets have the shape that their seed says, and are policies that the loader accepts."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import PortRange, Prefix
from sgdataplane.statefile.dump_native import sections
from sgdataplane.statefile.load import load
from tests.support.inputs.classbench import AddressTree, classbench, filter_set
from tests.support.inputs.classbench_seeds import NO_PORTS, SEEDS, Tree

COUNT = 1000


def rules_of(state: CloudState) -> list[SecurityGroupRule]:
    return [rule for group in state.security_groups for rule in group.rules]


def share(state: CloudState, name: str) -> float:
    return Counter(str(rule.ip_protocol) for rule in rules_of(state))[name] / COUNT


def is_loaded_as_it_is(state: CloudState, profile: str, folder: Path) -> bool:
    path = folder / "state.json"
    path.write_text(json.dumps({"version": 1, **sections(state)}), encoding="utf-8")
    return load(path, profile=profile).state == state


@pytest.mark.parametrize("kind", SEEDS)
def test_set_of_a_thousand_is_legal_within_quota(kind: str, tmp_path: Path) -> None:
    state = classbench(kind, 0, COUNT)
    assert len(rules_of(state)) == COUNT
    assert is_loaded_as_it_is(state, "2026", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEEDS)
def test_set_of_ten_thousand_is_legal_without_quota(kind: str, tmp_path: Path) -> None:
    state = classbench(kind, 0, 10 * COUNT)
    assert len(rules_of(state)) == 10 * COUNT
    assert is_loaded_as_it_is(state, "unlimited", tmp_path)


@pytest.mark.parametrize("kind", SEEDS)
def test_the_seed_alone_says_what_the_set_is(kind: str) -> None:
    assert classbench(kind, 1, 100) == classbench(kind, 1, 100)
    assert classbench(kind, 1, 100) != classbench(kind, 2, 100)


@pytest.mark.parametrize("kind", SEEDS)
def test_protocols_are_as_frequent_as_the_seed_says(kind: str) -> None:
    state, protocols = classbench(kind, 0, COUNT), SEEDS[kind].protocols
    total = sum(weight for _, weight, _ in protocols)
    for name, weight, _ in protocols:
        assert share(state, name) == pytest.approx(weight / total, abs=0.08), name


@pytest.mark.parametrize(("kind", "is_there"), [("acl", False), ("fw", True), ("ipc", True), ("wide", True)])
def test_only_the_access_list_has_no_source_ports(kind: str, is_there: bool) -> None:
    found = {rule.source_port_range for rule in rules_of(classbench(kind, 0, COUNT))}
    assert (found != {None}) is is_there


@pytest.mark.parametrize(
    ("kind", "most", "least"), [("acl", 0.05, 0), ("fw", 0.7, 0.5), ("ipc", 0.1, 0), ("wide", 0.8, 0.7)]
)
def test_sets_have_as_many_wide_blocks_as_the_seed_says(kind: str, most: float, least: float) -> None:
    """Wide is a block of half of all addresses or more on one side, or of a 65,536th on both."""
    filters = filter_set(SEEDS[kind], random.Random(5), COUNT)
    lengths = [(entry.source.length, entry.destination.length) for entry in filters]
    assert least <= sum(min(pair) < 2 or max(pair) <= 16 for pair in lengths) / COUNT <= most


@pytest.mark.parametrize("kind", SEEDS)
def test_narrow_filters_come_before_wide_ones_and_none_twice(kind: str) -> None:
    filters = filter_set(SEEDS[kind], random.Random(5), 300)
    assert len(set(filters)) == 300
    assert [entry.scope for entry in filters] == sorted(entry.scope for entry in filters)


def test_priorities_follow_the_list_and_are_shared_by_neighbours() -> None:
    state = classbench("fw", 0, COUNT)
    assert set(Counter(rule.priority for rule in rules_of(state)).values()) == {COUNT // 100}


def test_exact_ports_outweigh_ranges_in_the_access_list() -> None:
    ports = [rule.port_range for rule in rules_of(classbench("acl", 0, COUNT)) if rule.port_range]
    exact = sum(item.first == item.last for item in ports)
    ranges = sum(item.first != item.last and item != PortRange(1, 65535) for item in ports)
    assert exact > 3 * ranges > 0


def deepest(nesting: int) -> int:
    """A walk for one prefix of each length, in a tree with enough room."""
    tree = AddressTree(Tree(((32, 100, 0),), nesting), random.Random(1))
    made = tree.prefixes(list(range(1, 33)))
    return max(sum(_holds(outer, inner) for outer in made) for inner in made)


def test_addresses_nest_no_deeper_than_the_threshold() -> None:
    assert deepest(nesting=2) == 2
    assert deepest(nesting=3) == 3
    assert deepest(nesting=32) > 3


def _holds(outer: Prefix, inner: Prefix) -> bool:
    """Whether a prefix equals or contains the other."""
    return outer.first <= inner.first and inner.last <= outer.last


def test_a_tree_without_branches_has_one_address_and_a_skewed_one_leans() -> None:
    straight = AddressTree(Tree(((32, 0, 0),), nesting=32), random.Random(1))
    assert len(set(straight.prefixes([32] * 50))) == 1
    leaning = AddressTree(Tree(((1, 100, 90), (32, 0, 0)), nesting=32), random.Random(1))
    counts = Counter(leaning.prefixes([32] * 1000)).most_common()
    assert len(counts) == 2
    assert counts[0][1] == pytest.approx(1000 / 1.1, abs=40)


def test_a_seed_that_has_too_few_filters_is_an_error() -> None:
    poor = replace(SEEDS["acl"], protocols=(("icmp", 1, NO_PORTS),), lengths={"": (((0, 1), 1),)})
    with pytest.raises(ValueError, match="only 2 different filters of 10"):
        filter_set(poor, random.Random(1), 10)
