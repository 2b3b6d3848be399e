"""Findings agree with decide(): what they say about rules is true for every packet. In small states, where every kind
of packet can be tried, they say everything that is true.

A group without ENIs is judged as if one ENI, with any addresses, were in it alone; here it gets one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.arrangement import Budget
from sgdataplane.analyse.internet import GLOBAL, NOT_GLOBAL, SENSITIVE, internet
from sgdataplane.analyse.review import review
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.semantics import candidates, decide, is_on_interface, remote_matches
from sgdataplane.model.state import CloudState, Eni, GroupType, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import holds
from sgdataplane.net.values import GRE, TCP, UDP, Address, Direction, Family, Prefix, Verdict
from tests.support.inputs import gen
from tests.support.models.smallstates import FAR, every_packet, local_points, points, small_state, with_lone_enis
from tests.support.run.amounts import shards

# Seeds of small states.
SEEDS = (
    pytest.param(range(20), id="0-19"),
    pytest.param(range(20, 440), id="20-439", marks=pytest.mark.slow),
)
SHARDS, LARGER, FEW, PACKETS = 2, 30, 20, 150  # generated states with all features
Key = tuple[str, str]
OF_NO_RULE = ("UnusedGroup", "InAuditMode")  # findings about something else


def key(decision: Decision) -> Key:
    return decision.security_group_id or "", decision.security_group_rule_id or ""


def reported(state: CloudState, budget: Budget | None = None, options: Options = DEFAULTS) -> dict[str, dict[Key, str]]:
    """Code -> rule -> message."""
    found: dict[str, dict[Key, str]] = {}
    for finding in review(state, budget, options):
        ids = dict(finding.subject)
        rule = ids.get("security_group_id", ""), ids.get("security_group_rule_id", "")
        found.setdefault(finding.code, {})[rule] = finding.message
    return found


def without(state: CloudState, rules: Iterable[Key]) -> CloudState:
    gone = set(rules)
    groups = tuple(
        replace(g, rules=tuple(r for r in g.rules if (g.security_group_id, r.security_group_rule_id) not in gone))
        for g in state.security_groups
    )
    return replace(state, security_groups=groups)


@dataclass
class Truth:
    """What trying every packet at every ENI shows, as sets of rules."""

    state: CloudState
    options: Options = DEFAULTS
    matching: set[Key] = field(default_factory=set)
    deciding: set[Key] = field(default_factory=set)
    needed: set[Key] = field(default_factory=set)
    opposed: set[Key] = field(default_factory=set)
    voided: set[Key] = field(default_factory=set)  # hidden by inner accept, which is the opposite
    tied: set[Key] = field(default_factory=set)
    void: set[Key] = field(default_factory=set)

    def look(self) -> Truth:
        for eni in self.state.network_interfaces:
            for direction in Direction:
                for packet in every_packet(self.state, eni, direction):
                    self._look(eni, packet, list(candidates(self.state, eni, packet, self.options)))
        return self

    def _look(self, eni: Eni, packet: Packet, found: list[Decision]) -> None:
        first, *others = found
        self.matching |= {key(decision) for decision in found if decision.reason == "rule"}
        for other in others:
            if other.reason == "rule" and other.verdict is not first.verdict:
                (self.opposed if first.reason == "rule" else self.voided).add(key(other))
        if first.reason == "rule":
            self.deciding.add(key(first))
            if others[0].verdict is not first.verdict or eni.network_interface_id.startswith("lone-"):
                self.needed.add(key(first))
        if is_from_elsewhere(eni, packet) and decide(self.state, packet, self.options).enforced == first:
            self._look_closer(first, others)

    def _look_closer(self, first: Decision, others: list[Decision]) -> None:
        if first.reason == "rule" and first.verdict is Verdict.DROP:
            rivals = [d for d in others if d.verdict is Verdict.ACCEPT and d.priority == first.priority]
            self.tied |= {key(decision) for decision in rivals if decision.reason == "rule"}
        strongest = next((d for d in others if d.reason == "rule"), None)
        if first.reason == "inner_accept" and strongest is not None and strongest.verdict is Verdict.DROP:
            self.void.add(key(strongest))

    @property
    def shadowed(self) -> set[Key]:
        return self.opposed - self.deciding


def is_from_elsewhere(eni: Eni, packet: Packet) -> bool:
    """Whether it is between an address of the ENI and one of another."""
    is_own = any(packet.local in prefix for prefix in eni.own_prefixes)
    return is_own and not any(packet.remote in prefix for prefix in eni.private_prefixes)


@pytest.mark.parametrize("options", [DEFAULTS, Options(inner_accept_egress="custom_first")], ids=["", "custom first"])
@pytest.mark.parametrize("seeds", SEEDS)
def test_of_small_states_all_that_is_true_of_rules_is_said_and_nothing_else(seeds: range, options: Options) -> None:
    counts: dict[str, int] = {}
    for number in seeds:
        state = small_state(number)
        found, truth = reported(state, options=options), Truth(with_lone_enis(state), options).look()
        nothing = set(found.get("RemoteMatchesNothing", ())) | set(found.get("RuleNeverMatches", ()))
        assert set(found.get("ShadowedRule", ())) == truth.shadowed - nothing, number
        assert set(found.get("TieDecidedByDrop", ())) == truth.tied - truth.shadowed, number
        assert set(found.get("VoidDrop", ())) == truth.void, number
        check_redundant(set(found.get("RedundantRule", ())), truth, nothing, number)
        check_nothing(state, nothing, truth, number)
        for code, rules in found.items():
            counts[code] = counts.get(code, 0) + len(rules)
    assert not {"ShadowedRule", "TieDecidedByDrop", "VoidDrop", "RedundantRule"} - counts.keys(), counts


def check_redundant(found: set[Key], truth: Truth, nothing: set[Key], number: int) -> None:
    """All rules that are reported can go, alone and together. No other rule can, unless another finding reports it."""
    assert found <= truth.matching - truth.needed, number
    assert is_like(truth, without(truth.state, found)), number  # each alone: `needed` says so
    hidden = truth.matching - truth.deciding
    for rule in truth.matching - truth.needed - found - nothing - (hidden & (truth.opposed | truth.voided)):
        assert not is_like(truth, without(truth.state, {*found, rule})), (number, rule)


def is_like(truth: Truth, other: CloudState) -> bool:
    """Whether every packet has the same verdict in both, spoofed ones included."""
    state, options = truth.state, truth.options
    return all(
        next(candidates(state, eni, packet, options)).verdict is next(candidates(other, eni, packet, options)).verdict
        for eni in state.network_interfaces
        for direction in Direction
        for packet in every_packet(state, eni, direction)
    )


def check_nothing(state: CloudState, nothing: set[Key], truth: Truth, number: int) -> None:
    """A rule that is said to match nothing may match only packets for no address of its ENIs."""
    every = {(g.security_group_id, r.security_group_rule_id): (g, r) for g in state.security_groups for r in g.rules}
    judged = {rule for rule, (group, of) in every.items() if is_judged(state, group, of)}
    assert judged - truth.matching <= nothing, number
    for rule in nothing & truth.matching:
        group, of = every[rule]
        enis = [e for e in state.enis_of_group[group.security_group_id] if is_on_interface(state, e, of)]
        own = [address for eni in enis for address in eni.addresses]
        assert own, (number, rule)
        assert of.narrowing is not None, (number, rule)
        assert not [address for address in own if address in of.narrowing], (number, rule)


def is_judged(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> bool:
    """Whether the group has an interface that the rule is for."""
    enis = with_lone_enis(state).enis_of_group[group.security_group_id]
    return any(is_on_interface(state, eni, rule) for eni in enis)


@pytest.mark.parametrize("seeds", SEEDS)
def test_of_small_states_all_that_the_internet_gets_at_is_said_and_nothing_else(seeds: range) -> None:
    count = 0
    for number in seeds:
        state = small_state(number)
        found = reported(state)
        said: set[tuple[Key, int | None]] = {
            (rule, port)
            for rule, message in found.get("WideOpenIngress", {}).items()
            for port in (
                SENSITIVE if "every protocol and port" in message else map(int, re.findall(r"\((\d+)\)", message))
            )
        }
        said |= {(rule, None) for rule in found.get("WideOpenEgress", {})}
        assert said == set(open_doors(with_lone_enis(state))), number
        count += len(said)
    assert count > len(seeds) / 2


def open_doors(state: CloudState) -> Iterator[tuple[Key, int | None]]:
    """(rule, port), found by trying each sensitive port of each address from an address of each piece of the internet.
    Port None: everything that an advanced group's ENI sends."""
    for eni in state.network_interfaces:
        of_eni = {(g, r.security_group_rule_id): r for g in eni.security_group_ids for r in state.group[g].rules}
        is_advanced = state.group[eni.security_group_ids[0]].security_group_type is GroupType.ENTERPRISE
        for family in Family:
            outside = [far for far in points(map(Prefix.parse, PIECES[family]), family) if is_outside(far)]
            tries = [(Direction.INGRESS, port) for port in SENSITIVE] + [(Direction.EGRESS, None)] * is_advanced
            for direction, port in tries:
                rules = [rule for rule in of_eni.values() if rule.direction is direction]
                for local in local_points(eni, rules, family):
                    accepting = {}
                    for packet in knocks(eni, direction, port, outside, local):
                        decision = decide(state, packet).enforced
                        rule = of_eni.get(key(decision))
                        if decision.verdict is Verdict.ACCEPT and rule and (port or rule.ip_protocol.is_all):
                            accepting[key(decision)] = rule
                    yield from ((rule, port) for rule in covering(state, accepting, outside))


