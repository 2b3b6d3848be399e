"""What is found of rules in words: code, gravity and message of each finding.

Is given what was found. Must not judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sgdataplane.analyse.exposed import SENSITIVE
from sgdataplane.analyse.needless import Needless
from sgdataplane.analyse.pools import RuleKey, View
from sgdataplane.model import words
from sgdataplane.model.decision import DEFAULT, Decision
from sgdataplane.model.state import GroupRef, PrefixListRef
from sgdataplane.net.values import Direction, Prefix, Verdict
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.policy.resolve import Permission

NAMED = 3  # as many are named in a message; of the others their number
PAST = {Verdict.ACCEPT: "accepted", Verdict.DROP: "dropped"}
PRESENT = {Verdict.ACCEPT: "accepts", Verdict.DROP: "drops"}


@dataclass
class Opened:
    """What a rule opens to the internet: sensitive ports (none of an egress rule), `others` helping."""

    ports: set[int] = field(default_factory=set)
    others: set[Permission] = field(default_factory=set)


def key(rule: Decision) -> RuleKey:
    return rule.security_group_id, rule.security_group_rule_id


def shadowed(needless: Needless) -> Finding:
    other = PAST[Verdict.DROP if needless.rule.verdict is Verdict.ACCEPT else Verdict.ACCEPT]
    message = f"it decides no packet: what it {PRESENT[needless.rule.verdict]} is {other} before{_by(needless)}"
    return _finding("ShadowedRule", Severity.WARNING, message, needless.rule)


def redundant(needless: Needless) -> Finding:
    verdict = needless.rule.verdict
    message = f"what it {PRESENT[verdict]} is {PAST[verdict]} without it, too{_by(needless)}"
    return _finding("RedundantRule", Severity.INFO, message, needless.rule)


def opened(rule: Permission, found: Opened) -> Finding:
    together = f" together with {_names(other.decision for other in found.others)}" if found.others else ""
    if rule.decision.direction is Direction.EGRESS:
        message = "the group may send anything to everywhere" + (f",{together}" if together else "")
        return _finding("WideOpenEgress", Severity.INFO, message, rule.decision)
    if rule.protocol.is_all and len(found.ports) == len(SENSITIVE) and not together:
        message = f"everything from {_remote(rule)} is accepted, on every protocol and port"
    else:
        to_whom = f"the internet{together}" if together else _remote(rule)
        message = f"open to {to_whom}: " + ", ".join(f"{SENSITIVE[port]} ({port})" for port in sorted(found.ports))
    return _finding("WideOpenIngress", Severity.HIGH, message, rule.decision)


def tied(rule: Permission, drops: Iterable[Permission]) -> Finding:
    names = _names(drop.decision for drop in drops)
    message = (
        f"what {names} matches, too, is dropped: all have priority {rule.decision.priority}, and a drop wins a tie"
    )
    return _finding("TieDecidedByDrop", Severity.INFO, message, rule.decision)


def void(rule: Permission, groups: Collection[str]) -> Finding:
    is_everyone = isinstance(rule.remote, Prefix) and rule.remote.length == 0
    names = _listed(sorted(groups))
    message = f"the drop has no effect between members of {names}, whose inner policy is Accept"
    return _finding("VoidDrop", Severity.INFO if is_everyone else Severity.WARNING, message, rule.decision)


def left_out(views: Collection[View]) -> Finding:
    """One for all that was too much."""
    places = dict.fromkeys(view.pool for view in views)
    first = next(iter(places)).profile.security_group_ids
    message = (
        f"not looked at, as there is too much of it: what the rules of {_listed(first)} do together"
        + (f", and those of {len(places) - 1} more sets of groups that ENIs are in" if len(places) > 1 else "")
        + "; of rules there nothing is said that takes looking at all of them"
    )
    return Finding("NotExamined", Severity.INFO, message, ())


def _by(needless: Needless) -> str:
    return f", by {_names(needless.instead)}" if needless.instead else ""


def _finding(code: str, severity: Severity, message: str, rule: Decision) -> Finding:
    group_id, rule_id = key(rule)
    return Finding(code, severity, message, subject(security_group_id=group_id, security_group_rule_id=rule_id))


def _remote(rule: Permission) -> str:
    match rule.remote:
        case GroupRef(name) | PrefixListRef(name):
            return name
        case prefix:
            return str(prefix)


def _names(decisions: Iterable[Decision]) -> str:
    """Those of rules with their group, the strongest first."""
    ordered = sorted(decisions, key=lambda d: (d.cause == DEFAULT, d.priority, d.verdict is Verdict.ACCEPT, key(d)))
    return _listed(list(map(words.name, ordered)))


def _listed(names: Collection[str]) -> str:
    """The first few, in words."""
    shown = list(names)[:NAMED]
    more = len(names) - len(shown)
    parts = [*shown, f"{more} more"] if more else shown
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
