"""A trial's table that is changed in one place counts some packet wrongly: what the property test compares shows it."""

from __future__ import annotations

import random

import pytest

from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.marks import HALF
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
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
from tests.support.trialing import edges_of, special_packets, trial_of

KINDS = (change_count, drop_count, drop_entry, drop_rule, move_entry, retarget_entry, retarget_verdict, swap_entries)
PAIRS = [(1, 8)]
MUTANTS, EDGES = 30, 40
MAY_LIVE = 3  # of them do the same as before, such as without a check of what an earlier one has left


def fields_of(packet: Packet, place: TrialPlace) -> list[dict[Field, Key]]:
    """The packet as the first of its session; of a session that is accepted; and as one of an established session."""
    opening = wire.opening(packet, place.interfaces[packet.eni_id], place.site.placement)
    if Field.CT_MARK not in opening:
        return [opening]
    mark = HALF[packet.direction] & 0x00410041
    return [opening, opening | {Field.CT_MARK: mark}, opening | {Field.CT_STATE: CtState.ESTABLISHED}]


def counts(table: Table, packets: list[tuple[str, dict[Field, Key]]]) -> list[object]:
    """What each packet is counted as; an error of the interpreter is a refusal of the kernel's."""
    try:
        return [run(table, base, fields).counters if base in table.chain else [] for base, fields in packets]
    except Exception as error:  # noqa: BLE001
        return [type(error).__name__]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_mutants_die(one: int, other: int, placement: str) -> None:
    states: tuple[CloudState, CloudState] = small_state(one), small_state(other)
    chance = random.Random(one * 100 + other)
    place, found = trial_of(states, DEFAULTS, placement)
    table = compile_trial("t", place, found)
    assert len(found.lines) > 1
    told = [packet for line in found.lines for packet in (*edges_of(line, chance, EDGES), *special_packets(line))]
    packets = [(base_name(packet.direction), fields) for packet in told for fields in fields_of(packet, place)]
    right = counts(table, packets)
    assert any(right)
    made = list(mutants(table, chance, MUTANTS, KINDS))
    survivors = [mutant.what for mutant in made if counts(mutant.table, packets) == right]
    print(len(made), survivors, Placement(placement))
    assert len(survivors) <= MAY_LIVE, survivors
