"""A trial's table counts a packet at a line if and only if `decide()` of both states differs as that line says."""

from __future__ import annotations

from hypothesis import Phase, given, seed, settings

from sgdataplane.contract.fields import Field
from sgdataplane.net.packet import Packet
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Table
from sgdataplane.trial.lines import TrialLines
from sgdataplane.trial.tables import LOOK_UPS, TrialPlace, base_name, compile_trial
from tests.support.inputs import gen
from tests.support.inputs.changes import Change, changes
from tests.support.models import wire
from tests.support.models.trialing import (
    decisions_of,
    edges_of,
    is_change,
    is_of,
    packets_beside,
    packets_in,
    special_packets,
    trial_of,
)
from tests.support.run.amounts import shards

SHARDS, STATES, FEW = 2, 20, 7
PACKETS, LINES, EDGES, INSIDE = 30, 8, 20, 5
NO_SHRINKING = (Phase.generate,)  # each example takes a second, and says which packet it is about


def counted(table: Table, place: TrialPlace, packet: Packet, **more: int) -> list[str]:
    """The counters that count the packet as the first of its session."""
    if base_name(packet.direction) not in table.chain:
        return []  # no line is of that direction
    fields = wire.opening(packet, place.interfaces[packet.eni_id], place.site.placement)
    fields |= {Field[name]: value for name, value in more.items()}
    outcome = run(table, base_name(packet.direction), fields)
    assert outcome.lookups <= LOOK_UPS + 1, outcome
    assert (outcome.mark, outcome.packet_mark, outcome.priority) == (fields.get(Field.CT_MARK, 0), 0, 0)
    return outcome.counters


def check_trial(change: Change, placement: str) -> int:
    """Check packets of both states, and of the lines; return how many of them were counted."""
    place, found = trial_of(change.states, change.options, placement)
    table = compile_trial("a", place, found)
    packets = [p for state in change.states for p in gen.packets(state, change.chance, PACKETS)]
    packets += [gen.discovery(change.states[0], change.chance) for _ in range(5)]
    for line in change.chance.sample(found.lines, min(LINES, len(found.lines))):
        packets += edges_of(line, change.chance, EDGES)
        packets += packets_in(line, change.chance, INSIDE)
        packets += packets_beside(line, change.chance)
        packets += list(special_packets(line))[:EDGES]
    return sum(check_packet(change, table, place, found, packet) for packet in packets)


def check_packet(change: Change, table: Table, place: TrialPlace, found: TrialLines, packet: Packet) -> bool:
    both = decisions_of(change.states, packet, change.options, place.site.placement)
    at = counted(table, place, packet)
    assert len(at) == is_change(both), (packet, both, at)
    lines = {found.counters[line.name]: line for line in found.lines}
    assert all(is_of(lines[counter], both) for counter in at), (packet, both)
    return bool(at)


@shards(SHARDS, few=FEW, many=STATES)
def test_a_packet_is_counted_where_both_states_differ_as_the_line_says(shard: int, states: int, placement: str) -> None:
    counts = list[int]()

    @seed(shard)
    @settings(max_examples=states, database=None, deadline=None, phases=NO_SHRINKING)
    @given(changes())
    def check(change: Change) -> None:
        counts.append(check_trial(change, placement))

    check()
    print(counts)
    assert sum(counts) > states
