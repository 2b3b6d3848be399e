from __future__ import annotations

import pytest

from sgdataplane.daemon.protocol import (
    ProtocolError,
    Question,
    Request,
    parse_answer,
    parse_request,
    spell_answer,
    spell_refusal,
    spell_request,
)


@pytest.mark.parametrize("request_", Request, ids=lambda request: request.value)
def test_a_request_is_read_as_it_was_spelt(request_: Request) -> None:
    line = spell_request(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_request(line) == Question(request_)


@pytest.mark.parametrize("request_", [Request.COUNTERS, Request.FIND])
def test_what_may_be_asked_of_one_eni(request_: Request) -> None:
    assert parse_request(spell_request(request_, "w\u202eb\n")) == Question(request_, "w\u202eb\n")


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"status",
    b"null",
    b"[]",
    b"{}",
    b'{"request": "halt"}',
    b'{"request": ["status"]}',
    b'{"request": null}',
    b'{"request": "status", "more": 1}',
    b'{"request": "status", "eni": "eni-a"}',
    b'{"request": "counters", "eni": ["eni-a"]}',
    b'{"request": "counters", "more": 1}',
    b'{"Request": "status"}',
    b"[" * 4096,
    b'{"request": ' + b"9" * 4000 + b"}",
]


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_with_what_would_be_right(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="one of status, reload, resync, counters"):
        parse_request(line)


def test_answers_and_refusals_are_told_apart() -> None:
    assert parse_answer(spell_answer(cycle=7)) == {"cycle": 7}
    with pytest.raises(ProtocolError, match="only root"):
        parse_answer(spell_refusal("only root may ask"))
    with pytest.raises(ProtocolError):
        parse_answer(b"")
    assert spell_answer(text="two\nlines").count(b"\n") == 1
