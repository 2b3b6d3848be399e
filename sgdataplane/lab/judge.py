"""Try a probe with real packets, and decide what their evidence proves.

Owns the judgement. It is given two ends and a running fleet. Must not know what the policy expects.

    accept            a socket of the receiver got the token, and its answer came back

Where nodes enforce the policy:

    drop at egress    the packet was sent and the sender's tap did not see it leave; just then the same tap saw a
                      control frame leave and its answer come in
    drop at ingress   the receiver's tap saw the packet arrive and no socket got it; after that, the same listener
                      answered a question over loopback

Where routers enforce the policy (watch.py sees the packets there):

    drop at egress    the sender's router did not see it behind the sender's policy; a control frame went from the
                      sender to that router and back, and the router saw a packet of its own
    drop at ingress   the receiver's router saw it before the receiver's policy, and the receiver's tap did not see it
                      arrive; that tap saw a control frame leave and its answer come in

    unknown           anything else, with what was seen
"""

from __future__ import annotations

import os
from typing import Any

from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.parts import RouterPath
from sgdataplane.lab.probe import ACCEPT, DROP, EGRESS, INGRESS, UNKNOWN, Observation, Probe, ProbeEnd
from sgdataplane.lab.tap import IN
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.lab.watch import COMING, PASSED
from sgdataplane.net.values import TCP

ARRIVE_S = scale_timeout(2.0)  # until the next tap or watch has seen a packet
GRACE_S = scale_timeout(0.1)  # between two places on a packet's way, although the kernel needs microseconds
COMPLETE_S = scale_timeout(3.0)  # for a handshake that has begun
ALIVE_S = scale_timeout(3.0)


async def observe(fleet: Fleet, probe: Probe, path: RouterPath | None = None) -> Observation:
    """Try one exchange, and return what its packets showed.

    Args:
        fleet: The processes of the nodes, and of the routers on the path.
        probe: What to try.
        path: The routers on its way, if they enforce policy.

    Raises:
        HostError: A process fails.
    """
    source, target, service = probe.source, probe.target, probe.service
    listening = await fleet.call(
        target.node, "listen", protocol=service.protocol, port=service.port, family=probe.family.value
    )
    if listening["error"]:
        return Observation(UNKNOWN, evidence=(f"{target.node} can't listen on {service}: {listening['error']}",))
    if probe.is_tuple_reused:
        for place in (source.node, target.node, *(path.processes if path else ())):
            await fleet.call(place, "forget", **probe.session())
    token = os.urandom(8).hex()
    sent = await fleet.call(source.node, "send", question=probe.question(token), ifname=source.ifname)
    if sent["error"]:
        return Observation(UNKNOWN, evidence=(f"{source.node} can't send: {sent['error']}",))
    try:
        return await ProbeJudge(fleet, probe, token, sent, path).judge()
    finally:
        await fleet.call(source.node, "close", number=sent["number"])


