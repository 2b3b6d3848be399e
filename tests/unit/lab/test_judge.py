"""Which evidence makes which verdict: the judge asks nodes and routers that answer as a row of the table says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.judge import observe
from sgdataplane.lab.parts import Router, RouterPath
from sgdataplane.lab.probe import Observation, Probe, ProbeEnd, Service
from sgdataplane.net.values import Address

TCP = Probe(
    ProbeEnd("a", "eth0", Address.parse("10.0.0.1")), ProbeEnd("b", "eth0", Address.parse("10.0.0.2")), Service(6, 22)
)
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
    """Stands in for a fleet: gives the answers of a table, and remembers what it was asked."""

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


# where routers enforce the policy


A = ProbeEnd("a", "eth0", Address.parse("10.0.0.1"), "eni-a")
B = ProbeEnd("b", "eth0", Address.parse("10.0.0.2"), "eni-b")
NEAR, FAR = Router("vpc-a", "lab-vpc-a"), Router("vpc-a", "lab-vpc-a.host2", 2)
PATH = RouterPath(NEAR, FAR)


class Routers(Answers):
    """`near`, `far`: what the routers say. `fails`: the node whose wire can't be proven."""

    def __init__(self, near: object, far: object, fails: str, **answers: dict[str, Any]) -> None:
        super().__init__(**{"saw": {"seen": False}} | answers)
        self._watches = {NEAR.process: near, FAR.process: far}
        self._fails = fails

    async def call(self, node: str, op: str, **arguments: object) -> dict[str, Any]:
        if op == "watched":
            found = self._watches[node]
            return {"seen": found is True, "control": found if isinstance(found, str) else ""}
        if op == "prove":
            return {"control": "the gateway did not answer" if node == self._fails else ""}
        return await super().call(node, op, **arguments)


def judge_between(
    near: object,
    far: object = False,
    fails: str = "",
    source: ProbeEnd = A,
    target: ProbeEnd = B,
    **answers: dict[str, Any],
) -> Observation:
    probe = Probe(source, target, Service(6, 22))
    return asyncio.run(observe(cast("Fleet", Routers(near, far, fails, **answers)), probe, PATH))


OUTSIDE_A, OUTSIDE_B = replace(A, eni_id=""), replace(B, eni_id="")


@pytest.mark.parametrize(
    ("observed", "outcome"),
    [
        pytest.param(judge_between(near=False), "egress", id="not past the sender's policy"),
        pytest.param(judge_between(near=True, far=True), "ingress", id="before the receiver's policy, not on its wire"),
        pytest.param(judge_between(near=True, far=False), "unknown", id="lost between the policies"),
        pytest.param(judge_between(near="deaf"), "unknown", id="the first watch is not proven"),
        pytest.param(judge_between(near=True, far="deaf"), "unknown", id="the second watch is not proven"),
        pytest.param(judge_between(near=False, fails="a"), "unknown", id="the sender's wire does not work"),
        pytest.param(judge_between(near=True, far=True, fails="b"), "unknown", id="the receiver's wire does not work"),
        pytest.param(judge_between(near=False, source=OUTSIDE_A), "unknown", id="a sender without policy"),
        pytest.param(judge_between(near=True, far=True, target=OUTSIDE_B), "unknown", id="a receiver without policy"),
        pytest.param(judge_between(near=True, far=True, source=OUTSIDE_A), "ingress", id="from outside, refused"),
        pytest.param(judge_between(near=False, target=OUTSIDE_B), "egress", id="to the outside, refused"),
        pytest.param(judge_between(near=False, send=SENT | {"left": False}), "unknown", id="did not leave its node"),
        pytest.param(judge_between(near=True, saw={"seen": True}), "unknown", id="on the wire, not in the socket"),
        pytest.param(judge_between(near=True, saw={"seen": True}, counted=GOT), "unknown", id="counted, no answer"),
        pytest.param(judge_between(near=True, send=SENT | {"answered": True}, counted=GOT), "accept", id="answered"),
    ],
)
def test_verdict_follows_from_what_routers_saw(observed: Observation, outcome: str) -> None:
    assert (observed.where or observed.verdict) == outcome, observed
    assert observed.evidence
    assert all(observed.evidence)


def test_sessions_that_could_be_mistaken_are_forgotten_in_routers_too() -> None:
    fleet = Routers(near=False, far=False, fails="")
    asyncio.run(observe(cast("Fleet", fleet), Probe(A, B, Service(47)), PATH))
    assert [place for place, op in fleet.asked if op == "forget"] == ["a", "b", NEAR.process, FAR.process]


def test_one_router_is_asked_once() -> None:
    assert RouterPath(NEAR, NEAR).processes == ("router vpc-a",)
