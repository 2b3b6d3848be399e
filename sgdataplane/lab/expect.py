"""The expected result of a probe by the policy at both ends, and how it compares with what its packets showed.

Owns the comparison. It is given a state, a probe and its observation. Must not send anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.lab.probe import ACCEPT, Observation, Probe, ProbeEnd
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, TCP, UDP, Direction, Protocol, Verdict


@dataclass(frozen=True, slots=True)
class Expectation:
    """The decision of the end that decides: the one that drops, or if both accept, the receiver."""

    decision: Decision
    where: str = ""
    """The direction of the policy that drops, else empty."""

    @property
    def verdict(self) -> str:
        """The verdict as text: `accept` or `drop`."""
        return self.decision.verdict.value

    @property
    def is_accepted(self) -> bool:
        """Whether both ends let the packet pass."""
        return self.decision.verdict is Verdict.ACCEPT


# Between two ends without a policy; no pair of a matrix is like that.
UNPROTECTED = Expectation(Decision(Direction.INGRESS, Verdict.ACCEPT, "unprotected"))


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A probe with what the policy expects and what was observed."""

    probe: Probe
    expected: Expectation
    observed: Observation

    @property
    def agrees(self) -> bool:
        """Whether the verdict is as expected, and a drop happened at the end that had to drop."""
        if self.observed.verdict != self.expected.verdict:
            return False
        return self.observed.verdict == ACCEPT or self.observed.where == self.expected.where


def expect(state: CloudState, probe: Probe, source_port: int, options: Options) -> Expectation:
    """Evaluate the policy of the sender's ENI (egress), then that of the receiver's (ingress).

    Hosts outside have none. If the packet passes, but one end lets it pass only because it is in audit mode, the
    decision of that end is returned.
    """
    decided, audited = UNPROTECTED, None
    ways = ((Direction.EGRESS, probe.source, probe.target), (Direction.INGRESS, probe.target, probe.source))
    for direction, end, other in ways:
        if not end.eni_id:
            continue
        decided = Expectation(decide(state, packet_at(end, other, direction, probe, source_port), options))
        if not decided.is_accepted:
            return Expectation(decided.decision, direction.value)
        audited = audited or (decided if decided.decision.would is not None else None)
    return audited or decided


def packet_at(end: ProbeEnd, other: ProbeEnd, direction: Direction, probe: Probe, source_port: int) -> Packet:
    """Return the probe's opening packet as the policy of one end sees it."""
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


def explain_result(result: ProbeResult) -> str:
    """Return what was expected and what was observed, in words."""
    expected, observed = result.expected, result.observed
    at = f" at {expected.where}" if expected.where else ""
    seen_at = f" at {observed.where}" if observed.where else ""
    evidence = "; ".join(observed.evidence)
    return (
        f"expected {expected.verdict}{at} by {words.cite_decision(expected.decision)}, "
        f"observed {observed.verdict}{seen_at}: {evidence}"
    )


def result_as_json(result: ProbeResult) -> dict[str, object]:
    """Return the keys that command-line.md lists, and what tells results of one pair apart.

    That is the addresses, the directions and the evidence.
    """
    probe, observed = result.probe, result.observed
    return {
        **result.expected.decision.as_json(),
        "expected": result.expected.verdict,
        "observed": observed.verdict,
        "from": probe.source.node,
        "to": probe.target.node,
        "protocol": str(Protocol(probe.service.protocol)),
        "port": probe.service.port or None,
        "from_address": str(probe.source.address),
        "to_address": str(probe.target.address),
        "source_port": observed.source_port or None,
        "expected_where": result.expected.where or None,
        "observed_where": observed.where or None,
        "agrees": result.agrees,
        "evidence": list(observed.evidence),
    }
