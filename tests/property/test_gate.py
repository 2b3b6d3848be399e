"""The gate agrees with decide(): where it tells no opening, no ENI that joins can receive or send what was dropped.

ENIs with addresses by chance are put into groups, alone or in combinations that the states show, into both states (or
only the second, where the first has none of the groups). Some of them are in the group that rules name and no state
has, alone or together with one that a state has. No packet that was dropped may be accepted, unless something is told
of the groups of the ENI that judges it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import Phase, given, seed, settings

from sgdataplane.analyse import members
from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.hypothetical import EniPlace, HypotheticalDiff, _DirectionView, _Shown
from sgdataplane.analyse.members import MemberOpenings
from sgdataplane.analyse.regions import Block
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni, GroupType, NetworkType, NicType, SecurityGroup
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Address, Direction, Family, Verdict
from sgdataplane.policy.reach import Reach
from tests.support.inputs import gen
from tests.support.inputs.changes import Change, changes
from tests.support.run.amounts import shards

STATES, FEW, SHARDS, JOINING, PACKETS = 40, 28, 2, 4, 60
UNKNOWN = "sg-unknown"  # as in gen.py
Groups = tuple[str, ...]


def openings(diff: StateDiff, after: CloudState) -> set[tuple[Groups, NicType]]:
    """The groups of ENIs, real ones or not, at which something is told to open."""
    found = {
        (tuple(sorted(after.eni[eni].security_group_ids)), after.eni[eni].nic_type)
        for eni in after.eni
        if any(change.is_opening for change in diff.at(eni).changes)
    }
    told = {
        (would.place.security_group_ids, would.place.nic_type)
        for place in diff.hypothetical.places()
        for would in diff.hypothetical.at(place)
    }
    return found | {(known(after, groups), nic) for groups, nic in told}


def combinations(states: tuple[CloudState, CloudState]) -> list[tuple[Groups, NicType]]:
    shown = {(tuple(sorted(eni.security_group_ids)), eni.nic_type) for state in states for eni in state.judged_enis}
    is_classic = states[1].vpcs[0].network_type is NetworkType.CLASSIC
    nics = tuple(NicType) if is_classic else (NicType.INTRANET,)
    groups = {group.security_group_id: group for state in states for group in state.security_groups}
    alone = {((group_id,), nic) for group_id in groups for nic in nics}
    basic = [group_id for group_id, group in groups.items() if group.security_group_type is GroupType.NORMAL]
    strangers = {((group_id, UNKNOWN), NicType.INTRANET) for group_id in basic if group_id != UNKNOWN}
    return sorted(shown | alone | strangers, key=str)


def completed(state: CloudState) -> CloudState:
    """The state with the group that it lacks."""
    groups = (*state.security_groups, SecurityGroup(UNKNOWN, gen.VPC_ID))
    return replace(state, security_groups=groups)


def joined(
    states: tuple[CloudState, CloudState], chance: random.Random
) -> tuple[tuple[CloudState, CloudState], list[Eni]]:
    """Both states with some more ENIs, and these as they are in the second one."""
    before, after = states
    taken = {address for state in states for eni in state.network_interfaces for address in eni.addresses}
    delegated = [p for state in states for eni in state.network_interfaces for p in eni.delegated_prefixes]
    found = []
    for number, (groups, nic) in enumerate(chance.choices(combinations(states), k=JOINING)):
        addresses = [
            address
            for family in Family
            for address in [Address(family.bits, gen.BASE[family] + chance.randrange(64))]
            if address not in taken and not any(address in prefix for prefix in delegated)
        ]
        taken |= set(addresses)
        v4, v6 = (tuple(a for a in addresses if a.family is family) for family in Family)
        eni = Eni(f"eni-joins-{number}", gen.VPC_ID, f"00:16:3e:00:ff:{number:02x}", v4, (), "", ipv6_addresses=v6)
        then, now = (replace(eni, security_group_ids=known(state, groups), nic_type=nic) for state in states)
        if now.security_group_ids:
            before, after = with_eni(before, then), with_eni(after, now)
            found.append(now)
    return (before, after), found


def known(state: CloudState, groups: Groups) -> Groups:
    return tuple(group for group in groups if group in state.group)


def with_eni(state: CloudState, eni: Eni) -> CloudState:
    """An ENI in no group isn't there."""
    if not eni.security_group_ids:
        return state
    enis = sorted((*state.network_interfaces, eni), key=lambda each: each.network_interface_id)
    return replace(state, network_interfaces=tuple(enis))


