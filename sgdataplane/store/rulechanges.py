"""The rules that a commit adds, changes or removes, as its audit record keeps them.

Owns the comparison of groups before and after a change, and its limit. Must not know actions, or how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import cast

from sgdataplane.store.documents import Fields, ResourceKind, Workspace, kind_of, name_of, rules_in
from sgdataplane.store.interface import Body, Json

MAX_RULES = 1_000  # in one record: a commit that imports a state may have a million
NAME = "security_group_rule_id"


def rule_changes(workspace: Workspace) -> Body:
    """Return what a record says of rules. Nothing if the commit changes none.

    {"rules": [{"security_group_id": ..., "before": a rule in the native format, or null if it is new,
                "after": the rule, or null if it is removed}],
     "more_rules": how many other rules the commit changes}
    """
    changes = _changes(workspace)
    rules = cast("list[Json]", [*islice(changes, MAX_RULES)])
    more = sum(1 for _ in changes)
    return {"rules": rules, "more_rules": more} if rules else {}


def _changes(workspace: Workspace) -> Iterator[Fields]:
    for path in sorted(workspace.changed):
        if kind_of(path) is ResourceKind.GROUP:
            before, after = (
                {} if body is None else {str(rule.get(NAME)): rule for rule in rules_in(body)}
                for body in (workspace.documents.get(path), workspace.puts.get(path))
            )
            for rule_id in {**before, **after}:
                old, new = before.get(rule_id), after.get(rule_id)
                if old != new:
                    yield {"security_group_id": name_of(path), "before": cast(Json, old), "after": cast(Json, new)}
