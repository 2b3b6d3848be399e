from __future__ import annotations

from sgdataplane.daemon.causes import COALESCE_S, FIRST_RETRY_S, Cause, Schedule

RESYNC_S = 10.0


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Schedule, Time]:
    clock = Time()
    return Schedule(RESYNC_S, clock), clock


def test_causes_that_come_together_are_one_cycle() -> None:
    schedule, clock = made()
    schedule.add(Cause.STATE)
    assert schedule.take() == frozenset()
    clock.now += COALESCE_S / 2
    schedule.add(Cause.LINK)
    assert 0 < schedule.wait_s <= COALESCE_S / 2 + 1e-9
    clock.now += COALESCE_S / 2 + 1e-6  # the first one does not wait for the second
    assert schedule.take() == {Cause.STATE, Cause.LINK}
    assert schedule.take() == frozenset()


def test_with_nothing_to_do_the_timer_is_the_next_cause() -> None:
    schedule, clock = made()
    assert schedule.wait_s == RESYNC_S
    clock.now += RESYNC_S
    assert schedule.take() == {Cause.TIMER}
    schedule.done(is_whole=True)
    assert schedule.wait_s == RESYNC_S


def test_a_cycle_that_fails_is_tried_again_for_its_causes() -> None:
    schedule, clock = made()
    schedule.failed({Cause.STATE})
    assert schedule.wait_s == FIRST_RETRY_S
    clock.now += FIRST_RETRY_S
    assert schedule.take() == {Cause.STATE, Cause.RETRY}
    schedule.failed({Cause.STATE, Cause.RETRY})
    schedule.add(Cause.LINK)  # another one comes before
    clock.now += COALESCE_S + 1e-6
    assert schedule.take() == {Cause.STATE, Cause.RETRY, Cause.LINK}
    schedule.done(is_whole=True)
    clock.now += RESYNC_S
    assert schedule.take() == {Cause.TIMER}


def test_a_stream_of_causes_does_not_hold_up_the_timer() -> None:
    schedule, clock = made()
    clock.now += RESYNC_S
    schedule.add(Cause.LINK)
    assert schedule.take() == {Cause.LINK, Cause.TIMER}


def test_what_could_not_be_done_is_tried_again_later_each_time_but_not_later_than_the_timer() -> None:
    schedule, clock = made()
    waits = []
    for _ in range(6):
        schedule.done(is_whole=False)
        waits.append(schedule.wait_s)
        clock.now += schedule.wait_s
        assert schedule.take() == {Cause.RETRY if waits[-1] < RESYNC_S else Cause.TIMER}
    assert waits[0] == FIRST_RETRY_S
    assert waits == sorted(waits)
    assert waits[-1] == RESYNC_S
    schedule.done(is_whole=True)
    schedule.done(is_whole=False)
    assert schedule.wait_s == FIRST_RETRY_S
