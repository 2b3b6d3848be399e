"""A suggestion accepts what was seen, opens nothing, and depends on what was seen alone: for states of every kind."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import Address, Prefix, Verdict
from sgdataplane.suggest.evidence import Passage, SeenFlow
from sgdataplane.suggest.result import Preferences, Suggestion
from sgdataplane.suggest.room import find_crowded_groups
from sgdataplane.suggest.solve import suggest
from tests.support.inputs import gen
from tests.support.run.amounts import few_or_many, holds_for

MANY, FEW, PACKETS = 60, 20, 40


def flow_of(packet: Packet, passage: Passage = Passage.UNKNOWN) -> SeenFlow:
    """The flow that a capture or history would tell of an opening packet."""
    return SeenFlow(
        packet.eni_id, packet.direction, (Prefix.of(packet.remote),), packet.protocol, packet.port, packet.local,
        packet.source_port, passage=passage,
    )  # fmt: skip


def as_seen(packet: Packet) -> Packet:
    """As evidence knows it: whether it was a SYN, and ICMP types, decide about no rule."""
    return replace(packet, is_syn=True, icmp_type=None, hop_limit=64)


def preferences() -> st.SearchStrategy[Preferences]:
    return st.builds(
        Preferences,
        ports=st.sampled_from(("exact", "range")),
        ends=st.sampled_from(("group", "address", "prefix")),
        allow_audited=st.booleans(),
        profile=st.just("unlimited"),
    )


def made(state: CloudState, options: Options, preferences: Preferences, number: int) -> tuple[list[Packet], Suggestion]:
    chance = random.Random(number)
    packets = [as_seen(packet) for packet in gen.packets(state, chance, PACKETS)]
    flows = [flow_of(packet, Passage.PASSED) for packet in packets]
    found = suggest(state, flows, preferences, options)
    chance.shuffle(flows)
    assert suggest(state, flows, preferences, options) == found, "the order of the evidence matters"
    return packets, found


def drop_rules(state: CloudState) -> set[tuple[str, SecurityGroupRule]]:
    groups = state.security_groups
    return {(g.security_group_id, rule) for g in groups for rule in g.rules if rule.policy is Verdict.DROP}


def check_each(
    state: CloudState, options: Options, preferences: Preferences, number: int, counted: Counter[str]
) -> None:
    packets, found = made(state, options, preferences, number)
    for packet in packets:
        if decide(state, packet, options).verdict is Verdict.ACCEPT:
            assert decide(found.after, packet, options).verdict is Verdict.ACCEPT, packet
            counted["accepted"] += 1
    for one in found.refused:
        if one.is_allowed:
            assert decide(found.after, one.packet, options).verdict is Verdict.ACCEPT, one
            counted["allowed"] += 1
    others = [as_seen(packet) for packet in gen.packets(state, random.Random(number + 1), 3 * PACKETS)]
    for packet in others:
        verdicts = [decide(one, packet, options).verdict for one in (state, found.after)]
        if not any(one.is_allowed for one in found.refused):
            assert verdicts != [Verdict.DROP, Verdict.ACCEPT], packet
        counted["closed"] += verdicts == [Verdict.ACCEPT, Verdict.DROP]
    assert drop_rules(state) <= drop_rules(found.after), "a drop rule is gone"
    counted["narrower"] += bool(found.difference.enis)


@few_or_many("examples", FEW, MANY)
def test_what_was_seen_passes_and_nothing_opens(examples: int) -> None:
    counted: Counter[str] = Counter()

    @seed(1)
    @settings(max_examples=examples, database=None, deadline=None)
    @given(gen.states(), gen.options(), preferences(), st.integers(0, 1 << 32))
    def check(state: CloudState, options: Options, preferences: Preferences, number: int) -> None:
        check_each(state, options, preferences, number, counted)

    check()
    print(counted)
    assert min(counted[what] for what in ("accepted", "closed", "allowed", "narrower")) > examples / 4


@holds_for(gen.states(), gen.options(), preferences(), st.integers(0, 1 << 32), few=FEW, many=MANY, first=2)
def test_a_suggestion_of_a_suggestion_changes_nothing(
    state: CloudState, options: Options, preferences: Preferences, number: int
) -> None:
    preferences = replace(preferences, allow_audited=False)
    packets, found = made(state, options, preferences, number)
    flows = [flow_of(p) for p in packets if decide(found.after, p, options).verdict is Verdict.ACCEPT]
    if flows:
        again = suggest(found.after, flows, preferences, options)
        assert not again.difference.enis, again.difference.enis
        assert all(decide(again.after, p, options).verdict is Verdict.ACCEPT for p in packets if flow_of(p) in flows)


@holds_for(gen.states(), preferences(), st.integers(0, 1 << 32), few=FEW, many=MANY, first=3)
def test_the_quotas_hold(state: CloudState, preferences: Preferences, number: int) -> None:
    preferences = replace(preferences, profile="seed")
    if not find_crowded_groups(state, "seed"):
        _, found = made(state, Options(), preferences, number)
        assert find_crowded_groups(found.after, "seed") == {}


def loose(packet: Packet, length: int) -> SeenFlow:
    """The flow as history may tell it: without the ENI's address and the source port, and with a block for the end."""
    end = Prefix.of(packet.remote)
    bits = end.family_bits - length
    block = Prefix(end.family_bits, end.first >> length << length, bits)
    return replace(flow_of(packet, Passage.PASSED), remotes=(block,), local=None, source_port=None)


@holds_for(gen.states(), gen.options(), preferences(), st.integers(0, 1 << 32), few=FEW, many=MANY, first=4)
def test_whatever_loose_evidence_may_have_been_passes(
    state: CloudState, options: Options, preferences: Preferences, number: int
) -> None:
    """Of all that the flow may have been, what the state accepts is accepted."""
    chance, preferences = random.Random(number), replace(preferences, allow_audited=False)
    packets = [as_seen(packet) for packet in gen.packets(state, chance, PACKETS // 2)]
    flows = [loose(packet, chance.choice((0, 1, 4, 8))) for packet in packets]
    found = suggest(state, flows, preferences, options)
    assert not found.difference.is_open
    for flow, packet in zip(flows, packets, strict=True):
        block = flow.remotes[0]
        for _ in range(8):
            far = Address(block.family_bits, chance.randint(block.first, block.last))
            own = [address for address in state.eni[flow.eni_id].addresses if address.family is far.family]
            one = replace(packet, remote=far, local=chance.choice(own or [packet.local]))
            if packet.source_port is not None:
                one = replace(one, source_port=chance.choice((EPHEMERAL, packet.source_port)))
            if own and decide(state, one, options).verdict is Verdict.ACCEPT and not is_between(state, one):
                assert decide(found.after, one, options).verdict is Verdict.ACCEPT, one


def is_between(state: CloudState, packet: Packet) -> bool:
    """Whether its source port is neither that of anybody, nor the first of a rule's range: those alone are tried."""
    rules_ = [rule for group in state.eni[packet.eni_id].security_group_ids for rule in state.group[group].rules]
    first = {rule.source_port_range.first for rule in rules_ if rule.source_port_range is not None}
    return packet.source_port is not None and packet.source_port not in first | {EPHEMERAL}
