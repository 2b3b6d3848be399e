"""The answer of SgdpDescribeEvents: the records of the audit.

Owns its pages, and what of a record a key may see. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from sgdataplane.control.access.hiding import hide_unseen, may_see_group
from sgdataplane.control.access.permissions import Rights
from sgdataplane.control.actions.scope import MAX_TOKEN, Scope
from sgdataplane.store.audit import record_as_json
from sgdataplane.store.history import PRUNED, find_last_pruned
from sgdataplane.store.interface import AuditRecord, Body, Json, Store

MAX_EVENTS = 1_000
MAX_EVENT_RULES = 2_000  # rules in one answer, or those of one event
EVENTS_AT_ONCE = 20  # that are read from the store: each may have 1,000 rules
MAX_REVISION = 1 << 62
EVENT = {  # an audit record's fields, as the API names them
    "revision": "Revision",
    "time": "Time",
    "request_id": "RequestId",
    "key": "AccessKeyId",
    "action": "Action",
    "source": "SourceIpAddress",
    "changed": "Changed",
    "rules": "Rules",
    "more_rules": "MoreRules",
}


def describe_events(scope: Scope, store: Store, rights: Rights) -> Body:
    """Answer SgdpDescribeEvents with the audit records, in order, from the revision after After.

    Ids that the key may not see are hidden, and rules of such groups are only counted.
    """
    after = scope.number("After", 0)
    token = scope.text("NextToken")
    if token.isascii() and token.isdecimal() and len(token) <= MAX_TOKEN:
        after = int(token)
    size = min(max(scope.number("MaxResults", 100), 1), MAX_EVENTS)
    events, may_be_more = _read_events(store, min(after, MAX_REVISION), size)
    may_see = cache(partial(may_see_group, call=scope.call, rights=rights))
    records = ({**record_as_json(event), **_visible_rules(event, may_see)} for event in events)
    shown: list[Json] = [{key: record.get(name, "") for name, key in EVENT.items()} for record in records]
    documents = scope.workspace.documents
    hidden = hide_unseen({"Events": shown}, documents, scope.call, rights)
    more = {"Epoch": documents.version.epoch, "PrunedUpTo": find_last_pruned(documents.get(PRUNED))}
    return {**hidden, "NextToken": str(events[-1].revision) if may_be_more else "", **more}


def _read_events(store: Store, after: int, size: int) -> tuple[list[AuditRecord], bool]:
    """Return up to `size` records, fewer if they have very many rules; and whether there may be more."""
    found: list[AuditRecord] = []
    rules = 0
    while len(found) < size and rules < MAX_EVENT_RULES:
        wanted = min(EVENTS_AT_ONCE, size - len(found))
        batch = store.events(found[-1].revision if found else after, wanted)
        for event in batch:
            rules += len(_rules_in(event))
            if found and rules > MAX_EVENT_RULES:
                return found, True
            found.append(event)
        if len(batch) < wanted:
            return found, False
    return found, True


def _rules_in(event: AuditRecord) -> Sequence[Json]:
    """Return the rules that a record has. Another program may have written anything there."""
    rules = event.record.get("rules")
    return rules if isinstance(rules, list) else ()


def _visible_rules(event: AuditRecord, may_see: Callable[[str], bool]) -> Body:
    """Return the rules of a record that the key may see, and how many others the commit has changed."""
    rules, more = _rules_in(event), event.record.get("more_rules", 0)
    seen = [one for one in rules if isinstance(one, Mapping) and may_see(str(one.get("security_group_id", "")))]
    return {"rules": seen, "more_rules": len(rules) - len(seen) + (more if isinstance(more, int) else 0)}
