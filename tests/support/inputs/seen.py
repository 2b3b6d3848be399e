"""Evidence for tests, said in a line a flow: `eni-a ingress tcp/22 from 10.0.0.9`."""

from __future__ import annotations

from sgdataplane.net.ports import parse_traffic
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.suggest.evidence import Passage, SeenFlow


def seen(text: str, *, sessions: int = 1, passage: Passage = Passage.PASSED) -> SeenFlow:
    """`ENI direction traffic from|to address-or-block`."""
    eni_id, direction, traffic, _, remote = text.split()
    asked = parse_traffic(traffic)
    port = asked.ports.first if asked.ports else None
    return SeenFlow(
        eni_id, Direction(direction), (Prefix.parse(remote),), asked.protocol.number, port, passage=passage,
        sessions=sessions,
    )  # fmt: skip
