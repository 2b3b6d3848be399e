"""Evidence kept beside rules, as their descriptions.

Owns the words. Is given a suggestion. Must not change what any rule does.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sgdataplane.model.words import pluralize
from sgdataplane.suggest.result import SeenSummary, Suggestion


def add_descriptions(found: Suggestion) -> Suggestion:
    """Return the suggestion with the evidence as the description of each rule that the state doesn't have."""
    rules = tuple(
        one if one.is_kept else replace(one, rule=replace(one.rule, description=description(one.observed)))
        for one in found.rules
    )
    by_id = {(one.group_id, one.rule.security_group_rule_id): one.rule for one in rules}
    groups = tuple(
        replace(
            group, rules=tuple(by_id.get((group.security_group_id, r.security_group_rule_id), r) for r in group.rules)
        )
        for group in found.after.security_groups
    )
    return replace(found, rules=rules, after=replace(found.after, security_groups=groups))


def description(observed: SeenSummary) -> str:
    """Return evidence in a few words, with days in UTC."""
    text = f"{pluralize(observed.sessions, 'session')} of {pluralize(observed.ends, 'end')} seen"
    days = [_day(at) for at in (observed.first, observed.last) if at is not None]
    return " ".join((text, " to ".join(dict.fromkeys(days)))).strip()


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
