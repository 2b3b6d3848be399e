"""diff agrees with decide() in both states: at the corners of rows, just beyond them, and for packets anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.model.decision import ABSENT, Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Verdict
from sgdataplane.policy.dimensions import LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT
from tests.support.inputs import gen, rewrites
from tests.support.inputs.changes import Change, changes
from tests.support.models.regions import in_change
from tests.support.run.amounts import holds_for, shards

STATES, FEW, SHARDS = 25, 18, 2
PACKETS, ROWS, CORNERS = 30, 8, 20  # of each pair of states: packets anywhere, rows looked at, packets about each


def decisions(states: tuple[CloudState, CloudState], packet: Packet, options: Options) -> tuple[Decision, ...]:
    """The decisions before and after. Nothing passes an ENI that isn't there."""
    absent = Decision(packet.direction, Verdict.DROP, ABSENT)
    return tuple(decide(state, packet, options) if packet.eni_id in state.eni else absent for state in states)


def as_told(both: Iterable[Decision]) -> list[dict[str, object]]:
    """A row needn't say why packets for an address that the ENI doesn't have never pass."""
    return [{**decision.as_json()} for decision in both]


def is_judged(both: tuple[Decision, ...]) -> bool:
    """Whether rules are asked before or after. No row is about other traffic."""
    return not all(decision.is_fixed for decision in both)


def corners(change: VerdictChange, states: tuple[CloudState, CloudState], beyond: int) -> Iterator[Packet]:
    """Packets at the ends of the row in each dimension and, if `beyond` is 1, also just outside it."""

    def ends(interval: Interval | None, last: int = 65535) -> list[int]:
        first, end = interval or (0, last)
        return sorted({max(first - beyond, 0), first, end, min(end + beyond, last)})

    bits, last = change.family.bits, change.family.last
    near = change.of(LOCAL)
    numbers = (
        ends(change.of(REMOTE), last),
        locals_of(change, states) if near is None else ends(near, last),
        ends(change.of(PROTOCOL), 255),
        ends(change.of(SOURCE_PORT)),
        ends(change.of(PORT)),
    )
    for far, own, protocol, source, port in product(*numbers):
        ports = (port, source) if protocol in PORT_PROTOCOLS else (None, None)
        yield Packet(change.eni_id, change.direction, Address(bits, far), Address(bits, own), protocol, *ports)


def locals_of(change: VerdictChange, states: tuple[CloudState, CloudState]) -> list[int]:
    """The ENI's addresses, and some that it shares with others."""
    enis = [state.eni[change.eni_id] for state in states if change.eni_id in state.eni]
    own = {p.first for eni in enis for p in eni.own_prefixes if p.family is change.family}
    shared = (Address.parse(text) for text in ("224.0.0.1", "ff02::1", "fe80::77"))
    return [*own, *(address.value for address in shared if address.family is change.family)]


def check_diff(states: tuple[CloudState, CloudState], options: Options, chance: random.Random) -> int:
    """The number of rows."""
    diff = StateDiff(*states, options)
    found = [change for eni_id in diff.list_concerned() for change in diff.at(eni_id).changes]
    packets = [p for state in states for p in gen.packets(state, chance, PACKETS)]
    for change in chance.sample(found, min(len(found), ROWS)):
        inside = corners(change, states, 0)
        assert any(is_judged(decisions(states, packet, options)) for packet in inside), f"a row of nothing: {change}"
        tried = list(corners(change, states, 1))
        packets += chance.sample(tried, min(len(tried), CORNERS))
    for packet in packets:
        both = decisions(states, packet, options)
        told = [as_told((row.before, row.after)) for row in found if in_change(row, packet)]
        if is_judged(both):
            assert told == ([] if both[0].verdict is both[1].verdict else [as_told(both)]), packet
    return len(found)


@shards(SHARDS, few=FEW, many=STATES)
def test_rows_are_what_changes_and_nothing_else(shard: int, states: int) -> None:
    counted = {"rows": 0, "empty": 0}

    @seed(shard)
    @settings(max_examples=states, database=None, deadline=None)
    @given(changes())
    def check(change: Change) -> None:
        rows = check_diff(change.states, change.options, change.chance)
        counted["rows"] += rows
        counted["empty"] += not rows

    check()
    print(counted)
    assert counted["rows"] > 2 * states


@holds_for(gen.states(), gen.options(), st.integers(0, 1 << 32), few=FEW, many=2 * STATES, first=0)
def test_the_same_policy_written_differently_is_no_change(state: CloudState, options: Options, number: int) -> None:
    other = rewrites.rewritten(state, random.Random(number))
    diff = StateDiff(state, other, options)
    assert [change for eni in state.eni for change in diff.at(eni).changes] == []
    back = StateDiff(other, state, options)
    assert [change for eni in state.eni for change in back.at(eni).changes] == []
