"""A trial with very many lines counts several of them with one counter, exactly, and says so."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.host.files import Survives
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Ranges, meet
from sgdataplane.net.values import TCP, Address, Direction
from sgdataplane.nft.interp import run
from sgdataplane.policy.dimensions import DIMENSIONS, PORT, REMOTE, Dimension
from sgdataplane.trial import lines as trial_lines
from sgdataplane.trial.lines import LineFinder, TrialLine, TrialLines, lines_at, with_counters
from sgdataplane.trial.linetext import line_as_plain, line_of
from sgdataplane.trial.record import TrialFolder, TrialRecord
from sgdataplane.trial.tables import TrialPlace, compile_trial
from sgdataplane.trial.trial import Trial
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


@pytest.mark.parametrize("lost", [0, 1])
def test_lines_whose_counters_were_lost_from_the_file_are_not_taken(lost: int, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials", Survives.THE_WRITER)
    folder.add(TrialRecord("t", "after.yaml", (), 0.0, 1.0), many(3))
    trial = Trial.load(folder, "t")
    trial.lines, trial.counters = {line.name: line for line in lines().lines}, dict(lines().counters)
    trial.note()
    seen = dict(folder.read_seen("t"))
    folder.note("t", seen | {"counters": list(trial.counters.values())[lost:]})
    found = Trial.load(folder, "t")
    assert (len(found.lines), len(found.counters)) == ((0, 0) if lost else (LINES, LINES))


def moved(line: TrialLine, chance: random.Random) -> TrialLine:
    """Return the line with other ranges, which may meet those of others in some dimensions."""
    starts = [chance.randrange(40) for _ in DIMENSIONS]
    ranges = tuple(chance.choice((None, (first, first + chance.randrange(9)))) for first in starts)
    return replace(line, change=replace(line.change, ranges=ranges))


def test_a_line_is_found_that_has_packets_in_common() -> None:
    chance, line = random.Random(35), lines().lines[0]
    everywhere = replace(line, judged=line.judged._replace(local=((0, 9), (20, 29)), far=((0, (1 << 32) - 1),)))
    found = set()
    for _ in range(300):
        one, *others = [moved(everywhere, chance) for _ in range(6)]
        pairs = [zip(one.ranges, other.ranges, strict=True) for other in others]
        expected = any(all(meet(*pair) for pair in some) for some in pairs)
        assert LineFinder(others).meets(one) is expected
        found.add(expected)
    assert found == {True, False}


def test_in_no_other_place_and_where_nothing_is_judged_none_is_found() -> None:
    line = lines().lines[0]
    assert LineFinder([line]).meets(line)
    assert not LineFinder([line]).meets(replace(line, change=replace(line.change, eni_id="eni-b")))
    unjudged = replace(line, judged=line.judged._replace(local=()))
    assert not LineFinder([unjudged, line]).meets(unjudged)
    assert not LineFinder([unjudged]).meets(line)


@pytest.mark.parametrize("dimension", [PORT, REMOTE], ids=["ports", "ends"])
def test_thousands_of_lines_are_compared_with_thousands_in_few_steps(
    dimension: Dimension, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply may make half of a trial's lines true. The agent has no time to compare each with each."""
    line, compared = lines().lines[0], []

    def counted(one: Ranges, other: Ranges) -> Ranges:
        compared.append(1)
        return meet(one, other)

    def line_at(port: int, end: int) -> TrialLine:
        numbers = {PORT: port, REMOTE: end}
        parts = (numbers.get(each) for each in DIMENSIONS)
        ranges = tuple(None if number is None else (number, number) for number in parts)
        return replace(line, change=replace(line.change, ranges=ranges))

    every = {place: line_at(*place) for place in product(range(100), range(40))}
    at = (PORT, REMOTE).index(dimension)
    stay = [found for place, found in every.items() if place[at] % 2]
    monkeypatch.setattr(trial_lines, "meet", counted)
    finder = LineFinder(stay)
    assert [finder.meets(found) for found in every.values()] == [place[at] % 2 == 1 for place in every]
    assert len(compared) < 40 * len(every)
