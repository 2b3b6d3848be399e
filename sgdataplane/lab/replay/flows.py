"""The report of a replay: its flows, what was left out and why, and which node stood for which address.

Owns the records and their bounds: a replay of any length keeps at most MAX_FLOWS flows apart. Must not know how packets
are sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sgdataplane.lab.expect import UNPROTECTED, Expectation
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Protocol

MAX_FLOWS = 100_000
MAX_REASONS = 200
FlowKey = tuple[int, Address, int, Address, int]
NOBODYS: FlowKey = (0, Address(32, 0), 0, Address(32, 0), 0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The fate of one datagram."""

    delivered: bool
    problem: str = ""
    """What isn't as expected, in words, such as a drop at another place; empty if all is."""
    is_invalid: bool = False
    """Whether conntrack called it invalid."""
    is_incomplete: bool = False
    """Whether it never was whole."""


@dataclass(slots=True)
class ReplayedFlow:
    """The packets of two addresses of the capture with one pair of ports, in both directions.

    Its numbers count packets.
    """

    key: FlowKey
    first: int
    """The number of its first packet in the capture."""
    sender: str
    """The node that sent the first packet."""
    receiver: str
    expectation: Expectation
    """That of its first packet that should pass, or of its first packet if none should."""
    packets: int = 0
    delivered: int = 0
    expected: int = 0
    """Packets that should be delivered."""
    invalid: int = 0
    """Packets that conntrack called invalid."""
    incomplete: int = 0
    """Packets of datagrams that never were whole."""
    disagreements: int = 0
    """Packets with a problem."""
    problem: str = ""
    """The first problem, in words."""

    def add(self, expected: Expectation, seen: Delivery, number: int, packets: int) -> None:
        """Count a datagram of so many packets; `number` is the number of its last one in the capture."""
        if expected.is_accepted and not self.expectation.is_accepted:
            self.expectation = expected
        self.packets += packets
        self.delivered += packets * seen.delivered
        self.expected += packets * expected.is_accepted
        self.invalid += packets * seen.is_invalid
        self.incomplete += packets * seen.is_incomplete
        if seen.problem:
            self.disagreements += packets
            self.problem = self.problem or f"packet {number}: {seen.problem}"

    @property
    def decision(self) -> Decision:
        """The decision of the end that decides."""
        return self.expectation.decision

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return str(Protocol(self.key[0]))

    @property
    def ends(self) -> tuple[str, str]:
        """Both addresses, with ports where the protocol has ports."""
        protocol, source, sport, target, dport = self.key
        if protocol not in PORT_PROTOCOLS:
            return str(source), str(target)
        ends = ((f"[{end}]" if end.family_bits == 128 else f"{end}") for end in (source, target))
        return next(ends) + f":{sport}", next(ends) + f":{dport}"

    @property
    def name(self) -> str:
        """The flow as people read it: protocol, sender, receiver."""
        return f"{self.protocol} {self.ends[0]} > {self.ends[1]}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """How many packets couldn't pass whatever the rules say, one line for each reason."""
        notes = ((self.invalid, "invalid to conntrack"), (self.incomplete, "of datagrams that are never whole"))
        return tuple(f"{count} {what}" for count, what in notes if count)

    def counts(self) -> dict[str, int]:
        """Return the numbers of packets."""
        return {
            "packets": self.packets,
            "delivered": self.delivered,
            "expected_delivered": self.expected,
            "invalid": self.invalid,
            "incomplete": self.incomplete,
            "disagreements": self.disagreements,
        }

    def as_json(self) -> dict[str, object]:
        """Return the keys of command-line.md, and more."""
        protocol, source, sport, target, dport = self.key
        has_ports = protocol in PORT_PROTOCOLS
        return {
            "protocol": self.protocol,
            "src": str(source),
            "sport": sport if has_ports else None,
            "dst": str(target),
            "dport": dport if has_ports else None,
            **self.counts(),
            **self.decision.as_json(),
            "where": self.expectation.where or None,
            "from": self.sender,
            "to": self.receiver,
            "first_packet": self.first,
            "problem": self.problem or None,
        }


@dataclass(slots=True)
class LeftOut:
    """The packets that weren't sent for one reason."""

    reason: str
    first: int
    """The number of the first one in the capture."""
    packets: int = 0


