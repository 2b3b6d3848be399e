"""Which evidence makes which verdict: the judge against agents that say what a row wants them to say."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.judge import observe
from sgdataplane.lab.probe import End, Observation, Probe, Service
from sgdataplane.net.values import Address

TCP = Probe(End("a", "eth0", Address.parse("10.0.0.1")), End("b", "eth0", Address.parse("10.0.0.2")), Service(6, 22))
GRE = Probe(TCP.source, TCP.target, Service(47))
SENT: dict[str, Any] = {
    "error": "",
    "number": 1,
    "key": "k",
    "source_port": 5,
    "answered": False,
    "left": True,
    "control": "",
    "sent_error": 0,
}
QUIET: dict[str, Any] = {"answered": False, "connected": False, "failure": ""}


class Answers:
    """Stands in for a fleet: gives the answers of a table, and remembers what was asked."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.asked: list[tuple[str, str]] = []
        usual: dict[str, dict[str, Any]] = {
            "listen": {"error": ""},
            "send": SENT,
            "counted": {"count": 0},
            "saw": {"seen": True},
            "finish": QUIET,
            "self_probe": {"alive": True, "error": ""},
            "half_open": {"half_open": False},
            "close": {},
            "forget": {},
        }
        self._answers = usual | answers

    async def call(self, node: str, op: str, **_: object) -> dict[str, Any]:
        self.asked.append((node, op))
        return self._answers[op]


def judge(**answers: dict[str, Any]) -> Observation:
    return asyncio.run(observe(cast("Fleet", Answers(**answers)), TCP))


GOT = {"count": 1}


@pytest.mark.parametrize(
    ("answers", "verdict", "where"),
    [
        pytest.param({"send": SENT | {"answered": True}, "counted": GOT}, "accept", "", id="counted and answered"),
        pytest.param({"send": SENT | {"answered": True}}, "unknown", "", id="answered but not counted"),
        pytest.param({"send": SENT | {"left": False}}, "drop", "egress", id="did not leave, control did"),
        pytest.param({"send": SENT | {"left": False, "sent_error": 1}}, "drop", "egress", id="refused by the kernel"),
        pytest.param({"send": SENT | {"left": False, "control": "no"}}, "unknown", "", id="did not leave, nor control"),
        pytest.param({}, "drop", "ingress", id="on the wire, not in the socket, listener alive"),
        pytest.param({"saw": {"seen": False}}, "unknown", "", id="never reached the receiver's wire"),
        pytest.param({"saw": {"seen": False}, "counted": GOT}, "unknown", "", id="counted unseen and unanswered"),
        pytest.param({"self_probe": {"alive": False, "error": ""}}, "unknown", "", id="listener not alive"),
        pytest.param({"half_open": {"half_open": True}}, "unknown", "", id="half-open"),
        pytest.param({"counted": GOT}, "unknown", "", id="counted, no answer"),
        pytest.param({"finish": QUIET | {"connected": True}}, "unknown", "", id="connected, no answer"),
        pytest.param({"finish": QUIET | {"failure": "Connection refused"}}, "unknown", "", id="refused"),
        pytest.param({"finish": QUIET | {"answered": True}, "counted": GOT}, "accept", "", id="answered late"),
        pytest.param({"listen": {"error": "in use"}}, "unknown", "", id="no listener"),
        pytest.param({"send": {"error": "no route"}}, "unknown", "", id="can't send"),
    ],
)
def test_verdict_follows_from_evidence(answers: dict[str, dict[str, Any]], verdict: str, where: str) -> None:
    observed = judge(**answers)
    assert (observed.verdict, observed.where) == (verdict, where)
    assert observed.evidence


def test_exchange_is_closed_at_its_sender_whatever_comes_out() -> None:
    rows: tuple[dict[str, dict[str, Any]], ...] = ({}, {"saw": {"seen": False}}, {"send": SENT | {"left": False}})
    for answers in rows:
        fleet = Answers(**answers)
        asyncio.run(observe(cast("Fleet", fleet), TCP))
        assert fleet.asked[-1] == ("a", "close")


@pytest.mark.parametrize(
    ("probe", "forgets"),
    [
        (TCP, False),
        (Probe(TCP.source, TCP.target, Service(17, 53)), False),
        (Probe(TCP.source, TCP.target, Service(1)), False),
        (GRE, True),
        (Probe(TCP.source, TCP.target, TCP.service, source_port=5000), True),
    ],
)
def test_sessions_that_could_be_mistaken_are_forgotten_at_both_ends_first(probe: Probe, forgets: bool) -> None:
    fleet = Answers()
    asyncio.run(observe(cast("Fleet", fleet), probe))
    forgotten = [node for node, op in fleet.asked if op == "forget"]
    assert forgotten == (["a", "b"] if forgets else [])
    if forgets:
        assert fleet.asked.index(("b", "forget")) < fleet.asked.index(("a", "send"))
