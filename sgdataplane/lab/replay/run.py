"""Replay a capture through a lab: send each packet, see how far it gets, and compare that with what is expected.

Owns the order of these steps. It is given an open capture, a lab that is up, and which node stands for which address.
Must not know how the lab came about, nor print anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sgdataplane.errors import HostError
from sgdataplane.host import conntrack, netns
from sgdataplane.lab.expect import Expectation
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Endpoint
from sgdataplane.lab.replay.capture import Capture, Record
from sgdataplane.lab.replay.datagrams import Datagram, HeaderFields, Reassembly
from sgdataplane.lab.replay.endpoints import Endpoints, Mapping
from sgdataplane.lab.replay.flows import Delivery, FlowKey, ReplayedFlow, Report
from sgdataplane.lab.replay.packets import IpPacket, Unfit, find_packet, readdress
from sgdataplane.lab.replay.sessions import SessionModel, Stop
from sgdataplane.lab.replay.wire import Sighting, Wire
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import ICMP, ICMPV6, Direction, Verdict

EndpointPair = tuple[Endpoint, Endpoint]
LONGEST_WAIT_S = float(1 << 31)  # a capture may claim that its next packet came 500 million years later
EGRESS, INGRESS = Direction.EGRESS.value, Direction.INGRESS.value
INCOMPLETE = Expectation(Decision(Direction.EGRESS, Verdict.DROP, "incomplete"))  # for a datagram that is never whole


class Replay:
    """One capture through one lab.

    Args:
        lab: The lab, which is up.
        mapping: The user's choice of nodes.
        is_shared: Whether the lab was there before, so that it may have sessions of its own.

    Raises:
        LabError: The mapping names something that the lab doesn't have.
    """

    def __init__(self, lab: Lab, mapping: Mapping, *, is_shared: bool) -> None:
        self._lab, self._is_shared = lab, is_shared
        self._endpoints = Endpoints(lab, mapping)
        routers = {entry.netns: entry.desired.interfaces for entry in lab.enforced if lab.placement.is_outside}
        self._sessions = SessionModel(lab.state, lab.options, lab.record.time_scale, routers)
        self._reassembly = Reassembly()
        self._report = Report(time_scale=lab.record.time_scale)

    def run(self, capture: Capture, progress: Callable[[int], None], *, is_real_time: bool) -> Report:
        """Replay the whole capture, at its own pace if `is_real_time`; return the report.

        `progress` is called with how many octets of the capture have been read.

        Raises:
            LabError: The capture is damaged.
            HostError: The machine was too slow for its logs.
        """
        began, first = time.monotonic(), None
        with Wire(self._lab) as wire:
            for record in capture.records():
                if is_real_time and record.time is not None:
                    first = record.time if first is None else first
                    time.sleep(min(max(0.0, began + record.time - first - time.monotonic()), LONGEST_WAIT_S))
                self._take(record, wire)
                progress(capture.offset)
            self._reassembly.finish()
            self._take_given_up()
            wire.drain()
            self._report.strangers = 0 if self._is_shared else wire.strangers
        self._report.seconds, self._report.cut = time.monotonic() - began, capture.cut
        self._endpoints.tell(self._report)
        return self._report

    def _take(self, record: Record, wire: Wire) -> None:
        """Count a record, and send its packet, or note why it is left out."""
        self._report.read += 1
        try:
            packet = find_packet(record.linktype, record.data, record.length)
            ends = self._endpoints.pair(packet.source, packet.target)
            self._send(record.number, packet, ends, wire)
        except Unfit as reason:
            self._report.leave_out(str(reason), record.number)

    def _send(self, number: int, packet: IpPacket, ends: EndpointPair, wire: Wire) -> None:
        """Send one packet. If it completes a datagram, see what becomes of that and note it."""
        near, far = ends
        hops = len({self._lab.router_of(near), self._lab.router_of(far)})
        sent = readdress(packet, near.address, far.address, self._endpoints.translate, hops)
        datagram = self._reassembly.add(sent)
        self._take_given_up()
        wire.prepare(near, far)
        stops, now = self._stops(ends), time.monotonic()
        if datagram and self._is_shared:
            self._forget(datagram.header, stops, now)
        refusal = wire.send(sent.data, near, far.address)
        if refusal:
            raise Unfit(f"the kernel doesn't send it: {refusal}")
        self._report.sent += 1
        self._report.filled += packet.is_filled
        if datagram is None:
            wire.settle()
            return
        expected = self._sessions.expect(datagram.header, stops, now)
        seen = wire.look(datagram, near, far, until(expected))
        if wire.has_lost():
            raise HostError(f"packet {number}", "the machine is too busy: the kernel lost log messages about it")
        if seen.invalid:
            expected = self._sessions.expect(datagram.header, stops, now, seen.invalid)
        self._sessions.commit(datagram.header, stops, now, seen.invalid)
        delivery = Delivery(seen.delivered, problem_of(expected, seen), is_invalid=bool(seen.invalid))
        self._note(number, datagram, ends, expected, delivery)

    def _note(
        self, number: int, datagram: Datagram, ends: EndpointPair, expected: Expectation, delivery: Delivery
    ) -> None:
        """Count a datagram with its flow; with the rest if there are too many flows."""
        key = flow_key(datagram)
        flow = self._report.find(key)
        if flow is None:
            flow = ReplayedFlow(key, number, ends[0].node.name, ends[1].node.name, expected)
            if not self._report.add(flow):
                flow = self._report.rest
        flow.add(expected, delivery, number, len(datagram.packets))

    def _take_given_up(self) -> None:
        """Note the fragments whose datagram was never whole: no policy can pass it, and nobody gets it."""
        while self._reassembly.given_up:
            datagram = self._reassembly.given_up.pop()
            packet = datagram.packets[0].packet
            ends = self._endpoints.pair(packet.source, packet.target)
            self._note(self._report.read, datagram, ends, INCOMPLETE, Delivery(False, is_incomplete=True))

    def _stops(self, ends: EndpointPair) -> tuple[Stop, ...]:
        """Return the policies on the way from one end to the other."""
        return tuple(
            Stop(end.interface.eni_id, direction, self._lab.enforces(end))
            for end, direction in zip(ends, (Direction.EGRESS, Direction.INGRESS), strict=True)
            if end.interface.eni_id
        )

    def _forget(self, header: HeaderFields, stops: tuple[Stop, ...], now: float) -> None:
        """Make a packet that opens a session open one in the lab too, even if the lab has had the same session."""
        if header.protocol in (ICMP, ICMPV6):
            return
        for name in self._sessions.find_opened_tables(header, stops, now):
            with netns.inside(name):
                conntrack.forget(conntrack.SessionTuple(header.protocol, header.source, header.target, *header.ports))


def until(expected: Expectation) -> str:
    """Return the field of Sighting which shows that a packet has got as far as it should."""
    return {EGRESS: "left", INGRESS: "arrived"}.get(expected.where, "delivered")


def problem_of(expected: Expectation, seen: Sighting) -> str:
    """Say that a packet didn't get as far as it should, or got further; "" if neither."""
    if seen.delivered:
        return "" if expected.is_accepted else f"delivered, and should be dropped at {expected.where}"
    got = "arrived before the receiver's policy" if seen.arrived else "left the sender" if seen.left else "was not seen"
    if expected.is_accepted:
        return f"not delivered, and should be: it {got}"
    if expected.where == INGRESS and not seen.arrived:
        return f"should be dropped by the receiver's policy, and never came there: it {got}"
    if expected.where == EGRESS and (seen.arrived or not seen.left):
        return f"should be dropped by the sender's policy: it {got}"
    return ""


def flow_key(datagram: Datagram) -> FlowKey:
    """Return the flow of a datagram, by the addresses of the capture."""
    packet, header = datagram.packets[0].packet, datagram.header
    return header.protocol, packet.source, header.ports[0], packet.target, header.ports[1]
