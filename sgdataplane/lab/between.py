"""What became of a packet that left its sender and did not come to its receiver, where routers enforce policy.

Owns the judgement of what routers saw (watch.py). Is given a running fleet. Must not know what policy expects.

    drop at egress    the router of the sender did not see it after the sender's policy, while a control frame went from
                      the sender to that router and back, and the router saw a packet of its own
    drop at ingress   the router of the receiver saw it before the receiver's policy, the receiver's tap did not see it
                      arrive, and that tap saw a control frame go out and its answer come in
    unknown           anything else: it was lost on the way to a router, or between the two policies
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.parts import Router
from sgdataplane.lab.patience import patient
from sgdataplane.lab.probe import DROP, EGRESS, INGRESS, UNKNOWN, End, Observation
from sgdataplane.lab.watch import COMING, PASSED

ARRIVE_S = patient(2.0)  # from one router to the next


@dataclass(frozen=True, slots=True)
class Path:
    """The routers that the sender's and the receiver's links end at: one, or two where these are on two hosts."""

    sender: Router
    receiver: Router

    @property
    def agents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.sender.agent, self.receiver.agent)))


class Ends(Protocol):
    """Of a probe, or of a hand-made packet."""

    @property
    def source(self) -> End: ...
    @property
    def target(self) -> End: ...


async def judge_between(fleet: Fleet, path: Path, ends: Ends, key: str) -> Observation:
    """The verdict on the packet of that key; it may have arrived meanwhile, which the asker looks at last."""
    source, target = ends.source, ends.target
    wire = (await fleet.call(source.node, "prove", ifname=source.ifname))["control"]
    near = await fleet.call(path.sender.agent, "watched", place=PASSED, key=key, seconds=0.0)
    if not near["seen"]:
        why = f"it left the sender and was not seen in {path.sender.agent} after the sender's policy"
        return _dropped(source, EGRESS, why, wire or near["control"])
    far = await fleet.call(path.receiver.agent, "watched", place=COMING, key=key, seconds=ARRIVE_S)
    if not far["seen"]:
        why = f"it was seen after the sender's policy and not in {path.receiver.agent} before the receiver's"
        return Observation(UNKNOWN, evidence=tuple(filter(None, (why, far["control"]))))
    wire = (await fleet.call(target.node, "prove", ifname=target.ifname))["control"]
    why = f"it was seen in {path.receiver.agent} before the receiver's policy and not on the receiver's wire"
    return _dropped(target, INGRESS, why, wire)


def _dropped(end: End, where: str, why: str, control: str) -> Observation:
    """By that end's policy, if it has one and the control that goes with the evidence did not fail."""
    if control:
        return Observation(UNKNOWN, evidence=(why, control))
    if not end.eni_id:
        return Observation(UNKNOWN, evidence=(why, f"{end.node} has no policy"))
    return Observation(DROP, where, (f"{why}, while controls were",))
