"""When a cycle runs, and whose turn it is: the first repair comes at once, the next ones later and later, and after a
while all of that is forgotten."""

from __future__ import annotations

import math

from sgdataplane.attach.report import Key
from sgdataplane.daemon.schedule import (
    ALL_SHARE,
    CALM_S,
    COALESCE_S,
    FIRST_RETRY_S,
    FREE_LOOKS,
    LINKS_S,
    LONGEST_WAIT_S,
    OWN_SHARE,
    Cause,
    Schedule,
    Turns,
)
from sgdataplane.host.identity import Identity

RESYNC_S = 10.0


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def schedule_and_clock() -> tuple[Schedule, Time]:
    clock = Time()
    return Schedule(RESYNC_S, clock), clock


def test_causes_that_come_together_are_one_cycle() -> None:
    schedule, clock = schedule_and_clock()
    schedule.add(Cause.STATE)
    assert schedule.take() == frozenset()
    clock.now += COALESCE_S / 2
    schedule.add(Cause.LINK)
    assert 0 < schedule.wait_s <= COALESCE_S / 2 + 1e-9
    clock.now += COALESCE_S / 2 + 1e-6  # the first one does not wait for the second
    assert schedule.take() == {Cause.STATE, Cause.LINK}
    assert schedule.take() == frozenset()


def test_a_link_waits_less_unless_something_else_comes_with_it() -> None:
    schedule, clock = schedule_and_clock()
    schedule.add(Cause.LINK)
    assert schedule.wait_s <= LINKS_S + 1e-9 < COALESCE_S
    schedule.add(Cause.STATE)
    assert schedule.wait_s > LINKS_S
    clock.now += COALESCE_S + 1e-6
    assert schedule.take() == {Cause.LINK, Cause.STATE}
    schedule.add(Cause.LINK)
    clock.now += LINKS_S + 1e-6
    assert schedule.take() == {Cause.LINK}


def test_with_nothing_to_do_the_timer_is_the_next_cause() -> None:
    schedule, clock = schedule_and_clock()
    assert schedule.wait_s == RESYNC_S
    clock.now += RESYNC_S
    assert schedule.take() == {Cause.TIMER}
    schedule.note_done(is_whole=True)
    assert schedule.wait_s == RESYNC_S


def test_a_cycle_that_fails_is_tried_again_for_its_causes() -> None:
    schedule, clock = schedule_and_clock()
    schedule.note_failed({Cause.STATE})
    assert schedule.wait_s == FIRST_RETRY_S
    clock.now += FIRST_RETRY_S
    assert schedule.take() == {Cause.STATE, Cause.RETRY}
    schedule.note_failed({Cause.STATE, Cause.RETRY})
    schedule.add(Cause.LINK)  # another one comes before
    clock.now += COALESCE_S + 1e-6
    assert schedule.take() == {Cause.STATE, Cause.RETRY, Cause.LINK}
    schedule.note_done(is_whole=True)
    clock.now += RESYNC_S
    assert schedule.take() == {Cause.TIMER}


def test_a_stream_of_causes_does_not_hold_up_the_timer() -> None:
    schedule, clock = schedule_and_clock()
    clock.now += RESYNC_S
    schedule.add(Cause.LINK)
    assert schedule.take() == {Cause.LINK, Cause.TIMER}


def test_what_could_not_be_done_is_tried_again_later_each_time_but_not_later_than_the_timer() -> None:
    schedule, clock = schedule_and_clock()
    waits = []
    for _ in range(6):
        schedule.note_done(is_whole=False)
        waits.append(schedule.wait_s)
        clock.now += schedule.wait_s
        assert schedule.take() == {Cause.RETRY if waits[-1] < RESYNC_S else Cause.TIMER}
    assert waits[0] == FIRST_RETRY_S
    assert waits == sorted(waits)
    assert waits[-1] == RESYNC_S
    schedule.note_done(is_whole=True)
    schedule.note_done(is_whole=False)
    assert schedule.wait_s == FIRST_RETRY_S


ONE, TWO, THREE = (Identity(1, number) for number in range(3))
TOOK_S = 0.01


def turns_and_clock() -> tuple[Turns, Time]:
    clock = Time()
    return Turns(clock), clock


def repaired(turns: Turns, clock: Time, key: Key, took: float = TOOK_S) -> float:
    """Wait for its turn, repair it, and return how long until its next turn."""
    clock.now += turns.wait_s_of(key)
    turns.note(key, took, is_repair=True)
    return turns.wait_s_of(key)