PIECES = {family: (*FAR[family], *GLOBAL[family], *NOT_GLOBAL[family]) for family in Family}


def is_outside(far: Address) -> bool:
    return holds(internet(far.family, ()), far.value)


def knocks(
    eni: Eni, direction: Direction, port: int | None, outside: Iterable[Address], local: Address
) -> Iterator[Packet]:
    for far, source in product(outside, (500, 1500)):
        if port is not None:
            yield Packet(eni.network_interface_id, direction, far, local, TCP, port, source)
            continue
        for protocol, dport in ((TCP, 22), (TCP, 80), (TCP, 5000), (UDP, 22), (UDP, 80), (TCP, 0)):
            yield Packet(eni.network_interface_id, direction, far, local, protocol, dport, source)
        yield Packet(eni.network_interface_id, direction, far, local, GRE)


def covering(state: CloudState, accepting: Mapping[Key, SecurityGroupRule], outside: list[Address]) -> set[Key]:
    """The rules that are each for everyone; if there is none, the fewest that are so together, the weakest ones."""

    def is_all(some: Iterable[Key]) -> bool:
        rules = [(state.group[rule[0]], accepting[rule]) for rule in some]
        return all(any(remote_matches(state, group, rule, far) for group, rule in rules) for far in outside)

    whole = {rule for rule in accepting if is_all([rule])}
    if whole or not is_all(accepting):
        return whole
    few = sorted(accepting, key=lambda rule: (accepting[rule].priority, rule))
    for rule in tuple(few):
        if is_all([other for other in few if other != rule]):
            few.remove(rule)
    return set(few)


