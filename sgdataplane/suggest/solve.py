"""suggest(): a state and evidence -> a state that lets pass what was seen and as little else as groups allow.

Owns the order of the steps, and what holds of the result. Is given values alone. Must not know files, kernels, or how
anything is printed.

    flows --Judge--> what they may have been --ChangingGroups--> cells in slots --SlotPlan--> rules --fit--> the state

What holds of the result, and is checked before it is returned:

1. It accepts each flow that the state accepts (and with `allow_audited`, each that a rule was made for).
2. Without `allow_audited` it accepts nothing that the state refuses, at no ENI, nor at one that joins a group (unless
   that one drops egress with priority 100): each rule is a part of what lets its flows pass today, in the same group
   and of the same strength; a rule in place of inner accept names members; and a rule in place of inner accept or the
   default loses to each drop rule. Drop rules stay.
3. It depends on which flows were seen, not on their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import Difference, compare
from sgdataplane.errors import InternalError
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ALL, Verdict
from sgdataplane.suggest.ends import Namer
from sgdataplane.suggest.evidence import Passage, SeenFlow, gather
from sgdataplane.suggest.judge import Judge, JudgedFlow
from sgdataplane.suggest.make import Maker, Name, list_fixed_units, name_of
from sgdataplane.suggest.plan import Cell, SlotPlan, protocol_of
from sgdataplane.suggest.result import Preferences, RefusedFlow, Suggestion, UnusedRule
from sgdataplane.suggest.room import Unit, fit
from sgdataplane.suggest.scope import EGRESS, ChangingGroups, Grant, GrantKind, Slot
from sgdataplane.suggest.told import make_suggested_rules, notes_of

WHY_VAGUE = "flows that it lets pass were recorded without a port"
WHY_INNER = "without it, a drop rule would refuse what its members were seen to do"


def suggest(state: CloudState, flows: Iterable[SeenFlow], preferences: Preferences, options: Options) -> Suggestion:
    """Suggest a state for what was seen; `options` say how the policy is read.

    Raises:
        LimitError: more flows differ than can be examined.
    """
    judged = {eni.network_interface_id for eni in state.judged_enis}
    return _Solver(state, preferences, options).solve(gather(flow for flow in flows if flow.eni_id in judged))


class _Solver:
    """One suggestion in the making."""

    def __init__(self, state: CloudState, preferences: Preferences, options: Options) -> None:
        self._state, self._preferences, self._options = state, preferences, options
        self._judge = Judge(state, options)
        self._cells: dict[Slot, dict[Cell, None]] = {}
        self._carried: dict[Packet, None] = {}
        self._used: set[tuple[str, str]] = set()
        self._kept: dict[Name, str] = {}  # why some units may not change
        self._refused: list[tuple[SeenFlow, JudgedFlow, Grant | None]] = []
        self._dropped = self._always = self._lost = 0

    def solve(self, flows: Sequence[SeenFlow]) -> Suggestion:
        """Make the suggestion for flows that differ."""
        seen = {flow.eni_id for flow in flows}
        self._scope = ChangingGroups(self._state, seen, self._preferences.groups)
        for flow in flows:
            self._take(flow)
        units = self._units()
        made = Maker(self._state, self._scope, units)
        after = fit(list(units.values()), made.state, self._preferences.profile)
        refused = tuple(self._list_refused_flows(units))
        difference = self._check(after, is_new=any(one.is_allowed for one in refused))
        silent = {e.network_interface_id for g in self._scope.groups for e in self._state.enis_of_group[g]} - seen
        return Suggestion(
            self._state, after,
            make_suggested_rules(self._state, made.rules(), self._namer()),
            tuple(made.close_egress()), tuple(made.inner_closed()), tuple(self._list_unused()),
            refused, tuple(self._carried),
            self._dropped, self._always, tuple(sorted(silent)), self._scope.unseen,
            tuple(notes_of(self._state, self._scope, units, self._lost)), difference,
        )  # fmt: skip

    # flows -> cells

    def _take(self, flow: SeenFlow) -> None:
        if flow.is_vague and flow.passage is Passage.DROPPED:
            self._used.add(flow.decided_by)
            self._dropped += flow.sessions
        elif flow.is_vague:
            self._take_vague(flow)
        else:
            self._take_judged(flow, tuple(self._judge.each(flow)))

    def _take_judged(self, flow: SeenFlow, judged: Sequence[JudgedFlow]) -> None:
        was_dropped = flow.passage is Passage.DROPPED
        accepted = [one for one in judged if one.is_accepted and not was_dropped]
        by_rules = [one for one in accepted if one.fixed is None]
        for one in by_rules:
            self._carried[one.packet] = None
            grant = self._scope.grant_of(one)
            if grant is not None:
                self._add(grant, one, flow)
        for one in by_rules or [one for one in judged if not one.is_accepted]:
            self._used.add((one.decision.security_group_id, one.decision.security_group_rule_id))
        if accepted and not by_rules:
            self._always += flow.sessions
        elif not accepted and flow.passage is Passage.PASSED and any(one.fixed is None for one in judged):
            self._take_refused(flow, [one for one in judged if one.fixed is None])
        elif not accepted:
            self._dropped += flow.sessions

    def _take_refused(self, flow: SeenFlow, judged: Sequence[JudgedFlow]) -> None:
        grants = [self._scope.new_grant(one) if self._preferences.allow_audited else None for one in judged]
        for one, grant in zip(judged, grants, strict=True):
            if grant is not None:
                self._add(grant, one, flow)
        self._refused.append((flow, judged[0], grants[0]))

    def _take_vague(self, flow: SeenFlow) -> None:
        """Let stay as it is what let the flow pass then, if it is still there."""
        group_id, rule_id = flow.decided_by
        self._used.add(flow.decided_by)
        group = self._state.group.get(group_id)
        rule = next((r for r in group.rules if r.security_group_rule_id == rule_id), None) if group else None
        is_gone = bool(rule_id) and (rule is None or rule.policy is Verdict.DROP)
        if is_gone or flow.is_audited:
            self._lost += flow.sessions
            return
        grant = self._vague_grant(flow, group, rule)
        if grant is not None:
            self._kept[name_of(grant.slot, self._scope)] = WHY_VAGUE
            self._cells.setdefault(grant.slot, {})[Cell(grant, ALL, None, flow.remotes[0], flow)] = None

    def _vague_grant(self, flow: SeenFlow, group: SecurityGroup | None, rule: SecurityGroupRule | None) -> Grant | None:
        if group is not None and rule is not None:
            return self._scope.of_rule(group, rule)
        if group is not None:
            is_changing = group.security_group_id in self._scope.groups and has_inner_accept(group)
            return Grant(Slot(group.security_group_id, GrantKind.INNER, flow.direction, 1)) if is_changing else None
        grant = self._scope.of_default(flow.eni_id) if flow.direction is EGRESS else None
        return grant if grant is not None and grant.slot.group_id in self._scope.homes else None

    def _add(self, grant: Grant, one: JudgedFlow, flow: SeenFlow) -> None:
        protocol, port = protocol_of(one.packet.protocol, one.remote, one.packet.port)
        self._cells.setdefault(grant.slot, {})[Cell(grant, protocol, port, one.remote, flow)] = None
        if grant.slot.kind is GrantKind.INNER and one.without_inner.rule is not None:
            self._kept[name_of(grant.slot, self._scope)] = WHY_INNER

    # cells -> units

    def _namer(self) -> Namer:
        ends = self._preferences.ends
        is_plain = ends == "address"
        return Namer(self._state, with_groups=ends == "group", with_lists=not is_plain, with_many=not is_plain)

    def _units(self) -> dict[Name, Unit]:
        """Return everything that is widened as a whole: slots of rules, inner accept of groups, and the default."""
        scope, namer = self._scope, self._namer()
        found = {name: Unit(name, groups) for name, groups in list_fixed_units(self._state, scope).items()}
        for slot in sorted(self._cells, key=lambda slot: slot.key):
            plan = SlotPlan(slot, tuple(self._cells[slot]), namer, self._preferences)
            name = name_of(slot, scope)
            groups = frozenset([slot.group_id])
            found.setdefault(name, Unit(name, groups)).plans.append(plan)
        stay = {(slot.group_id, cell.grant.name) for slot, cells in self._cells.items() for cell in cells}
        for name, unit in found.items():
            unit.keep(self._kept.get(name, ""))
            if name[0] == GrantKind.DEFAULT.value:
                unit.keep(next(filter(None, (scope.why_open(g, stay) for g in sorted(unit.group_ids))), ""))
        return found

    # what is told

    def _list_refused_flows(self, units: Mapping[Name, Unit]) -> Iterator[RefusedFlow]:
        for flow, judged, grant in self._refused:
            is_allowed = grant is not None and not units[name_of(grant.slot, self._scope)].is_kept
            if is_allowed:
                self._carried[judged.packet] = None
            yield RefusedFlow(flow, judged.packet, judged.decision, is_allowed)

    def _list_unused(self) -> Iterator[UnusedRule]:
        for group_id in self._scope.groups:
            for rule in self._state.group[group_id].rules:
                if (group_id, rule.security_group_rule_id) not in self._used:
                    yield UnusedRule(group_id, rule)

    def _check(self, after: CloudState, *, is_new: bool) -> Difference:
        """Return what changes.

        Raises:
            InternalError: it isn't what this module promises.
        """
        judge = Judge(after, self._options)
        for packet in self._carried:
            if not judge.accepts(packet):
                raise InternalError(f"the suggestion refuses what was seen: {packet}")
        difference = compare(StateDiff(_enforce_audited(self._state), _enforce_audited(after), self._options))
        if difference.is_open and not is_new:
            raise InternalError("the suggestion opens something that the state refuses")
        return difference


def _enforce_audited(state: CloudState) -> CloudState:
    """Return the state with no ENI in audit mode: what its rules refuse counts as refused, whatever passes there."""
    return state.with_mode({eni.network_interface_id for eni in state.audited}, Mode.ENFORCE)
