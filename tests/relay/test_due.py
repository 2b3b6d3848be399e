"""When a summary is due: what was asked for first and soonest counts, and nothing that comes meanwhile is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from sgdataplane.relay import due as dues
from sgdataplane.relay.due import Due, SummaryDue

LONG_S = 3_600.0


async def waited(due: Due, at_most_s: float = LONG_S) -> bool:
    async with asyncio.timeout(30):
        return await due.wait(at_most_s)


def test_it_comes_when_it_was_brought_forward() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        await waited(due)
        task = asyncio.create_task(waited(due))
        await asyncio.sleep(0)
        due.bring_forward(LONG_S / 2)
        assert not task.done()
        due.bring_forward(0.0)
        await task

    asyncio.run(scene())


def test_it_comes_by_itself_and_not_before() -> None:
    async def scene() -> None:
        due, began = Due(), time.monotonic()
        assert not await waited(due, 0.05)
        assert time.monotonic() - began >= 0.05

    asyncio.run(scene())


def test_a_wait_that_ends_early_leaves_the_moment() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.1)
        assert not await waited(due, 0.0)
        assert await waited(due)
        assert not await waited(due, 0.0)

    asyncio.run(scene())


def test_what_is_later_does_not_put_it_off() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        due.bring_forward(LONG_S)
        await waited(due)

    asyncio.run(scene())


def test_once_it_has_come_it_is_set_anew() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        await waited(due)
        task = asyncio.create_task(waited(due))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()

    asyncio.run(scene())


Steps = Callable[[SummaryDue], None]


def answered(*hosts: str) -> Steps:
    def note(due: SummaryDue) -> None:
        for host in hosts:
            due.note_report(host, has_answered=True)

    return note


def unanswered(due: SummaryDue) -> None:
    due.note_report("a", has_answered=False)


def written(due: SummaryDue) -> None:
    """Write a summary in which b is missing, then hear of a."""
    due.take_news()
    answered("a")(due)


@pytest.mark.parametrize(
    ("steps", "is_due"),
    [
        pytest.param(lambda _: None, False, id="nobody-has-answered"),
        pytest.param(answered("a"), False, id="one-of-two"),
        pytest.param(answered("a", "c"), False, id="one-of-two-and-another-one"),
        pytest.param(answered("b", "a"), True, id="all"),
        pytest.param(unanswered, False, id="something-else-is-new"),
        pytest.param(lambda due: (answered("a")(due), due.note_unconcerned("b")), True, id="the-other-is-unconcerned"),
        pytest.param(lambda due: due.note_stream("b"), True, id="one-has-gone"),
        pytest.param(written, True, id="a-summary-has-missed-the-other"),
        pytest.param(lambda due: due.note_revision(()), False, id="a-revision-that-concerns-nobody"),
    ],
)
def test_a_summary_waits_for_the_last_host_that_a_revision_concerns(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, *, is_due: bool
) -> None:
    monkeypatch.setattr(dues, "HOST_S", 0.0)
    monkeypatch.setattr(dues, "REVISION_S", 0.0)
    monkeypatch.setattr(dues, "ANSWERS_S", LONG_S / 2)

    async def scene() -> bool:
        due = SummaryDue()
        due.note_revision(("a", "b"))
        steps(due)
        task = asyncio.create_task(waited(due))
        for _ in range(20):
            await asyncio.sleep(0)
        has_come = task.done()
        task.cancel()
        return has_come

    assert asyncio.run(scene()) is is_due


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(lambda due: due.note_revision(()), id="revision"),
        pytest.param(lambda due: due.note_revision(("a",)), id="revision-for-a-host"),
        pytest.param(lambda due: due.note_unconcerned("a"), id="unconcerned"),
        pytest.param(lambda due: due.note_report("a", has_answered=False), id="report"),
        pytest.param(lambda due: due.note_stream("a"), id="stream"),
    ],
)
def test_whatever_is_noted_is_news_until_it_is_taken(note: Steps) -> None:
    async def scene() -> tuple[bool, ...]:
        due = SummaryDue()
        due.take_news()
        due.bring_forward(0.0)
        before = due.take_news()
        note(due)
        return before, due.take_news(), due.take_news()

    assert asyncio.run(scene()) == (False, True, False)


def test_a_summary_waits_for_nobody_whom_no_revision_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dues, "REVISION_S", 0.0)

    async def scene() -> None:
        due = SummaryDue()
        due.note_revision(())
        await waited(due)

    asyncio.run(scene())


def test_a_host_that_does_not_answer_puts_a_summary_off_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dues, "ANSWERS_S", 0.0)

    async def scene() -> None:
        due = SummaryDue()
        due.note_revision(("a", "b"))
        await waited(due)

    asyncio.run(scene())


def test_a_summary_that_costs_much_comes_later_after_a_stream_has_begun() -> None:
    async def scene() -> None:
        due = SummaryDue()
        due.note_cost(dues.MAX_STREAM_S)
        due.note_stream("host-1")
        assert not await waited(due, 2 * dues.STREAM_S)
        due.note_report("host-2", has_answered=True)
        assert await waited(due, dues.STREAM_S), "a report waits for nothing"
        due.note_cost(0.0)
        due.note_stream("host-1")
        assert await waited(due, 2 * dues.STREAM_S)

    asyncio.run(scene())
