"""One probe with real packets, and what may be believed of it.

Owns the judgement of evidence. Is given two ends and a running fleet. Must not know what policy expects.

    accept            a socket of the receiver got the token, and its answer came back
    drop at egress    the packet was sent, the sender's tap did not see it leave, and the same tap saw a control frame
                      of the same moment go out and its answer come in
    drop at ingress   the receiver's tap saw the packet arrive, no socket there got it, and the same listener got and
                      answered a question put to it over loopback after that
    unknown           anything else, with what was seen
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sgdataplane.lab import frames
from sgdataplane.lab.fleet import Fleet
from sgdataplane.lab.tap import IN
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Family, Protocol

ARRIVE_S = 2.0  # until the receiver's tap has seen what left the sender
GRACE_S = 0.1  # from the receiver's wire to its socket; the kernel needs microseconds
COMPLETE_S = 3.0  # for a handshake that has begun
ALIVE_S = 3.0

ACCEPT, DROP, UNKNOWN = "accept", "drop", "unknown"
EGRESS, INGRESS = "egress", "ingress"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a probe: an address of a node's interface. `eni_id` is empty outside. `device`: bind to it."""

    node: str
    ifname: str
    address: Address
    eni_id: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked for: a protocol number, and the destination port of TCP and UDP (0 for all others)."""

    protocol: int
    port: int = 0

    def __str__(self) -> str:
        name = str(Protocol(self.protocol))
        return f"{name}/{self.port}" if self.port else name


@dataclass(frozen=True, slots=True)
class Probe:
    """One exchange to try. `source_port` 0: any free one."""

    source: End
    target: End
    service: Service
    source_port: int = 0

    @property
    def family(self) -> Family:
        return self.target.address.family

    @property
    def is_tuple_reused(self) -> bool:
        """Whether another probe's session may look the same to conntrack: no free port or identifier is in it."""
        return bool(self.source_port) or self.service.protocol not in (TCP, UDP, ICMP, ICMPV6)

    @property
    def pair(self) -> tuple[int, frozenset[Address]]:
        """What probes must share to disturb each other when their tuples are reused."""
        return (self.service.protocol, frozenset((self.source.address, self.target.address)))

    def session(self) -> dict[str, Any]:
        """Its session, as agents take it (Agent.forget)."""
        ends = [str(self.source.address), str(self.target.address)]
        is_sctp = self.service.protocol == frames.SCTP  # which has ports, but no rule names them
        ports = [frames.SCTP_PORT] * 2 if is_sctp else [self.source_port, self.service.port]
        return {"protocol": self.service.protocol, "ends": ends, "ports": ports}

    def question(self, token: str) -> dict[str, Any]:
        """As an agent takes it (exchange.Question)."""
        return {
            "protocol": self.service.protocol,
            "source": str(self.source.address),
            "target": str(self.target.address),
            "token": token,
            "port": self.service.port,
            "source_port": self.source_port,
            "device": self.source.device,
        }

    def self_question(self, token: str) -> dict[str, Any]:
        """The same put by the receiver to itself."""
        return self.question(token) | {"source": str(self.target.address), "source_port": 0, "device": ""}


@dataclass(frozen=True, slots=True)
class Observation:
    """What packets showed: accept, drop (and where) or unknown, with the evidence in words. `source_port` as sent."""

    verdict: str
    where: str = ""
    evidence: tuple[str, ...] = ()
    source_port: int = 0


async def observe(fleet: Fleet, probe: Probe) -> Observation:
    """Try one exchange. LabError if a node's process fails."""
    source, target, service = probe.source, probe.target, probe.service
    listening = await fleet.call(
        target.node, "listen", protocol=service.protocol, port=service.port, family=probe.family.value
    )
    if listening["error"]:
        return Observation(UNKNOWN, evidence=(f"{target.node} can't listen on {service}: {listening['error']}",))
    if probe.is_tuple_reused:
        for node in (source.node, target.node):
            await fleet.call(node, "forget", **probe.session())
    token = os.urandom(8).hex()
    sent = await fleet.call(source.node, "send", question=probe.question(token), ifname=source.ifname)
    if sent["error"]:
        return Observation(UNKNOWN, evidence=(f"{source.node} can't send: {sent['error']}",))
    try:
        return await Judge(fleet, probe, token, sent).judge()
    finally:
        await fleet.call(source.node, "close", number=sent["number"])


