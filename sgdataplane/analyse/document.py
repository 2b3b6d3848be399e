"""A comparison and an explanation as JSON: for `sgdp diff --json`, `sgdp explain --json`, and the API.

Owns the keys (sgdataplane/schemas/diff.schema.json, explain.schema.json). Must not compare or decide anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.analyse.difference import Difference
from sgdataplane.analyse.explain import Explanation
from sgdataplane.analyse.hypothetical import WouldOpen
from sgdataplane.analyse.view import Exposure, VerdictChange
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Family, Protocol
from sgdataplane.policy.dimensions import FURTHER, LOCAL, PORT, PORTS, PROTOCOL, PROTOCOLS, REMOTE, Domain
from sgdataplane.policy.findings import Finding


def difference_as_json(found: Difference) -> dict[str, list[object]]:
    """Return all that a comparison found, by its keys in the document."""
    return {
        "changes": [change_as_json(change) for change in found.changes],
        "would_open": [row for one in found.would_open for row in _would_open_as_json(one)],
        "added": [*found.added],
        "removed": [*found.removed],
        "opened_to_internet": [exposure_as_json(exposure) for exposure in found.exposures],
        "would_open_to_internet": [row for one in found.would_open for row in _would_expose_as_json(one)],
        "not_judged": [_blind_as_json(finding) for finding in found.not_judged],
    }


def change_as_json(change: VerdictChange) -> dict[str, object]:
    """Return a change of an ENI's verdict; a dimension that doesn't matter is null."""
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
    """Return what opens to the internet at an ENI."""
    return {
        "eni": exposure.eni_id,
        "family": exposure.family.value,
        "protocol": _exactly(PROTOCOLS, exposure.protocol, exposure.family),
        "ports": _exactly(PORTS, exposure.ports, exposure.family),
    }


def _would_open_as_json(one: WouldOpen) -> Iterator[dict[str, object]]:
    remote = None
    if one.remote is not None:
        remote = {"security_group_ids": list(one.remote.groups), "interface": one.remote.name or None}
    for change in one.changes:
        row = change_as_json(change)
        del row["eni"]
        yield {**_place_as_json(one), "remote_member": remote, **row}


def _would_expose_as_json(one: WouldOpen) -> Iterator[dict[str, object]]:
    for exposure in one.exposures:
        row = exposure_as_json(exposure)
        del row["eni"]
        yield {**_place_as_json(one), **row}


def _place_as_json(one: WouldOpen) -> dict[str, object]:
    return {
        "security_group_ids": list(one.place.security_group_ids),
        "nic_type": one.place.nic_type.value,
        "interface": one.place.name or None,
    }


def _blind_as_json(finding: Finding) -> dict[str, object]:
    return {"code": finding.code, "message": finding.message, "subject": dict(finding.subject)}


def _exactly(domain: Domain, interval: Interval | None, family: Family) -> str | None:
    return None if interval is None else domain.exact(interval, family)


def end_as_json(end: Explanation) -> dict[str, object]:
    """Return what decides a packet at one end, what would decide next, and which rules nearly match."""
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
