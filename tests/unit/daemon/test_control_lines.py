"""The lines of the control socket: requests, answers, and what is no line of ours."""

from __future__ import annotations

import pytest

from sgdataplane.daemon.control import (
    ControlRequest,
    ProtocolError,
    Request,
    parse_answer,
    parse_request,
    spell_answer,
    spell_refusal,
    spell_request,
)


@pytest.mark.parametrize("request_", Request, ids=lambda request: request.value)
def test_a_request_is_read_as_it_was_spelt(request_: Request) -> None:
    policy = 7 if request_ is Request.ROLLBACK else 0
    line = spell_request(request_, policy=policy)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_request(line) == ControlRequest(request_, policy=policy)


def test_a_rollback_has_a_policy_and_may_have_a_time() -> None:
    line = spell_request(Request.ROLLBACK, policy=7, for_s=600.0)
    assert parse_request(line) == ControlRequest(Request.ROLLBACK, policy=7, for_s=600.0)


@pytest.mark.parametrize("request_", [Request.STATUS, Request.COUNTERS, Request.FIND])
def test_what_may_be_asked_of_one_eni(request_: Request) -> None:
    assert parse_request(spell_request(request_, "w\u202eb\n")) == ControlRequest(request_, "w\u202eb\n")


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"status",
    b"null",
    b"[]",
    b"{}",
    b'{"request": "halt"}',
    b'{"request": "rollback"}',
    b'{"request": "rollback", "policy": 0}',
    b'{"request": "rollback", "policy": true}',
    b'{"request": "rollback", "policy": 1.5}',
    b'{"request": "rollback", "policy": 1, "for_s": -1}',
    b'{"request": "rollback", "policy": 1, "for_s": NaN}',
    b'{"request": "rollback", "policy": 1, "for_s": 1e999}',
    b'{"request": "rollback", "policy": 1, "eni": "eni-a"}',
    b'{"request": "resume", "policy": 1}',
    b'{"request": "status", "for_s": 1}',
    b'{"request": ["status"]}',
    b'{"request": null}',
    b'{"request": "status", "more": 1}',
    b'{"request": "reload", "eni": "eni-a"}',
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