class Judge:
    """Gathers the evidence about one exchange, in the order in which it decides."""

    def __init__(self, fleet: Fleet, probe: Probe, token: str, sent: dict[str, Any]) -> None:
        self._fleet, self._probe, self._token, self._sent = fleet, probe, token, sent

    async def judge(self) -> Observation:
        if self._sent["answered"]:
            return await self._judge_answered()
        if not self._sent["left"]:
            return self._judge_unsent()
        return await self._judge_unanswered()

    async def _judge_answered(self) -> Observation:
        if await self._count():
            return self._say(ACCEPT, "", "the receiver's socket got the token and its answer came back")
        return self._say(UNKNOWN, "", "an answer came back, but the receiver's socket did not count the token")

    def _judge_unsent(self) -> Observation:
        said = "the kernel refused to send it" if self._sent["sent_error"] else "it was sent"
        if self._sent["control"]:
            return self._say(UNKNOWN, "", f"{said} and not seen on the sender's wire", self._sent["control"])
        return self._say(
            DROP, EGRESS, f"{said} and not seen on the sender's wire, while a control frame left and was answered"
        )

    async def _judge_unanswered(self) -> Observation:
        """It left the sender: look at the receiver's wire, then at its socket."""
        target = self._probe.target
        arrival = {"ifname": target.ifname, "direction": IN, "key": self._sent["key"], "seconds": ARRIVE_S}
        if not (await self._call_target("saw", **arrival))["seen"]:
            if await self._count():
                return await self._judge_late()
            return self._say(UNKNOWN, "", "it left the sender and was not seen on the receiver's wire")
        state = await self._finish(GRACE_S)
        if state["answered"] or state["connected"] or await self._count():
            return await self._judge_late()
        if state["failure"]:
            return self._say(UNKNOWN, "", f"the sender was told: {state['failure']}")
        return await self._judge_silent()

    async def _judge_silent(self) -> Observation:
        """On the receiver's wire and not in its socket: believed once the same listener has proven alive after it."""
        question = self._probe.self_question(os.urandom(8).hex())
        alive = await self._call_target("self_probe", question=question, seconds=ALIVE_S)
        seen = "it was seen on the receiver's wire and no socket got it"
        if not alive["alive"]:
            return self._say(UNKNOWN, "", seen, f"but the listener did not answer its own node either {alive['error']}")
        if await self._count() or (await self._finish(0.0))["connected"]:
            return await self._judge_late()
        if self._probe.service.protocol == TCP and await self._is_half_open():
            return self._say(UNKNOWN, "", "its SYN was let in, but the handshake did not complete")
        return self._say(DROP, INGRESS, f"{seen}, while the listener answered its own node")

    async def _judge_late(self) -> Observation:
        """Something got through; only a complete exchange is an accept."""
        state = await self._finish(COMPLETE_S)
        if state["answered"]:
            return await self._judge_answered()
        got = "the receiver's socket got the token" if await self._count() else "the connection opened"
        failure = (state["failure"],) if state["failure"] else ()
        return self._say(UNKNOWN, "", f"{got}, but no answer came back", *failure)

    async def _is_half_open(self) -> bool:
        remote, port = str(self._probe.source.address), self._sent["source_port"]
        answer = await self._call_target("half_open", remote=remote, port=port, family=self._probe.family.value)
        return bool(answer["half_open"])

    async def _count(self) -> int:
        return int((await self._call_target("counted", token=self._token, seconds=0.0))["count"])

    async def _finish(self, seconds: float) -> dict[str, Any]:
        node, number = self._probe.source.node, self._sent["number"]
        return await self._fleet.call(node, "finish", number=number, seconds=seconds)

    async def _call_target(self, op: str, **arguments: object) -> dict[str, Any]:
        return await self._fleet.call(self._probe.target.node, op, **arguments)

    def _say(self, verdict: str, where: str, *evidence: str) -> Observation:
        return Observation(verdict, where, evidence, self._sent["source_port"])
