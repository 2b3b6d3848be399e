"""A suggestion as JSON.

Owns the keys (sgdataplane/schemas/suggest.schema.json). Must not judge anything.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sgdataplane.analyse.document import difference_as_json
from sgdataplane.model.state import SecurityGroupRule
from sgdataplane.net.values import Protocol
from sgdataplane.statefile.dump_native import rule_fields
from sgdataplane.suggest.result import Measure, RefusedFlow, SeenSummary, SuggestedRule, Suggestion


def suggestion_as_json(found: Suggestion) -> dict[str, object]:
    """Return all of a suggestion except the state itself."""
    return {
        "rules": [_serialize_suggested(one) for one in found.rules],
        "closing_rules": [_rule(group_id, rule) for group_id, rule in found.closing],
        "inner_policies_dropped": list(found.inner),
        "unused_rules": [{**_rule(one.group_id, one.rule), "stays": one.stays} for one in found.unused],
        "refused": [_serialize_refused(one) for one in found.refused],
        "dropped_sessions": found.dropped,
        "always_passing_sessions": found.always,
        "silent_enis": list(found.silent),
        "untouched_groups": list(found.untouched),
        "notes": list(found.notes),
        "diff": difference_as_json(found.difference),
    }


def _serialize_suggested(one: SuggestedRule) -> dict[str, object]:
    seen, members = one.members or (None, None)
    return {
        **_rule(one.group_id, one.rule),
        "replaces": list(one.replaces),
        "unchanged": one.is_kept,
        "new": one.is_new,
        "evidence": evidence_as_json(one.observed),
        "members_seen": seen,
        "members": members,
        "closes": _measure(one.measure),
    }


def _rule(group_id: str, rule: SecurityGroupRule) -> dict[str, object]:
    return {
        "security_group_id": group_id,
        "security_group_rule_id": rule.security_group_rule_id,
        "rule": rule_fields(group_id, rule),
    }


def evidence_as_json(observed: SeenSummary) -> dict[str, object]:
    """Return evidence; times are in UTC, null if they are unknown."""
    return {
        "sessions": observed.sessions,
        "answered": observed.answered,
        "ends": observed.ends,
        "first": _time(observed.first),
        "last": _time(observed.last),
    }


def _measure(measure: Measure) -> dict[str, int]:
    return {
        "addresses": measure.addresses,
        "addresses_before": measure.addresses_before,
        "services": measure.services,
        "services_before": measure.services_before,
    }


def _serialize_refused(one: RefusedFlow) -> dict[str, object]:
    packet = one.packet
    return {
        "eni": packet.eni_id,
        "direction": packet.direction.value,
        "remote": str(packet.remote),
        "protocol": str(Protocol(packet.protocol)),
        "port": packet.port,
        "sessions": one.flow.sessions,
        **one.decision.as_json(),
        "allowed": one.is_allowed,
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
