"""Which evidence makes which verdict if routers enforce policy: the judge against routers that say what a row wants."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from sgdataplane.lab.between import Path
from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.judge import observe
from sgdataplane.lab.parts import Router
from sgdataplane.lab.probe import End, Observation, Probe, Service
from sgdataplane.net.values import Address
from tests.unit.lab.test_probe import GOT, SENT, Answers

A = End("a", "eth0", Address.parse("10.0.0.1"), "eni-a")
B = End("b", "eth0", Address.parse("10.0.0.2"), "eni-b")
NEAR, FAR = Router("vpc-a", "lab-vpc-a"), Router("vpc-a", "lab-vpc-a.host2", 2)
PATH = Path(NEAR, FAR)


class Routers(Answers):
    """`near` and `far`: what the routers say; a wire that `fails` gives that control."""

    def __init__(self, near: object, far: object, fails: str, **answers: dict[str, Any]) -> None:
        super().__init__(**{"saw": {"seen": False}} | answers)
        self._watches = {NEAR.agent: near, FAR.agent: far}
        self._fails = fails

    async def call(self, node: str, op: str, **arguments: object) -> dict[str, Any]:
        if op == "watched":
            found = self._watches[node]
            return {"seen": found is True, "control": found if isinstance(found, str) else ""}
        if op == "prove":
            return {"control": "the gateway did not answer" if node == self._fails else ""}
        return await super().call(node, op, **arguments)


def judge(
    near: object, far: object = False, fails: str = "", source: End = A, target: End = B, **answers: dict[str, Any]
) -> Observation:
    probe = Probe(source, target, Service(6, 22))
    return asyncio.run(observe(cast("Fleet", Routers(near, far, fails, **answers)), probe, PATH))


OUTSIDE_A, OUTSIDE_B = replace(A, eni_id=""), replace(B, eni_id="")


@pytest.mark.parametrize(
    ("observed", "outcome"),
    [
        pytest.param(judge(near=False), "egress", id="not past the sender's policy"),
        pytest.param(judge(near=True, far=True), "ingress", id="before the receiver's policy, not on its wire"),
        pytest.param(judge(near=True, far=False), "unknown", id="lost between the policies"),
        pytest.param(judge(near="deaf"), "unknown", id="the first watch is not proven"),
        pytest.param(judge(near=True, far="deaf"), "unknown", id="the second watch is not proven"),
        pytest.param(judge(near=False, fails="a"), "unknown", id="the sender's wire does not work"),
        pytest.param(judge(near=True, far=True, fails="b"), "unknown", id="the receiver's wire does not work"),
        pytest.param(judge(near=False, source=OUTSIDE_A), "unknown", id="a sender without policy"),
        pytest.param(judge(near=True, far=True, target=OUTSIDE_B), "unknown", id="a receiver without policy"),
        pytest.param(judge(near=True, far=True, source=OUTSIDE_A), "ingress", id="from outside, refused"),
        pytest.param(judge(near=False, target=OUTSIDE_B), "egress", id="to the outside, refused"),
        pytest.param(judge(near=False, send=SENT | {"left": False}), "unknown", id="did not leave its node"),
        pytest.param(judge(near=True, saw={"seen": True}), "unknown", id="on the wire, not in the socket"),
        pytest.param(judge(near=True, saw={"seen": True}, counted=GOT), "unknown", id="counted, no answer"),
        pytest.param(judge(near=True, send=SENT | {"answered": True}, counted=GOT), "accept", id="answered"),
    ],
)
def test_verdict_follows_from_evidence(observed: Observation, outcome: str) -> None:
    assert (observed.where or observed.verdict) == outcome, observed
    assert observed.evidence
    assert all(observed.evidence)


def test_sessions_that_could_be_mistaken_are_forgotten_in_routers_too() -> None:
    fleet = Routers(near=False, far=False, fails="")
    asyncio.run(observe(cast("Fleet", fleet), Probe(A, B, Service(47)), PATH))
    assert [place for place, op in fleet.asked if op == "forget"] == ["a", "b", NEAR.agent, FAR.agent]


def test_one_router_is_asked_once() -> None:
    assert Path(NEAR, NEAR).agents == ("router vpc-a",)
