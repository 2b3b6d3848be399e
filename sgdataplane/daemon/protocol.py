"""What is said on the agent's control socket, one line of JSON each way.

Owns requests, answers and their limits. Is given bytes. Must not know sockets, or what is done.

    you     {"request": "status"}                       a line of at most 4,096 bytes, within 5 s
            {"request": "counters", "eni": "eni-1"}     "eni" may be left out: then of all
            {"request": "find", "eni": "web1"}          an ENI's id, or its instance's id or name
    agent   {"ok": true, "status": {...}}               the keys: pydoc sgdataplane.daemon.status
            {"ok": true, "counters": {...}}             the keys: pydoc sgdataplane.daemon.counts
            {"ok": true, "ids": [...], "near": [...]}   ENIs that the name could stand for; if none, names like it
            {"ok": true, "cycle": 7}                    reload, resync: will be done by that cycle, or a later one
            {"ok": false, "error": "..."}               and what would be right
    The agent closes after its answer. It answers root, and who it runs as; 16 at a time: who waits
    for a place gets that of one who has taken more than 0.2 s.

    status      how things are
    reload      read the configuration and the state anew, as on SIGHUP
    resync      write all rules anew, whatever the kernel holds
    counters    hits per rule, read now; "eni" is an id
    find        which ENI a name stands for, in the policy in force, or where hits are still known
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.visible import json_text

MAX_REQUEST_BYTES = 4096
MAX_SECONDS = 5.0
MAX_CLIENTS = 16
MAX_ANSWER_BYTES = 64 << 20


class Request(enum.Enum):
    """What can be asked."""

    STATUS = "status"
    RELOAD = "reload"
    RESYNC = "resync"
    COUNTERS = "counters"
    FIND = "find"


NAMING = (Request.COUNTERS, Request.FIND)  # which name an ENI


@dataclass(frozen=True, slots=True)
class Question:
    """`eni`: of this one alone; "": of all."""

    request: Request
    eni: str = ""


EXPECTED = 'a line {"request": R}, R one of ' + ", ".join(request.value for request in Request)


class ProtocolError(Exception):
    """What came is no request, or no answer; for the other end to read."""


def parse_request(line: bytes) -> Question:
    """ProtocolError unless it is one."""
    value = _object(line)
    eni = value.get("eni", "")
    if "request" not in value or not value.keys() <= {"request", "eni"} or not isinstance(eni, str):
        raise ProtocolError(f"expected {EXPECTED}")
    found = next((request for request in Request if request.value == value["request"]), None)
    if found is None or (eni and found not in NAMING):
        raise ProtocolError(f"no such request; expected {EXPECTED}")
    return Question(found, eni)


def spell_request(request: Request, eni: str = "") -> bytes:
    return _line({"request": request.value, **({"eni": eni} if eni else {})})


def spell_answer(**content: object) -> bytes:
    return _line({"ok": True, **content})


def spell_refusal(error: str) -> bytes:
    return _line({"ok": False, "error": error})


def parse_answer(line: bytes) -> dict[str, object]:
    """What came beside `ok`; ProtocolError with the agent's words if it refused."""
    value = _object(line)
    if value.get("ok") is not True:
        raise ProtocolError(str(value.get("error", "it gave no answer that could be read")))
    return {key: entry for key, entry in value.items() if key != "ok"}


def _object(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON; expected {EXPECTED}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"not an object; expected {EXPECTED}")
    return value


def _line(value: Mapping[str, object]) -> bytes:
    return json_text(value, separators=(",", ":")).encode() + b"\n"
