from __future__ import annotations

import logging

import pytest

from sgdataplane.daemon.logs import _Formatter, event, spelt


def test_an_event_is_a_word_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sgdataplane"):
        event(logging.INFO, "applied", eni="eni-a", at="eth0 of pid 7", s=0.01234, epoch=None, error="two\nlines")
    assert caplog.messages == ['applied eni=eni-a at="eth0 of pid 7" s=0.012 epoch=None error="two\\nlines"']


@pytest.mark.parametrize(("value", "text"), [("", '""'), ('a"b', '"a\\"b"'), ("a=b", '"a=b"'), ("ü", "ü"), (7, "7")])
def test_values_are_quoted_where_they_would_mislead(value: object, text: str) -> None:
    assert spelt(value) == text


def test_journald_gets_the_level_as_it_wants_it() -> None:
    record = logging.LogRecord("sgdataplane.agent", logging.WARNING, "", 0, "drift", (), None)
    assert _Formatter({}).format(record) == "warning drift"
    assert _Formatter({"JOURNAL_STREAM": "8:9"}).format(record) == "<4>drift"
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = _Formatter({}).format(record)
    assert "ValueError: why" in line
    assert "\n" not in line
