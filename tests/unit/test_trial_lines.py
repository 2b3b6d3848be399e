"""A trial with very many lines counts several of them with one counter, exactly, and says so."""

from __future__ import annotations

from functools import cache

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Address, Direction
from sgdataplane.nft.interp import run
from sgdataplane.trial.lines import TrialLines, lines_at, with_counters
from sgdataplane.trial.linetext import line_as_plain, line_of
from sgdataplane.trial.tables import TrialPlace, compile_trial
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.models import wire

LINES, MOST = 240, 100


def many(first: int) -> CloudState:
    """Every second port is open, from there on."""
    ports = range(first, first + LINES, 2)
    rules = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in ports]
    return make_state([make_group("sg-a", rules)], [make_eni("eni-a", "10.0.0.5", "sg-a")])


@cache
def lines() -> TrialLines:
    """Half of 240 ports close, the others open; no two of a kind touch."""
    return lines_at(StateDiff(many(2), many(3)), ["eni-a"])


def test_very_many_lines_share_counters_and_are_counted_exactly() -> None:
    found = with_counters(lines().lines, MOST)
    assert (len(found.lines), found.is_merged, len(found.counter_names)) == (LINES, True, 2)
    table = compile_trial("t", TrialPlace(INSTANCE, {"eni-a": "eth0"}, DEFAULTS), found)
    sums = dict.fromkeys(found.counter_names, 0)
    for port in range(1, LINES + 5):
        packet = Packet(
            "eni-a", Direction.INGRESS, Address.parse("192.0.2.1"), Address.parse("10.0.0.5"), TCP, port, 40_000
        )
        for counter in run(table, "ingress", wire.opening(packet, "eth0")).counters:
            sums[counter] += 1
    assert sorted(sums.values()) == [LINES // 2, LINES // 2]


def test_counters_are_shared_no_more_than_they_must_be() -> None:
    few = with_counters(lines().lines[:MOST], MOST)
    assert (few.is_merged, len(few.counter_names)) == (False, MOST)
    assert with_counters(lines().lines[: MOST + 1], MOST).is_merged


def test_if_every_eni_has_too_many_all_share() -> None:
    """A direction that opens, and one that closes."""
    found = with_counters(lines().lines, 1)
    assert len(found.counter_names) == 2


def test_lines_are_read_as_they_were_written() -> None:
    for line in lines().lines[:20]:
        assert line_of(line_as_plain(line)) == line
