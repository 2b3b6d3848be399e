"""What policy says of a probe, at both ends, and how that compares with what packets showed.

Owns the comparison. Is given a state, a probe and its observation. Must not send anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.lab.probe import ACCEPT, EGRESS, INGRESS, End, Observation, Probe
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, TCP, UDP, Direction, Protocol, Verdict

# Of two ends without policy; no pair of a matrix has that.
UNPROTECTED = Decision(Direction.INGRESS, Verdict.ACCEPT, "unprotected")


@dataclass(frozen=True, slots=True)
class Expectation:
    """The decision of the end that decides: the drop, or if both accept, the receiver's. `where` a drop happens."""

    decision: Decision
    where: str = ""

    @property
    def verdict(self) -> str:
        return self.decision.verdict.value


@dataclass(frozen=True, slots=True)
class Cell:
    """One probe with what was expected and what was observed."""

    probe: Probe
    expected: Expectation
    observed: Observation

    @property
    def agrees(self) -> bool:
        """The same verdict, and a drop at the end that had to drop."""
        if self.observed.verdict != self.expected.verdict:
            return False
        return self.observed.verdict == ACCEPT or self.observed.where == self.expected.where


def expect(state: CloudState, probe: Probe, source_port: int, options: Options) -> Expectation:
    """Egress at the sender's ENI, then ingress at the receiver's; hosts outside have no policy."""
    decided = Expectation(UNPROTECTED)
    for direction, end, other in (
        (Direction.EGRESS, probe.source, probe.target),
        (Direction.INGRESS, probe.target, probe.source),
    ):
        if not end.eni_id:
            continue
        decision = decide(state, packet_at(end, other, direction, probe, source_port), options)
        if decision.verdict is Verdict.DROP:
            return Expectation(decision, EGRESS if direction is Direction.EGRESS else INGRESS)
        decided = Expectation(decision)
    return decided


def packet_at(end: End, other: End, direction: Direction, probe: Probe, source_port: int) -> Packet:
    """The probe's opening packet as the policy of one end sees it."""
    protocol = probe.service.protocol
    has_ports = protocol in (TCP, UDP)
    return Packet(
        eni_id=end.eni_id,
        direction=direction,
        remote=other.address,
        local=end.address,
        protocol=protocol,
        port=probe.service.port if has_ports else None,
        source_port=source_port if has_ports else None,
        icmp_type=ECHO_REQUEST[probe.family] if protocol in (ICMP, ICMPV6) else None,
    )


def explain_cell(cell: Cell) -> str:
    """Expected and observed in words, for a person."""
    expected, observed = cell.expected, cell.observed
    at = f" at {expected.where}" if expected.where else ""
    seen_at = f" at {observed.where}" if observed.where else ""
    evidence = "; ".join(observed.evidence)
    return (
        f"expected {expected.verdict}{at} by {words.ranked(expected.decision)}, "
        f"observed {observed.verdict}{seen_at}: {evidence}"
    )


def cell_as_json(cell: Cell) -> dict[str, object]:
    """A cell with the keys of cli.md, then the addresses and evidence that tell cells of one pair apart."""
    probe, observed = cell.probe, cell.observed
    return {
        **cell.expected.decision.as_json(),
        "expected": cell.expected.verdict,
        "observed": observed.verdict,
        "from": probe.source.node,
        "to": probe.target.node,
        "protocol": str(Protocol(probe.service.protocol)),
        "port": probe.service.port or None,
        "from_address": str(probe.source.address),
        "to_address": str(probe.target.address),
        "source_port": observed.source_port or None,
        "expected_where": cell.expected.where or None,
        "observed_where": observed.where or None,
        "agrees": cell.agrees,
        "evidence": list(observed.evidence),
    }