def opens(states: tuple[CloudState, CloudState], packet: Packet, options: Options) -> bool:
    before, after = states
    if packet.eni_id not in after.eni or decide(after, packet, options).verdict is Verdict.DROP:
        return False
    return packet.eni_id not in before.eni or decide(before, packet, options).verdict is Verdict.DROP


def tried(states: tuple[CloudState, CloudState], joining: list[Eni], chance: random.Random) -> Iterator[Packet]:
    """Packets at any ENI, many of them between ENIs that joined and others."""
    packets = [packet for state in states for packet in gen.packets(state, chance, PACKETS)]
    for packet in packets:
        yield packet
        ends = [a for eni in joining for a in eni.addresses if a.family is packet.family]
        if ends:
            yield replace(packet, remote=chance.choice(ends))
            eni = chance.choice(joining)
            own = [a for a in eni.addresses if a.family is packet.family]
            if own:
                yield replace(packet, eni_id=eni.network_interface_id, local=chance.choice(own))


def check_gate(change: Change) -> dict[str, int]:
    options, chance = change.options, change.chance
    told = openings(StateDiff(*change.states, options), change.after)
    (before, after), joining = joined((completed(change.before), completed(change.after)), chance)
    strangers = {address for eni in joining if UNKNOWN in eni.security_group_ids for address in eni.addresses}
    counted = dict.fromkeys(("opens", "quiet", "strange"), 0)
    for packet in tried((before, after), joining, chance):
        if packet.eni_id not in after.eni or UNKNOWN in after.eni[packet.eni_id].security_group_ids:
            continue
        eni = after.eni[packet.eni_id]
        is_told = (tuple(sorted(eni.security_group_ids)), eni.nic_type) in told
        is_open = opens((before, after), packet, options)
        assert is_told or not is_open, (packet, eni)
        counted["opens"] += is_open
        counted["quiet"] += not is_told
        counted["strange"] += is_open and packet.remote in strangers
    return counted


@shards(SHARDS, few=FEW, many=STATES)
def test_no_eni_that_joins_is_open_where_nothing_is_told(shard: int, states: int) -> None:
    total = dict.fromkeys(("opens", "quiet", "strange"), 0)

    @seed(shard)
    @settings(max_examples=states, database=None, deadline=None)
    @given(changes())
    def check(change: Change) -> None:
        for name, count in check_gate(change).items():
            total[name] += count

    check()
    print(total)
    assert min(total.values()) > states


def _only(method: Callable[..., Iterable[EniPlace]], keep: Callable[[EniPlace], bool]) -> Callable[..., list[EniPlace]]:
    return lambda self: [place for place in method(self) if keep(place)]


def _not_on(keep: Callable[[_DirectionView], bool]) -> Callable[..., tuple[object, ...]]:
    opening = _DirectionView.list_openings
    return lambda side, *args: opening(side, *args) if keep(side) else ()


def _shown_by_any(self: _Shown, block: Block, _: object) -> Block | None:
    return None if self.enis else block


MUTANTS: dict[str, tuple[object, str, object]] = {
    "no group alone": (HypotheticalDiff, "places", _only(HypotheticalDiff.places, lambda p: len(p[1]) > 1)),
    "no combination": (HypotheticalDiff, "places", _only(HypotheticalDiff.places, lambda p: len(p[1]) == 1)),
    "no member at the other end": (MemberOpenings, "of", lambda *_: iter(())),
    "members of named groups only by themselves": (MemberOpenings, "_list_named", lambda *_: frozenset()),
    "no member of a group that the states lack": (MemberOpenings, "of_unknown", lambda *_: iter(())),
    "such members in no other group": (members, "product", lambda *_: ()),
    "no ENI that moves into sight of such a group": (HypotheticalDiff, "_joining", {}),
    "no egress": (_DirectionView, "list_openings", _not_on(lambda side: side.direction is Direction.INGRESS)),
    "no ingress": (_DirectionView, "list_openings", _not_on(lambda side: side.direction is Direction.EGRESS)),
    "no IPv6": (_DirectionView, "list_openings", _not_on(lambda side: side.family is Family.IPV4)),
    "any ENI shows every address": (_Shown, "_find_left", _shown_by_any),
    "only groups whose rules change": (Reach, "touches_group", Reach.changes_rules),
    "only groups that change, not their lists": (Reach, "touches_group", lambda self, group: group in self._groups),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_gate_that_overlooks_something_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[name])

    @seed(0)
    @settings(max_examples=400, database=None, deadline=None, phases=(Phase.generate,), report_multiple_bugs=False)
    @given(changes())
    def check(change: Change) -> None:
        check_gate(change)

    with pytest.raises(AssertionError):
        check()
