"""What a change and an explanation say, as JSON: for `sgdp diff --json` and `sgdp explain --json`, and for the API.

Owns the keys (sgdataplane/schemas/diff.schema.json, explain.schema.json). Must not compare or decide anything.
"""

from __future__ import annotations

from sgdataplane.analyse.explain import Explanation
from sgdataplane.analyse.view import Exposure, VerdictChange
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Family, Protocol
from sgdataplane.policy.dimensions import FURTHER, LOCAL, PORT, PORTS, PROTOCOL, PROTOCOLS, REMOTE, Domain


def change_as_json(change: VerdictChange) -> dict[str, object]:
    dimensions = (REMOTE, PROTOCOL, PORT, *FURTHER, LOCAL)
    return {
        "eni": change.eni_id,
        "direction": change.direction.value,
        "family": change.family.value,
        **{each.key: _exactly(each.domain, change.of(each), change.family) for each in dimensions},
        "before": change.before.as_json(),
        "after": change.after.as_json(),
    }


def exposure_as_json(exposure: Exposure) -> dict[str, object]:
    return {
        "eni": exposure.eni_id,
        "family": exposure.family.value,
        "protocol": _exactly(PROTOCOLS, exposure.protocol, exposure.family),
        "ports": _exactly(PORTS, exposure.ports, exposure.family),
    }


def _exactly(domain: Domain, interval: Interval | None, family: Family) -> str | None:
    return None if interval is None else domain.exact(interval, family)


def end_as_json(end: Explanation) -> dict[str, object]:
    packet = end.packet
    return {
        "eni": packet.eni_id,
        "direction": packet.direction.value,
        "protocol": str(Protocol(packet.protocol)),
        "port": packet.port,
        "source_port": packet.source_port,
        "remote": str(packet.remote),
        "local": str(packet.local),
        **end.decision.as_json(),
        "cause": end.decision.clause or None,
        "later": [{**later.decision.as_json(), "outranked_by": later.outranked_by} for later in end.later],
        "near_misses": [
            {
                **miss.decision.as_json(),
                "field": miss.field,
                "asks_for": miss.asked,
                "packet_has": miss.found,
                "would_decide": miss.would_decide,
            }
            for miss in end.near_misses
        ],
    }
