"""A trial's table that is changed in one place counts some packet wrongly: what the property test compares shows it."""

from __future__ import annotations

import random

import pytest

from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.marks import HALF
from sgdataplane.errors import InternalError
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
from sgdataplane.trial.lines import TrialLine
from sgdataplane.trial.tables import TrialPlace, base_name, compile_trial
from tests.support import wire
from tests.support.mutate import (
    change_count,
    drop_count,
    drop_entry,
    drop_rule,
    move_entry,
    mutants,
    retarget_entry,
    retarget_verdict,
    swap_entries,
)
from tests.support.smallstates import small_state
from tests.support.trialing import edges_of, packets_beside, packets_in, special_packets, trial_of

KINDS = (change_count, drop_count, drop_entry, drop_rule, move_entry, retarget_entry, retarget_verdict, swap_entries)
PAIRS = [(1, 8), (2, 9), (3, 5)]
MUTANTS, MUST_DIE, EDGES, INSIDE = 30, 25, 20, 10
Counted = list[list[str] | None]


def fields_of(packet: Packet, place: TrialPlace) -> list[dict[Field, Key]]:
    """The packet as the first of its session; of a session that is accepted; and as one of an established session."""
    opening = wire.opening(packet, place.interfaces[packet.eni_id], place.site.placement)
    if Field.CT_MARK not in opening:
        return [opening]
    mark = HALF[packet.direction] & 0x00410041
    return [opening, opening | {Field.CT_MARK: mark}, opening | {Field.CT_STATE: CtState.ESTABLISHED}]


def counts(table: Table, packets: list[tuple[str, dict[Field, Key]]]) -> Counted:
    """What each packet is counted as; None if it meets what can't be interpreted."""
    return [_counters(table, base, fields) for base, fields in packets]


def _counters(table: Table, base: str, fields: dict[Field, Key]) -> list[str] | None:
    try:
        return run(table, base, fields).counters if base in table.chain else []
    except (InternalError, RecursionError):  # the latter: it goes round in circles, which the kernel refuses
        return None


def is_killed(found: Counted, right: Counted) -> bool:
    """Whether some packet is counted wrongly. That it can't be interpreted is no wrong count."""
    return any(mine is not None and mine != one for mine, one in zip(found, right, strict=True))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_mutants_die(one: int, other: int, placement: str) -> None:
    states: tuple[CloudState, CloudState] = small_state(one), small_state(other)
    chance = random.Random(one * 100 + other)
    place, found = trial_of(states, DEFAULTS, placement)
    table = compile_trial("t", place, found)
    assert len(found.lines) > 1
    told = [packet for line in found.lines for packet in packets_of(line, chance)]
    packets = [(base_name(packet.direction), fields) for packet in told for fields in fields_of(packet, place)]
    right = counts(table, packets)
    assert None not in right
    assert any(right)
    killed, living = 0, list[str]()
    for mutant in mutants(table, chance, MUTANTS, KINDS):
        found_now = counts(mutant.table, packets)
        if is_killed(found_now, right):
            killed += 1
        elif None not in found_now:  # else the kernel refuses it, or there is no such packet
            living.append(mutant.what)
    print(killed, living, Placement(placement))
    assert living == []
    assert killed >= MUST_DIE


def packets_of(line: TrialLine, chance: random.Random) -> list[Packet]:
    beside = packets_beside(line, chance)
    return [*edges_of(line, chance, EDGES), *packets_in(line, chance, INSIDE), *beside, *special_packets(line)]