class ProbeJudge:
    """The judge of one exchange: it gathers the evidence in the order in which that decides."""

    def __init__(self, fleet: Fleet, probe: Probe, token: str, sent: dict[str, Any], path: RouterPath | None) -> None:
        self._fleet, self._probe, self._token, self._sent, self._path = fleet, probe, token, sent, path

    async def judge(self) -> Observation:
        """Return what the exchange showed."""
        if self._sent["answered"]:
            return await self._judge_answered()
        if not self._sent["left"]:
            return self._judge_unsent()
        return await self._judge_unanswered()

    async def _judge_answered(self) -> Observation:
        """Accept, if a socket of the receiver got the token: an answer alone is no proof."""
        if await self._count():
            return self._say(ACCEPT, "", "the receiver answered")
        return self._say(UNKNOWN, "", "an answer came back, but the receiver's socket didn't get the token")

    def _judge_unsent(self) -> Observation:
        """Judge a packet that didn't leave the sender: dropped at egress, if the sender's tap proved its wire."""
        said = "the kernel refused to send it, and it" if self._sent["sent_error"] else "it was sent but"
        if self._path or self._sent["control"]:
            return self._say(UNKNOWN, "", f"{said} did not leave the sender's interface", self._sent["control"])
        return self._say(
            DROP, EGRESS, f"{said} did not leave the sender's interface; a control frame did, and was answered"
        )

    async def _judge_unanswered(self) -> Observation:
        """Judge a packet that left the sender: look at the receiver's wire, then at its socket."""
        if not await self._has_arrived(GRACE_S if self._path else ARRIVE_S):
            if await self._count():
                return await self._judge_late()
            if self._path is None:
                return self._say(UNKNOWN, "", "it left the sender but did not reach the receiver's interface")
            between = await judge_between(
                self._fleet, self._path, self._probe.source, self._probe.target, self._sent["key"]
            )
            if not await self._has_arrived(0.0):
                return self._say(between.verdict, between.where, *between.evidence)
        state = await self._finish(GRACE_S)
        if state["answered"] or state["connected"] or await self._count():
            return await self._judge_late()
        if state["failure"]:
            return self._say(UNKNOWN, "", f"the sender was told: {state['failure']}")
        return await self._judge_silent()

    async def _judge_silent(self) -> Observation:
        """Judge a packet that was on the receiver's wire and isn't in its socket.

        That is a drop only if the same listener proves to be alive afterwards.
        """
        question = self._probe.self_question(os.urandom(8).hex())
        alive = await self._call_target("self_probe", question=question, seconds=ALIVE_S)
        seen = "it reached the receiver's interface but not the socket"
        if not alive["alive"]:
            return self._say(UNKNOWN, "", seen, f"the listener did not answer its own node either {alive['error']}")
        if await self._count() or (await self._finish(0.0))["connected"]:
            return await self._judge_late()
        if self._probe.service.protocol == TCP and await self._is_half_open():
            return self._say(UNKNOWN, "", "its SYN was let in, but the handshake did not complete")
        if self._path:
            return self._say(UNKNOWN, "", f"{seen}, though its policy comes before that interface")
        return self._say(DROP, INGRESS, f"{seen}; the listener was up")

    async def _judge_late(self) -> Observation:
        """Judge an exchange of which something got through: only a complete one is an accept."""
        state = await self._finish(COMPLETE_S)
        if state["answered"]:
            return await self._judge_answered()
        got = "the receiver's socket got the token" if await self._count() else "the connection opened"
        failure = (state["failure"],) if state["failure"] else ()
        return self._say(UNKNOWN, "", f"{got}, but no answer came back", *failure)

    async def _has_arrived(self, seconds: float) -> bool:
        """Return whether the receiver's tap saw the packet come in."""
        arrival = {"ifname": self._probe.target.ifname, "direction": IN, "key": self._sent["key"], "seconds": seconds}
        return bool((await self._call_target("saw", **arrival))["seen"])

    async def _is_half_open(self) -> bool:
        """Return whether the receiver's kernel got the SYN and waits for the end of the handshake."""
        remote, port = str(self._probe.source.address), self._sent["source_port"]
        answer = await self._call_target("half_open", remote=remote, port=port, family=self._probe.family.value)
        return bool(answer["half_open"])

    async def _count(self) -> int:
        """Return how often sockets of the receiver got the token."""
        return int((await self._call_target("counted", token=self._token, seconds=0.0))["count"])

    async def _finish(self, seconds: float) -> dict[str, Any]:
        """Return how the exchange stands at the sender, after at most `seconds`."""
        node, number = self._probe.source.node, self._sent["number"]
        return await self._fleet.call(node, "finish", number=number, seconds=seconds)

    async def _call_target(self, op: str, **arguments: object) -> dict[str, Any]:
        return await self._fleet.call(self._probe.target.node, op, **arguments)

    def _say(self, verdict: str, where: str, *evidence: str) -> Observation:
        return Observation(verdict, where, tuple(filter(None, evidence)), self._sent["source_port"])


async def judge_between(fleet: Fleet, path: RouterPath, source: ProbeEnd, target: ProbeEnd, key: str) -> Observation:
    """Judge a packet that left its sender and wasn't seen at its receiver, where routers enforce the policy.

    It may have arrived meanwhile, so the caller looks at the receiver once more.
    """
    wire = (await fleet.call(source.node, "prove", ifname=source.ifname))["control"]
    near = await fleet.call(path.sender.process, "watched", place=PASSED, key=key, seconds=0.0)
    if not near["seen"]:
        why = f"it left the sender but did not get past the sender's policy in {path.sender.process}"
        return _observe_drop(source, EGRESS, why, wire or near["control"])
    far = await fleet.call(path.receiver.process, "watched", place=COMING, key=key, seconds=ARRIVE_S)
    if not far["seen"]:
        why = f"it passed the sender's policy but was not seen before the receiver's policy in {path.receiver.process}"
        return Observation(UNKNOWN, evidence=tuple(filter(None, (why, far["control"]))))
    wire = (await fleet.call(target.node, "prove", ifname=target.ifname))["control"]
    why = f"it came to the receiver's policy in {path.receiver.process} but did not reach the receiver's interface"
    return _observe_drop(target, INGRESS, why, wire)


def _observe_drop(end: ProbeEnd, where: str, why: str, control: str) -> Observation:
    """Return a drop by that end's policy, or unknown.

    It is unknown if that end has no policy, or if the control behind the evidence failed.
    """
    if control:
        return Observation(UNKNOWN, evidence=(why, control))
    if not end.eni_id:
        return Observation(UNKNOWN, evidence=(why, f"{end.node} has no policy"))
    return Observation(DROP, where, (f"{why}; control packets did",))