@dataclass(slots=True)
class Report:
    """The report of one replay."""

    flows: dict[FlowKey, ReplayedFlow] = field(default_factory=dict)
    rest: ReplayedFlow = field(default_factory=lambda: ReplayedFlow(NOBODYS, 0, "", "", UNPROTECTED))
    """All flows beyond MAX_FLOWS together."""
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """The packets that weren't sent, by reason."""
    mapped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Address of the capture -> node and address in the lab, for instances and for what the user mapped."""
    outside: int = 0
    """How many other addresses stood outside."""
    read: int = 0
    """Packets in the capture."""
    sent: int = 0
    filled: int = 0
    """Packets that the capture cut off, and that zeros filled up."""
    strangers: int = 0
    """Packets that were delivered and that nobody sent."""
    cut: str = ""
    """Where the file was cut off, in words; empty if it wasn't."""
    seconds: float = 0.0
    time_scale: float = 1.0

    @property
    def disagreements(self) -> int:
        """How many flows disagree with the policy, plus packets with problems that belong to no flow kept apart."""
        found = sum(1 for flow in self.flows.values() if flow.disagreements)
        return found + self.rest.disagreements + self.strangers

    def order(self) -> list[ReplayedFlow]:
        """Return flows in the order in which they began, those with disagreements first."""
        return sorted(self.flows.values(), key=lambda flow: (not flow.disagreements, flow.first))

    def leave_out(self, reason: str, number: int) -> None:
        """Count a packet that isn't sent for this reason; beyond MAX_REASONS reasons, for other reasons."""
        if reason not in self.left_out and len(self.left_out) >= MAX_REASONS:
            reason = "other reasons"
        entry = self.left_out.setdefault(reason, LeftOut(reason, number))
        entry.packets += 1

    def find(self, key: FlowKey) -> ReplayedFlow | None:
        """Return the flow with that key in either direction; None if it isn't kept apart."""
        protocol, source, sport, target, dport = key
        return self.flows.get(key) or self.flows.get((protocol, target, dport, source, sport))

    def add(self, flow: ReplayedFlow) -> bool:
        """Keep one more flow apart; return False if there is no room."""
        if len(self.flows) >= MAX_FLOWS:
            return False
        self.flows[flow.key] = flow
        return True

    def as_json(self) -> dict[str, object]:
        """Return the keys of command-line.md, and more."""
        return {
            "flows": [flow.as_json() for flow in self.flows.values()],
            "disagreements": self.disagreements,
            "packets": {"read": self.read, "sent": self.sent, "filled": self.filled, "strangers": self.strangers},
            "left_out": [
                {"reason": entry.reason, "packets": entry.packets, "first_packet": entry.first}
                for entry in self.left_out.values()
            ],
            "mapped": [{"address": a, "node": node, "as": own} for a, (node, own) in self.mapped.items()],
            "outside": self.outside,
            "other_flows": self.rest.counts() if self.rest.packets else None,
            "cut_off": self.cut or None,
            "time_scale": self.time_scale,
        }


@dataclass(frozen=True, slots=True)
class FlowChange:
    """A flow that two policies treat differently."""

    before: ReplayedFlow | None
    """None where it was left out."""
    after: ReplayedFlow | None
    """None where it was left out."""

    def as_json(self) -> dict[str, object]:
        """Return the flow's name and its fate under both policies."""
        flow = self.before or self.after
        named = {} if flow is None else {k: v for k, v in flow.as_json().items() if k in NAMING}
        return {**named, "before": _fate(self.before), "after": _fate(self.after)}


NAMING = ("protocol", "src", "sport", "dst", "dport", "packets")
FATE = ("delivered", "verdict", "reason", "security_group_id", "security_group_rule_id", "priority", "where")


def changes(before: Report, after: Report) -> list[FlowChange]:
    """Return the flows of which other packets arrive under the second policy, or whose verdict differs."""
    keys = dict.fromkeys((*before.flows, *after.flows))
    pairs = ((before.flows.get(key), after.flows.get(key)) for key in keys)
    return [FlowChange(old, new) for old, new in pairs if _make_key(old) != _make_key(new)]


def _make_key(flow: ReplayedFlow | None) -> tuple[object, ...]:
    """Return what two fates are compared by."""
    return () if flow is None else (flow.delivered, flow.decision.verdict)


def _fate(flow: ReplayedFlow | None) -> dict[str, object] | None:
    return None if flow is None else {key: value for key, value in flow.as_json().items() if key in FATE}
