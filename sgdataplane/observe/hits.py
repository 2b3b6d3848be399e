"""The meaning of the counters in a namespace's tables: the rules and the other causes that decide about packets.

Owns the way from a counter's name to a rule, reading all counters of a namespace, and the keys of a row. Is given a
state and ENIs. Must not know who asks, or how counts are kept.

A counter belongs to a table, so the ENIs of one namespace are counted together. It counts the packets that a rule (or
another cause) decided. Later packets of a session that was accepted ask no rule, and are counted nowhere.

    counter                     its name in the kernel
    eni                         what passes at an ENI in audit mode is counted for each ENI; null for all else
    audited                     it passes (its verdict is accept), and what the other keys say would drop it
    kind                        "rule", "inner_accept", "default"; "fixed": before any rule is asked; "fence"
    direction, verdict          ingress | egress, accept | drop
    security_group_id, security_group_rule_id, priority    of a rule; of an inner accept the group
    cause                       of "fixed" and "fence": docs/reference/causes.md
    in_force                    false: the policy no longer has what it counted; then all but the name may be null
    packets, bytes              that it has decided since `since`
    first_hit, last_hit         null: never, or (in a lab) not known
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sgdataplane.contract.counters import AUDITED_BY, CAUSES, FENCE_CAUSES, PASSING, counter_name, name_audited_at
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.host import netns
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.decision import DEFAULT, FENCE, Decision
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.semantics import of_rule
from sgdataplane.model.state import CloudState, NicType
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.counters import Counted, read_counters, read_wanted
from sgdataplane.observe.ledger import Sum
from sgdataplane.policy.resolve import resolve_profile

PREFIXES = ("rule.", "inner.", "default.", f"{AUDITED_BY}.")  # counter_name(), name_audited_at()
NO_ENIS: Mapping[str, str] = {}


def _list_fixed() -> Iterator[Decision]:
    for hook in Direction:
        for cause in CAUSES:
            yield Decision(hook, Verdict.ACCEPT if cause in PASSING else Verdict.DROP, cause)
    for cause in FENCE_CAUSES:
        yield Decision(Direction.EGRESS, Verdict.DROP, FENCE + cause)


FIXED: Mapping[str, Decision] = {counter_name(decision): decision for decision in _list_fixed()}


def decisions(state: CloudState, interfaces: Mapping[str, str]) -> dict[str, Decision]:
    """Return what each counter counts, in the order in which tables of counters list them.

    First come the inner accepts and rules of these ENIs' groups in the order in which they decide, profile by profile,
    then the default, ingress before egress. What passes at ENIs in audit mode comes next, ENI by ENI, and the fixed
    causes at the end. Rules that no packet can reach are included, although no table has a counter for them.

    Args:
        state: The state in force.
        interfaces: ENI id -> interface name.
    """
    enis = [state.eni[eni_id] for eni_id in interfaces if eni_id in state.eni]
    found: dict[str, Decision] = {}
    for eni in {(tuple(sorted(eni.security_group_ids)), eni.nic_type): eni for eni in enis}.values():
        profile = resolve_profile(state, eni, DEFAULTS)
        for permission in (*profile.ingress, *profile.egress):
            found.setdefault(counter_name(permission.decision), permission.decision)
    found = found | {name: rule for name, rule in rules(state, interfaces).items() if name not in found}
    last = sorted(found.items(), key=lambda item: (item[1].direction is Direction.EGRESS, item[1].cause == DEFAULT))
    audited = {name: decision for name, (_, decision) in audits(state, interfaces).items()}
    return {**dict(last), **audited, **FIXED}


def audits(state: CloudState, interfaces: Mapping[str, str]) -> dict[str, tuple[str, Decision]]:
    """Return counter -> ENI in audit mode, and the decision by which packets pass there.

    `interfaces` is ENI id -> interface name.
    """
    known: dict[tuple[tuple[str, ...], NicType], list[Decision]] = {}
    found: dict[str, tuple[str, Decision]] = {}
    for eni_id, ifname in interfaces.items():
        eni = state.eni.get(eni_id)
        if eni is None or not eni.is_audited:
            continue
        key = tuple(sorted(eni.security_group_ids)), eni.nic_type
        if key not in known:
            profile = resolve_profile(state, eni, DEFAULTS)
            every = (permission.decision for permission in (*profile.ingress, *profile.egress))
            known[key] = [decision for decision in every if decision.verdict is Verdict.DROP]
        found.update((name_audited_at(ifname, would), (eni_id, Decision.audit(would))) for would in known[key])
    return found


def rules(state: CloudState, eni_ids: Iterable[str]) -> dict[str, Decision]:
    """Return counter -> rule, for all rules of these ENIs' groups.

    Those for another nic type or an unknown group are included.
    """
    enis = (state.eni[eni_id] for eni_id in eni_ids if eni_id in state.eni)
    groups = sorted({group_id for eni in enis for group_id in eni.security_group_ids})
    found = (of_rule(group_id, rule) for group_id in groups for rule in state.group[group_id].rules)
    return {counter_name(decision): decision for decision in found}


def read_hits(namespace: str) -> dict[str, Counted]:
    """Read the counters of rules and other causes in sgdataplane's tables there, by name.

    Raises:
        HostError: There is no such namespace.
        OSError: The kernel refuses.
    """
    with netns.inside(namespace), Nfnetlink() as netlink:
        return of_causes(read_counters(netlink, TABLE) | read_counters(netlink, TABLE, NETDEV))


def read_own(namespace: str, wanted: Collection[str]) -> dict[str, Counted]:
    """Read the counters of these names in sgdataplane's tables there, and no others.

    Root of the namespace can add counters with names like ours. Errors as in read_hits.
    """
    with netns.inside(namespace), Nfnetlink() as netlink:
        found = read_wanted(netlink, TABLE, "inet", wanted)
        return found | read_wanted(netlink, TABLE, NETDEV, wanted)


def of_causes(counters: Mapping[str, Counted]) -> dict[str, Counted]:
    """Return only the counters of rules and other causes; others count the drops of each ENI once more."""
    return {name: counted for name, counted in counters.items() if name in FIXED or name.startswith(PREFIXES)}


def rows(
    known: Mapping[str, Decision], sums: Mapping[str, Sum], enis: Mapping[str, str] = NO_ENIS
) -> Iterator[dict[str, object]]:
    """Yield a row for each counter that somebody may want to see.

    These are each rule in force, hit or not; each fixed cause that was ever hit; and each former counter that has
    counted something.

    Args:
        known: What each counter counts.
        sums: What each has counted.
        enis: The ENI of each counter that is one ENI's alone.
    """
    for name, decision in known.items():
        found = sums.get(name)
        is_met = found is not None and found.packets
        if is_met or name not in FIXED:
            yield {**_row(name, decision, found), "eni": enis.get(name)}
    for name, found in sums.items():
        if name not in known and found.packets:
            yield {**_row(name, FIXED.get(name), found, is_in_force=False), "eni": None}


def map_logged(state: CloudState, interfaces: Mapping[str, str]) -> dict[str, Decision]:
    """Return counter -> what it counts, of rules and of what is audited, as logged packets name it.

    `interfaces` is ENI id -> interface name.
    """
    audited = (decision for _, decision in audits(state, interfaces).values())
    return rules(state, interfaces) | {counter_name(decision): decision for decision in audited}


def eni_of_counter(state: CloudState, interfaces: Mapping[str, str]) -> dict[str, str]:
    """Return the ENI of each counter that is one ENI's alone, for rows()."""
    return {name: eni_id for name, (eni_id, _) in audits(state, interfaces).items()}


