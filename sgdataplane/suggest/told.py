"""What a suggestion reports: each rule with its evidence and what it closes, and what nobody can know.

Owns the measures and the notes. Is given drafted rules. Must not know how they were made, nor how they are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroupRule
from sgdataplane.model.words import first_of, pluralize
from sgdataplane.net.ranges import count, unite
from sgdataplane.net.values import PORT_PROTOCOLS, Family
from sgdataplane.suggest.ends import EVERYBODY, Namer, unite_by_family
from sgdataplane.suggest.judge import prefixes_of
from sgdataplane.suggest.make import Name
from sgdataplane.suggest.plan import Drafted, Width
from sgdataplane.suggest.result import Measure, SeenSummary, SuggestedRule
from sgdataplane.suggest.room import Unit
from sgdataplane.suggest.scope import ChangingGroups, Grant, GrantKind

ALL_SERVICES = (256 - len(PORT_PROTOCOLS)) + 65536 * len(PORT_PROTOCOLS)
NAMED = 5
WIDER = {
    Width.SEEN: "",
    Width.ADDRESSES: "neither groups nor lists are named",
    Width.BLOCKS: "addresses are blocks (/24, /64)",
    Width.REMOTES: "each port keeps the remote that it has",
    Width.KEPT: "it stays as it is",
}


def make_suggested_rules(state: CloudState, drafted: Iterable[Drafted], namer: Namer) -> tuple[SuggestedRule, ...]:
    """Return each rule once, by group and direction."""
    found: dict[tuple[str, SecurityGroupRule], Drafted] = {}
    for one in drafted:
        key = one.slot.group_id, one.rule
        earlier = found.get(key)
        found[key] = one if earlier is None else _join_drafted(earlier, one)
    told = [_summarize_rule(state, one, namer) for one in found.values()]
    return tuple(sorted(told, key=lambda one: (one.group_id, one.rule.direction.value != "ingress")))


def _join_drafted(one: Drafted, other: Drafted) -> Drafted:
    return Drafted(one.slot, one.rule, one.end, (*one.cells, *other.cells))


def _summarize_rule(state: CloudState, one: Drafted, namer: Namer) -> SuggestedRule:
    group_id, rule = one.slot.group_id, one.rule
    replaces = tuple(name for name in dict.fromkeys(grant.name for grant in one.grants) if name)
    is_named = not isinstance(rule.remote, (GroupRef, PrefixListRef))
    return SuggestedRule(
        group_id,
        rule,
        replaces,
        is_kept=rule in state.group[group_id].rules,
        is_new=one.slot.kind is GrantKind.NEW,
        observed=SeenSummary.of(cell.flow for cell in one.cells),
        measure=_measure(state, one, namer),
        members=None if is_named else namer.count_seen(one.end, (cell.end for cell in one.cells)),
    )


def _measure(state: CloudState, one: Drafted, namer: Namer) -> Measure:
    rule = one.rule
    families = [f for f in Family if rule.ip_protocol.exists_in(f) and (rule.narrowing or EVERYBODY[f]).family is f]
    size = namer.size_of(rule.remote)
    families = [family for family in families if size[family]]
    before = [_remotes(state, grant) for grant in one.grants if grant.slot.kind is not GrantKind.NEW]
    return Measure(
        sum(count(size[family]) for family in families),
        sum(count(unite(i for sized in before for i in sized[family])) for family in families),
        services(rule, state),
        max((services(grant.rule, state) for grant in one.grants if grant.slot.kind is not GrantKind.NEW), default=0),
    )


def _remotes(state: CloudState, grant: Grant) -> Mapping[Family, tuple[tuple[int, int], ...]]:
    if grant.rule is not None:
        return unite_by_family(prefixes_of(state, grant.rule.remote))
    if grant.slot.kind is GrantKind.INNER:
        return unite_by_family(prefixes_of(state, GroupRef(grant.slot.group_id)))
    return unite_by_family(EVERYBODY.values())


def services(rule: SecurityGroupRule | None, state: CloudState) -> int:
    """Return how many services a rule is about: ports, or 1 for a protocol without ports.

    None stands for inner accept or a default, which are about all.
    """
    if rule is None or rule.ip_protocol.is_all:
        return ALL_SERVICES
    if rule.port_list_id:
        entries = state.port_list[rule.port_list_id].entries
        return count(unite((entry.port_range.first, entry.port_range.last) for entry in entries))
    return 1 if rule.port_range is None else rule.port_range.last - rule.port_range.first + 1


def notes_of(state: CloudState, scope: ChangingGroups, units: Mapping[Name, Unit], lost: int) -> Iterator[str]:
    """Yield what is wider than what was seen, and why; and what couldn't be used."""
    for name, unit in units.items():
        where = _names(unit.group_ids)
        if not unit.reason:
            continue
        if name[0] == GrantKind.NEW.value:
            yield f"no room in the quotas for new rules in {where}"
        elif name[0] == GrantKind.INNER.value:
            yield f"the inner policy of {where} stays Accept: {unit.reason}"
        elif name[0] == GrantKind.DEFAULT.value and unit.is_kept:
            yield from () if _is_closed(state, unit) else (f"the egress of {where} isn't closed: {unit.reason}",)
        else:
            yield f"{_what(unit)} of {where}: {WIDER[unit.width]}, as {unit.reason}"
    if scope.managed:
        yield f"{_names(scope.managed)} can't be changed: a service of the cloud manages them"
    if lost:
        sessions = pluralize(lost, "session")
        yield f"{sessions} recorded without a port can't be carried: the state has no rule that let them pass"


def _what(unit: Unit) -> str:
    names = {grant.name: None for one in unit.draft() for grant in one.grants}
    return f"in place of {first_of(list(names), NAMED)}"


def _is_closed(state: CloudState, unit: Unit) -> bool:
    """Return whether rules close the egress already, as those of an earlier suggestion do."""
    rules = (rule for group_id in unit.group_ids for rule in state.group[group_id].rules)
    return not unit.plans and any(
        (rule.direction.value, rule.policy.value, rule.ip_protocol.is_all) == ("egress", "drop", True)
        and rule.remote == EVERYBODY[Family.IPV4]
        for rule in rules
    )


def _names(group_ids: Iterable[str]) -> str:
    return first_of(sorted(group_ids), NAMED)
