"""What the counters of a namespace's tables stand for: the rules and the other causes that decide about packets.

Owns the way from a counter's name to a rule, reading all counters of a namespace, and the keys of a row. Is given a
state and ENIs. Must not know who asks, or how counts are kept.

The kernel counts by table, so by namespace: ENIs of one namespace are counted together. A counter counts the packets
that a rule (or another cause) decided about; what belongs to a session that was accepted since is not asked about
again, and is counted nowhere.

    counter                     its name in the kernel
    kind                        "rule", "inner_accept", "default"; "fixed": before any rule is asked; "fence"
    direction, verdict          ingress | egress, accept | drop
    security_group_id, security_group_rule_id, priority    of a rule; of an inner accept the group
    cause                       of "fixed" and "fence": DESIGN.md sections 3 and 6
    in_force                    false: what it counted is no longer in the policy; then all but the name may be null
    packets, bytes              that it decided about since `since`
    first_hit, last_hit         null: never, or (of a lab) not known
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.compiler import fence, skeleton
from sgdataplane.compiler.lower import counter_name
from sgdataplane.host import netns
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.counters import Counted, read_counters, read_wanted
from sgdataplane.observe.ledger import Sum
from sgdataplane.policy.resolve import resolve_profile

RULE, INNER, DEFAULT, FIXED, FENCE = "rule", "inner_accept", "default", "fixed", "fence"
PREFIXES = ("rule.", "inner.", "default.")  # lower.counter_name


@dataclass(frozen=True, slots=True)
class Subject:
    """What one counter counts. `kind`: "rule"; "inner_accept" of a group; "default"; "fixed": before any rule is asked,
    as `cause` says; "fence": at the fence. `priority` 0: none."""

    counter: str
    kind: str
    direction: Direction
    verdict: Verdict
    security_group_id: str = ""
    security_group_rule_id: str = ""
    priority: int = 0
    cause: str = ""


def _fixed() -> Iterator[Subject]:
    for hook in Direction:
        for cause in skeleton.CAUSES:
            verdict = Verdict.ACCEPT if cause in skeleton.PASSING else Verdict.DROP
            yield Subject(skeleton.fixed_counter(hook, cause), FIXED, hook, verdict, cause=cause)
    for cause in fence.CAUSES:
        yield Subject(fence.fence_counter(cause), FENCE, Direction.EGRESS, Verdict.DROP, cause=cause)


FIXED_SUBJECTS: Mapping[str, Subject] = {subject.counter: subject for subject in _fixed()}


def subjects(state: CloudState, eni_ids: Iterable[str]) -> dict[str, Subject]:
    """By counter, by direction: inner accepts and rules of these ENIs' groups in the order that decides, profile by
    profile, then the default; after both the fixed causes. Rules that no packet can come to are among them, though no
    table has a counter of theirs."""
    enis = [state.eni[eni_id] for eni_id in eni_ids if eni_id in state.eni]
    found: dict[str, Subject] = {}
    for eni in {(tuple(sorted(eni.security_group_ids)), eni.nic_type): eni for eni in enis}.values():
        profile = resolve_profile(state, eni, DEFAULTS)
        for permission in (*profile.ingress, *profile.egress):
            _add(found, permission.decision)
    for group_id in sorted({group_id for eni in enis for group_id in eni.security_group_ids}):
        for rule in state.group[group_id].rules:  # those that are of another network interface, or name no group
            ids = (group_id, rule.security_group_rule_id)
            _add(found, Decision(rule.direction, rule.policy, RULE, *ids, rule.priority))
    ordered = sorted(found.values(), key=lambda entry: (entry.direction is Direction.EGRESS, entry.kind == DEFAULT))
    return {entry.counter: entry for entry in (*ordered, *FIXED_SUBJECTS.values())}


def _add(found: dict[str, Subject], decision: Decision) -> None:
    ids = (decision.security_group_id, decision.security_group_rule_id, decision.priority)
    name = counter_name(decision)
    found.setdefault(name, Subject(name, decision.cause, decision.direction, decision.verdict, *ids))


def read_hits(namespace: str) -> dict[str, Counted]:
    """By name, all such counters of our tables there. HostError if there is no such namespace, OSError if the kernel
    refuses."""
    with netns.inside(namespace), Nfnetlink() as door:
        return of_causes(read_counters(door, skeleton.TABLE) | read_counters(door, skeleton.TABLE, fence.NETDEV))


def read_own(namespace: str, wanted: Collection[str]) -> dict[str, Counted]:
    """Of these names those that our tables there have, and nothing else: who is root there makes others, named as ours
    are. Errors as in read_hits."""
    with netns.inside(namespace), Nfnetlink() as door:
        found = read_wanted(door, skeleton.TABLE, "inet", wanted)
        return found | read_wanted(door, skeleton.TABLE, fence.NETDEV, wanted)


def of_causes(counters: Mapping[str, Counted]) -> dict[str, Counted]:
    """Those that count what a rule or another cause decided about: what is dropped of each ENI is counted once more."""
    return {name: counted for name, counted in counters.items() if name in FIXED_SUBJECTS or name.startswith(PREFIXES)}


def rows(known: Mapping[str, Subject], sums: Mapping[str, Sum]) -> Iterator[dict[str, object]]:
    """A row for each rule in force, counted or not; each other cause that was ever met; and each counter of old that
    has counted something."""
    for subject in known.values():
        found = sums.get(subject.counter)
        is_met = found is not None and found.packets
        if is_met or subject.counter not in FIXED_SUBJECTS:
            yield _row(subject.counter, subject, found)
    for name, found in sums.items():
        if name not in known and found.packets:
            yield _row(name, FIXED_SUBJECTS.get(name), found, is_in_force=False)


def _row(name: str, subject: Subject | None, found: Sum | None, *, is_in_force: bool = True) -> dict[str, object]:
    found = found or Sum(0, 0, "")
    return {
        "counter": name,
        "kind": subject and subject.kind,
        "direction": subject and subject.direction.value,
        "verdict": subject and subject.verdict.value,
        "security_group_id": (subject and subject.security_group_id) or None,
        "security_group_rule_id": (subject and subject.security_group_rule_id) or None,
        "priority": (subject and subject.priority) or None,
        "cause": (subject and subject.cause) or None,
        "in_force": is_in_force,
        "packets": found.packets,
        "bytes": found.bytes,
        "since": found.since or None,
        "first_hit": found.first or None,
        "last_hit": found.last or None,
    }
