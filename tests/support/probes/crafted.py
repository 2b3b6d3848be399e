"""Hand-made packets, for what no socket sends: fragments, odd flags, other people's addresses.

Owns the evidence about them. It is the evidence of lab/judge.py without an answer: the receiver counts them or not. It
is given packets that scapy built around a token. Must not know what policy expects.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from scapy.packet import Packet

from sgdataplane.errors import LabError
from sgdataplane.lab import frames
from sgdataplane.lab.ends import list_watched_routers, path_between
from sgdataplane.lab.fleet import Fleet, run_fleet
from sgdataplane.lab.frames import ASK, ProbeMessage
from sgdataplane.lab.judge import ALIVE_S, ARRIVE_S, GRACE_S, judge_between
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import RouterPath
from sgdataplane.lab.probe import ACCEPT, DROP, EGRESS, INGRESS, UNKNOWN, Observation, ProbeEnd
from sgdataplane.lab.tap import IN
from sgdataplane.net.values import Family


@dataclass(frozen=True, slots=True)
class Crafted:
    """What to send. `build` makes the IP packets, in the order of sending, around a payload with the token. The
    receiver counts the token in reassembled packets of transport `protocol`."""

    source: ProbeEnd
    target: ProbeEnd
    protocol: int
    build: Callable[[bytes], tuple[Packet, ...]]

    @property
    def family(self) -> Family:
        return self.target.address.family


def observe_crafted(lab: Lab, crafted: Crafted) -> Observation:
    """Send it in a running lab, and say what became of it. LabError if taps can't recognise its first packet."""
    nodes = tuple(lab.topology.node[end.node] for end in (crafted.source, crafted.target))
    path = path_between(lab, crafted.source, crafted.target)

    async def run() -> Observation:
        async with run_fleet(nodes, list_watched_routers(lab), "tests.support.probes.crafter") as fleet:
            return await observe_in(fleet, crafted, path)

    return asyncio.run(run())


async def observe_in(fleet: Fleet, crafted: Crafted, path: RouterPath | None = None) -> Observation:
    """The same with a fleet of crafters that runs. `path` as for judge.observe."""
    target, token = crafted.target, os.urandom(8).hex()
    packets = [bytes(packet) for packet in crafted.build(ProbeMessage(ASK, token).encode())]
    key = key_of(packets[0])
    await fleet.call(target.node, "watch", protocol=crafted.protocol, family=crafted.family.value)
    arguments = {"target": str(target.address), "ifname": crafted.source.ifname, "key": key}
    sent = await fleet.call(crafted.source.node, "inject", packets=[packet.hex() for packet in packets], **arguments)
    if not sent["left"]:
        why = "it was sent but did not leave the sender's interface"
        if path or sent["control"]:
            return Observation(UNKNOWN, evidence=(why, sent["control"]))
        return Observation(DROP, EGRESS, (f"{why}; a control frame did, and was answered",))
    arrival = {"ifname": target.ifname, "direction": IN, "key": key}
    if not (await fleet.call(target.node, "saw", **arrival, seconds=GRACE_S if path else ARRIVE_S))["seen"]:
        if path is None:
            return Observation(UNKNOWN, evidence=("it left the sender but did not reach the receiver's interface",))
        between = await judge_between(fleet, path, crafted.source, crafted.target, key)
        if not (await fleet.call(target.node, "saw", **arrival, seconds=0.0))["seen"]:
            return between
    arrived = await _judge_arrived(fleet, crafted, token)
    if path and arrived.where == INGRESS:
        return Observation(UNKNOWN, evidence=(*arrived.evidence, "though its policy comes before that interface"))
    return arrived


async def _judge_arrived(fleet: Fleet, crafted: Crafted, token: str) -> Observation:
    """What became of a packet that the receiver's tap saw."""
    target = crafted.target
    if (await fleet.call(target.node, "counted", token=token, seconds=GRACE_S))["count"]:
        return Observation(ACCEPT, evidence=("the receiver's socket got the token",))
    ask = {"protocol": crafted.protocol, "address": str(target.address), "token": os.urandom(8).hex()}
    alive = await fleet.call(target.node, "watch_self", **ask, seconds=ALIVE_S)
    if (await fleet.call(target.node, "counted", token=token, seconds=0.0))["count"]:
        return Observation(ACCEPT, evidence=("the receiver's socket got the token, late",))
    seen = "it reached the receiver's interface but not the socket"
    if not alive["alive"]:
        return Observation(UNKNOWN, evidence=(seen, "the counter did not count its own node's packet either"))
    return Observation(DROP, INGRESS, (f"{seen}; a packet of its own node did",))


def key_of(packet: bytes) -> str:
    """The packet's key. LabError if it has none."""
    key = frames.key_of_packet(packet)
    if key is None:
        raise LabError(
            "hand-made packet", "a tap must know its first one: by ports, an echo's identifier, or the token"
        )
    return key