@shards(SHARDS, few=FEW, many=LARGER)
def test_of_any_state_nothing_false_is_said(shard: int, states: int) -> None:
    @seed(shard)
    @settings(max_examples=states)
    @given(gen.states(), st.integers(0, 2**32))
    def check(state: CloudState, number: int) -> None:
        found = reported(state)
        names = {(g.security_group_id, r.security_group_rule_id) for g in state.security_groups for r in g.rules}
        assert {rule for code, rules in found.items() if code not in OF_NO_RULE for rule in rules} <= names
        redundant, shadowed = set(found.get("RedundantRule", ())), set(found.get("ShadowedRule", ()))
        one, all_gone = without(state, sorted(redundant)[:1]), without(state, redundant)
        for packet in gen.packets(state, random.Random(number), PACKETS):
            decision = decide(state, packet).enforced
            assert key(decision) not in shadowed
            assert decide(one, packet).enforced.verdict is decision.verdict
            assert decide(all_gone, packet).enforced.verdict is decision.verdict

    check()


@pytest.mark.parametrize("seeds", SEEDS)
def test_what_is_not_looked_at_makes_nothing_false(seeds: range) -> None:
    """With less to spend, less is reported, and one more finding says so."""
    cut_short = 0
    for number in seeds:
        state = small_state(number)
        every, found = reported(state), reported(state, Budget(number % 20, 40))
        cut_short += "NotExamined" in found
        for code in ("ShadowedRule", "VoidDrop", "WideOpenIngress", "WideOpenEgress"):
            assert found.get(code, {}).keys() <= every.get(code, {}).keys(), (number, code)
        all_gone = without(state, found.get("RedundantRule", ()))
        assert is_like(Truth(with_lone_enis(state)), with_lone_enis(all_gone)), number
    assert len(seeds) / 5 < cut_short < len(seeds)