def _row(name: str, decision: Decision | None, found: Sum | None, *, is_in_force: bool = True) -> dict[str, object]:
    """Return a row; what is audited is described as what would happen to it, and as passing."""
    found, is_audited = found or Sum(0, 0, ""), decision is not None and decision.would is not None
    passing, decision = decision, decision and decision.enforced
    return {
        "counter": name,
        "kind": decision and _kind(decision),
        "direction": decision and decision.direction.value,
        "verdict": passing and passing.verdict.value,
        "audited": is_audited or name.startswith(AUDITED_BY),
        "security_group_id": (decision and decision.security_group_id) or None,
        "security_group_rule_id": (decision and decision.security_group_rule_id) or None,
        "priority": (decision and decision.priority) or None,
        "cause": (decision and decision.clause) or None,
        "in_force": is_in_force,
        "packets": found.packets,
        "bytes": found.bytes,
        "since": found.since or None,
        "first_hit": found.first or None,
        "last_hit": found.last or None,
    }


def _kind(decision: Decision) -> str:
    if not decision.is_fixed:
        return decision.cause
    return "fence" if decision.cause.startswith(FENCE) else "fixed"


def decision_of(row: Mapping[str, Any]) -> Decision | None:
    """Return what a row counts; None if that isn't known."""
    causes = {"fixed": row["cause"], "fence": f"{FENCE}{row['cause']}", None: None}
    cause = causes.get(row["kind"], row["kind"])
    if cause is None:
        return None
    ids = row["security_group_id"] or "", row["security_group_rule_id"] or ""
    verdict = Verdict.DROP if row.get("audited") else Verdict(row["verdict"])
    found = Decision(Direction(row["direction"]), verdict, cause, *ids, row["priority"] or 0)
    return Decision.audit(found) if row.get("audited") else found
