"""The list of dimensions and the proof's own list agree with decide(): for every rule and packet, each dimension gives
what the specification gives, and none is missing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.semantics import rule_candidates, rule_matches
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.ranges import Ranges, holds
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import CONDITIONS, DIMENSIONS, Condition
from sgdataplane.policy.resolve import resolve_rule
from sgdataplane.proof.spec.claims import AXES, Claim, claims
from tests.support.inputs import gen

STATES, PACKETS = 40, 40
# No packet is compared with these. A new field of rules is named here, or is of a dimension.
NOT_ASKED = {"security_group_rule_id", "direction", "policy", "priority", "nic_type", "description"}
ASKED = {
    "protocol": {"ip_protocol"},
    "local": {"narrowing"},
    "source_port": {"source_port_range"},
    "port": {"port_range", "port_list_id"},
    "remote": {"remote"},
}


def is_in(ranges: Ranges | None, value: int | None) -> bool:
    return ranges is None or (value is not None and holds(ranges, value))


def axes_of(claim: Claim) -> dict[str, Ranges | None]:
    """By name, as the proof reads them from the rule."""
    read = {axis.name: ranges for axis, ranges in zip(AXES, claim.ranges, strict=True)}
    return {
        name: None if ranges is None else tuple((int(r.first), int(r.last)) for r in ranges)
        for name, ranges in read.items()
    }


def test_every_field_of_a_rule_is_of_one_dimension_or_of_none() -> None:
    assert ASKED.keys() == {each.name for each in DIMENSIONS}
    asked = [name for names in ASKED.values() for name in names]
    assert sorted([*asked, *NOT_ASKED]) == sorted(field.name for field in fields(SecurityGroupRule))


def test_the_proof_has_a_list_of_its_own_of_the_same_dimensions() -> None:
    assert sorted(axis.name for axis in AXES) == sorted(each.name for each in CONDITIONS)
    for family in Family:
        lasts = {axis.name: axis.last(family) for axis in AXES}
        assert lasts == {each.name: each.domain.last(family) for each in CONDITIONS}


def test_names_are_told_apart() -> None:
    for names in ([each.name for each in DIMENSIONS], [each.key for each in DIMENSIONS]):
        assert len(set(names)) == len(DIMENSIONS)


def test_each_dimension_says_what_decide_says() -> None:
    seen: Counter[tuple[str, bool]] = Counter()

    @seed(1206)
    @settings(max_examples=STATES, database=None, deadline=None)
    @given(gen.states(), st.integers(0, 1 << 32))
    def check(state: CloudState, number: int) -> None:
        for packet in gen.packets(state, random.Random(number), PACKETS):
            eni = state.eni[packet.eni_id]
            claimed = {c.decision: c for c in claims(state, eni, packet.direction, packet.family, DEFAULTS)}
            for candidate in rule_candidates(state, eni, packet.direction):
                group, rule = candidate.group, candidate.rule
                assert group is not None
                assert rule is not None
                said = [each.matches(state, group, rule, packet) for each in DIMENSIONS]
                assert all(said) == rule_matches(state, group, rule, packet)
                permission, claim = resolve_rule(state, group, rule), claimed.get(candidate.decision)
                assert claim is not None or not all(said), "it can't match in that family"
                read = {} if claim is None else axes_of(claim)
                for each, is_right in zip(DIMENSIONS, said, strict=True):
                    seen[each.name, is_right] += 1
                    if isinstance(each, Condition):
                        ranges = each.of_rule(permission, packet.family)
                        assert is_in(ranges, each.of_packet(packet)) == is_right, (each.name, rule, packet)
                        is_claimed = is_in(read.get(each.name), each.of_packet(packet))
                        assert claim is None or is_claimed == is_right, (each.name, rule, packet)

    check()
    print(seen)
    assert seen.keys() == {(each.name, is_right) for each in DIMENSIONS for is_right in (True, False)}


def test_numbers_read_the_same_as_they_did() -> None:
    """Programs read both ends, people the shortest form."""
    by_name = {each.name: each.domain for each in DIMENSIONS}
    block, some = (0x0A000000, 0x0A0000FF), (0x0A000001, 0x0A000005)
    assert by_name["local"].exact(block, Family.IPV4) == "10.0.0.0-10.0.0.255"
    assert by_name["local"].short(block, Family.IPV4) == "10.0.0.0/24"
    assert by_name["remote"].short(some, Family.IPV4) == "10.0.0.1-10.0.0.5"
    assert by_name["remote"].short((1, 1), Family.IPV6) == "::1"
    assert by_name["port"].exact((22, 22), Family.IPV4) == "22-22"
    assert by_name["port"].short((22, 22), Family.IPV4) == "22"
    protocols = [by_name["protocol"].exact(interval, Family.IPV4) for interval in ((6, 6), (0, 255), (7, 9))]
    assert protocols == ["tcp", "all", "7-9"]
