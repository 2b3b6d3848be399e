from __future__ import annotations

import pytest

from sgdataplane.observe.conntrack import TableUse


@pytest.mark.parametrize(
    ("use", "complaint"),
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
def test_complaint(use: TableUse, complaint: str) -> None:
    assert use.complaint == complaint