def test_repairs_of_one_are_ever_further_apart() -> None:
    turns, clock = turns_and_clock()
    assert turns.list_waiting([ONE]) == frozenset()
    waits = [repaired(turns, clock, ONE) for _ in range(9)]
    assert [round(wait, 6) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert turns.list_waiting([ONE, TWO]) == turns.disturbed == frozenset({ONE})


def test_a_minute_has_few_repairs_however_many_commits_there_are() -> None:
    turns, clock = turns_and_clock()
    began = clock.now
    times = [began]
    while times[-1] < began + 60:
        wait = repaired(turns, clock, ONE)
        times.append(clock.now + wait)
    assert [round(at - began, 6) for at in times] == [0, 1, 3, 7, 15, 31, 63]


def test_who_is_quiet_for_a_while_is_repaired_at_once_again() -> None:
    turns, clock = turns_and_clock()
    wait = [repaired(turns, clock, ONE) for _ in range(3)][-1]
    clock.now += wait + CALM_S - 1
    turns.forget_calm()
    assert turns.of(ONE).repairs == 3
    clock.now += 2
    turns.forget_calm()
    assert (turns.of(ONE).repairs, turns.wait_s_of(ONE)) == (0, 0)
    assert repaired(turns, clock, ONE) == 1


def test_what_takes_long_has_its_turn_later() -> None:
    turns, clock = turns_and_clock()
    assert repaired(turns, clock, ONE, 2.0) == 2.0 * OWN_SHARE
    turns.forget()
    assert repaired(turns, clock, TWO, 900.0) == 900.0 * OWN_SHARE > LONGEST_WAIT_S


def test_a_crowd_has_a_share_of_our_time_and_no_more() -> None:
    turns, clock = turns_and_clock()
    crowd: list[Key] = [Identity(2, number) for number in range(100)]
    for key in crowd:
        turns.note(key, TOOK_S, is_repair=True)
    began, worked = clock.now, 0.0
    while clock.now < began + 100:
        turns.left = frozenset(crowd)
        clock.now += turns.wait_s
        key = next(key for key in turns.order(crowd) if key not in turns.list_waiting(crowd))
        turns.note(key, TOOK_S, is_repair=True)
        clock.now += TOOK_S
        worked += TOOK_S
    assert worked <= 100 / ALL_SHARE + TOOK_S


def test_many_first_repairs_have_their_share_and_who_only_comes_has_no_part_in_it() -> None:
    """A new interface is no repair. `suspect` says which namespaces others have changed."""
    turns, clock = turns_and_clock()
    turns.suspect([ONE, TWO])
    assert turns.list_waiting([ONE, TWO, THREE]) == frozenset()
    turns.note(ONE, TOOK_S, is_repair=True)
    assert turns.list_waiting([TWO, THREE]) == {TWO}
    assert round(turns.wait_s_of(TWO), 6) == ALL_SHARE * TOOK_S
    clock.now += turns.wait_s_of(TWO)
    assert turns.list_waiting([TWO]) == frozenset()
    turns.note(TWO, TOOK_S, is_repair=False)
    turns.note(ONE, TOOK_S, is_repair=True)
    assert turns.list_waiting([TWO]) == frozenset(), "it was looked at since"
    turns.suspect([TWO])
    assert turns.list_waiting([TWO]) == {TWO}
    turns.suspect([THREE])
    assert turns.list_waiting([TWO]) == frozenset(), "who is suspect no more is forgotten"


def test_looks_for_nothing_are_free_until_there_are_too_many() -> None:
    turns, _ = turns_and_clock()
    for _ in range(FREE_LOOKS):
        assert turns.list_waiting([ONE]) == frozenset()
        turns.note(ONE, TOOK_S, is_repair=False)
    assert turns.list_waiting([ONE]) == frozenset()
    turns.note(ONE, TOOK_S, is_repair=False)
    assert turns.list_waiting([ONE]) == frozenset({ONE})
    assert turns.disturbed == frozenset()


def test_who_disturbs_least_is_first_and_of_equals_whoever_waits_longest() -> None:
    turns, clock = turns_and_clock()
    for key in (ONE, ONE, THREE, TWO):
        clock.now += 1
        turns.note(key, TOOK_S, is_repair=True)
    assert turns.order([ONE, TWO, THREE, Identity(1, 4)]) == (Identity(1, 4), THREE, TWO, ONE)


def test_the_next_turn_is_that_of_one_that_was_left() -> None:
    turns, clock = turns_and_clock()
    repaired(turns, clock, ONE)
    assert turns.wait_s == math.inf
    turns.left = frozenset({ONE})
    assert turns.wait_s == 1
    turns.is_owed = True
    assert turns.wait_s == 0


def test_when_all_is_forgotten_nobody_waits() -> None:
    turns, clock = turns_and_clock()
    assert repaired(turns, clock, ONE) > 0
    turns.forget()
    assert turns.wait_s_of(ONE) == 0
