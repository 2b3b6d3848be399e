from __future__ import annotations

import logging

import pytest

from sgdataplane.observe.capacity import LOGGER, Fullness, TableUse, UseLog


@pytest.mark.parametrize(
    ("use", "warning"),
    [
        pytest.param(TableUse(10, 100, 0, 0, 3), "", id="room"),
        pytest.param(TableUse(10, 0, 0, 0, 0), "", id="no-limit"),
        pytest.param(
            TableUse(90, 100, 0, 0, 0),
            "the conntrack table is nearly full (90 of 100 sessions); "
            "0 packets dropped, 0 unanswered sessions evicted so far",
            id="nearly-full",
        ),
        pytest.param(
            TableUse(100, 100, 7, 2, 0),
            "the conntrack table is full (100 of 100 sessions): new sessions are refused; "
            "7 packets dropped, 2 unanswered sessions evicted so far",
            id="full",
        ),
        pytest.param(
            TableUse(10, 100, 7, 0, 0),
            "the conntrack table has been full (now 10 of 100 sessions): "
            "7 packets dropped, 0 unanswered sessions evicted so far",
            id="was-full",
        ),
    ],
)
def test_complaint(use: TableUse, warning: str) -> None:
    assert use.warning == warning


ROOM, NEARLY, FULL, AGAIN = (
    TableUse(10, 100, 0, 0, 0),
    TableUse(95, 100, 0, 0, 0),
    TableUse(100, 100, 7, 2, 1),
    TableUse(10, 100, 7, 2, 1),
)


def test_conditions() -> None:
    assert [use.condition for use in (ROOM, NEARLY, FULL, AGAIN)] == [
        Fullness.OK,
        Fullness.NEARLY_FULL,
        Fullness.FULL,
        Fullness.HAS_BEEN_FULL,
    ]


def test_a_line_is_logged_once_for_each_change_of_condition(caplog: pytest.LogCaptureFixture) -> None:
    log = UseLog()
    with caplog.at_level(logging.INFO, LOGGER):
        for use in (ROOM, ROOM, NEARLY, TableUse(96, 100, 0, 0, 0), FULL, TableUse(100, 100, 99, 2, 1), AGAIN, AGAIN):
            log.note("i-a", use)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        (LOGGER, "WARNING", f"conntrack-table where=i-a condition={line}")
        for line in (
            "nearly-full entries=95 limit=100 dropped=0 evicted=0 insert_failed=0",
            "full entries=100 limit=100 dropped=7 evicted=2 insert_failed=1",
            "has-been-full entries=10 limit=100 dropped=7 evicted=2 insert_failed=1",
        )
    ]


def test_room_again_is_no_warning_but_said(caplog: pytest.LogCaptureFixture) -> None:
    log = UseLog()
    with caplog.at_level(logging.INFO, LOGGER):
        for use in (NEARLY, ROOM):
            log.note("i-a", use)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "condition=ok entries=10" in caplog.messages[1]


def test_each_table_has_a_condition_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    log = UseLog()
    for where, use in (("i-a", FULL), ("i-b", ROOM), ("i-b", FULL), ("i-a", FULL)):
        log.note(where, use)
    assert [message.split()[1] for message in caplog.messages] == ["where=i-a", "where=i-b"]
