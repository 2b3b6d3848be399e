"""The audit of the API's store, as a table for people.

Owns its columns and wording. Must not know where records come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sgdataplane.model.words import pluralize
from sgdataplane.terminal.output import render_table, whole_seconds

HEADERS = ("REVISION", "TIME", "DONE BY", "ACTION, AND WHAT IT CHANGED")
AT_ONCE = 1_000  # records of one table; the next ones have a table of their own
SHOWN = 3  # changed objects, and changed rules, that one line names; more are counted
NO_PORTS = "-1/-1"
REMOTES = ("cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "dest_security_group_id", "prefix_list_id")
# Fields of a rule with a place of their own in its line. All others stand behind it, with their names.
SAID = (*REMOTES, "policy", "type", "ip_protocol", "port_list_id", "port_range", "security_group_rule_id")
Rule = Mapping[str, Any]


def audit_tables(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield the records as tables for people; nothing if there is no record."""
    while batch := list(islice(records, AT_ONCE)):
        yield render_table(HEADERS, map(_row, batch))


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    at, action = whole_seconds(str(record.get("time", ""))), str(record.get("action", "-"))
    changed = f"{action} {_name_objects(record.get('changed', []))}"
    rules = _rules(record.get("rules", []), record.get("more_rules", 0))
    return str(record["revision"]), at, _author_of(record), changed + rules


def _author_of(record: Mapping[str, Any]) -> str:
    """Return a key and where it was used, or a user of this host."""
    key, source = str(record.get("key") or ""), str(record.get("source") or "-")
    if key:
        return f"{key} from {source}"
    user = source.removeprefix("uid:")
    return f"{'root' if user == '0' else f'user {user}'} on this host"


def _name_objects(paths: Sequence[str]) -> str:
    """Return the objects behind these documents; counted by kind if they are more than SHOWN."""
    objects = [(_kind(path), path.partition("/")[2]) for path in paths]
    if len(objects) <= SHOWN:
        return ", ".join(f"{kind} {name}".rstrip() for kind, name in objects)
    return ", ".join(pluralize(number, kind) for kind, number in Counter(kind for kind, _ in objects).items())


def _kind(path: str) -> str:
    """Return the kind of a document's object, as people say it."""
    kind = path.partition("/")[0]
    return {"vpc": "VPC", "network_interface": "ENI"}.get(kind, kind.replace("_", " "))


def _rules(changes: Sequence[Mapping[str, Any]], more: int) -> str:
    """Return the changed rules, to stand behind the changed objects; more than SHOWN are only counted."""
    if len(changes) + more > SHOWN:
        return f", {pluralize(len(changes) + more, 'rule')}"
    words = "; ".join(_rule_change(change["before"], change["after"]) for change in changes)
    return words and f": {words}"


def _rule_change(before: Rule | None, after: Rule | None) -> str:
    """Return what happened to one rule, with its ports and its remote."""
    if before and after:
        return f"changed {_name(after)}: {_meaning(after)} (it was {_meaning(before)})"
    there = after or before or {}
    return f"{'added' if after else 'removed'} {_name(there)}: {_meaning(there)}"


def _name(rule: Rule) -> str:
    return str(rule.get("security_group_rule_id", "a rule"))


def _meaning(rule: Rule) -> str:
    """Return what a rule of the native format says: "accept ingress tcp 443/443 from 0.0.0.0/0"."""
    is_egress = rule.get("type") == "egress"
    ports = rule.get("port_list_id") or rule.get("port_range", NO_PORTS)
    words = [
        str(rule.get("policy", "accept")),
        str(rule.get("type", "-")),
        str(rule.get("ip_protocol", "-")),
        *([] if ports == NO_PORTS else [str(ports)]),
        "to" if is_egress else "from",
        next((str(rule[name]) for name in REMOTES if name in rule), "-"),
    ]
    more = [f"{name.replace('_', ' ')} {value}" for name, value in rule.items() if name not in SAID]
    return " ".join([*words, *([f"({', '.join(more)})"] if more else [])])
