"""review(): everything odd about a state, each as a finding.

Owns the order, and what is left out where there is too much to look at. Is given a checked state. Must not know files,
hosts or nftables.

What is said of rules holds for decide(), packet by packet: tests/property/test_findings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sgdataplane.analyse import wording
from sgdataplane.analyse.contested import ties, void_drops
from sgdataplane.analyse.exposed import SENSITIVE, internet, openings
from sgdataplane.analyse.needless import Needs
from sgdataplane.analyse.order import FarAddresses
from sgdataplane.analyse.pools import RuleKey, View, pools_of, views_of
from sgdataplane.analyse.stacks import Budget, Stacks, TooMuchError
from sgdataplane.analyse.unmatched import Unmatched, unused_groups
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState, GroupType
from sgdataplane.net.values import Direction
from sgdataplane.policy.findings import Finding
from sgdataplane.policy.resolve import Permission


def review(state: CloudState, budget: Budget | None = None, options: Options = DEFAULTS) -> tuple[Finding, ...]:
    """All findings, by group and rule. `budget`: how much may be looked at."""
    far, stacks = FarAddresses(state), Stacks(budget or Budget())
    unmatched = Unmatched(state, far)
    nothing = [finding for group in state.security_groups for finding in unmatched.of_group(group)]
    seen = _Seen(state, {_key(finding) for finding in nothing})
    for pool in pools_of(state, options):
        for view in views_of(pool, far, stacks):
            seen.add(view)
    found = [*unused_groups(state), *nothing, *seen.findings()]
    return tuple(sorted(found, key=lambda finding: (finding.subject, finding.code)))


def _key(finding: Finding) -> RuleKey:
    ids = dict(finding.subject)
    return ids["security_group_id"], ids["security_group_rule_id"]


@dataclass
class _Seen:
    """What the views show of rules, put together. `nothing`: rules that match nothing, of which enough is said."""

    state: CloudState
    nothing: set[RuleKey]
    needs: Needs = field(default_factory=Needs)
    opened: dict[Permission, wording.Opened] = field(default_factory=dict)
    tied: dict[Permission, set[Permission]] = field(default_factory=dict)
    void: dict[Permission, set[str]] = field(default_factory=dict)
    left_out: list[View] = field(default_factory=list)

    def add(self, view: View) -> None:
        try:
            self.needs.add(view)
            self._add_openings(view)
            self._add_contested(view)
        except TooMuchError:
            self.left_out.append(view)

    def _add_openings(self, view: View) -> None:
        group = self.state.group[view.pool.profile.security_group_ids[0]]
        outside = internet(view.order.family, self.state.vpc[group.vpc_id].cidr_blocks)
        is_ingress = view.direction is Direction.INGRESS
        if not is_ingress and group.security_group_type is GroupType.NORMAL:
            return
        for index, port, others in openings(view, outside, SENSITIVE if is_ingress else (None,)):
            found = self.opened.setdefault(view.permission(index), wording.Opened())
            found.ports |= {port} if port is not None else set()
            found.others |= {view.permission(other) for other in others}

    def _add_contested(self, view: View) -> None:
        for accept, drop in ties(view):
            self.tied.setdefault(view.permission(accept), set()).add(view.permission(drop))
        for drop, inner in void_drops(view):
            self.void.setdefault(view.permission(drop), set()).add(view.decision(inner).security_group_id)

    def findings(self) -> Iterator[Finding]:
        shadowed = set()
        for needless in self.needs.needless():
            shadowed |= {needless.rule} if needless.is_shadowed else set()
            if wording.key(needless.rule) not in self.nothing:
                yield wording.shadowed(needless) if needless.is_shadowed else wording.redundant(needless)
        yield from (wording.opened(rule, found) for rule, found in self.opened.items())
        yield from (wording.tied(rule, drops) for rule, drops in self.tied.items() if rule.decision not in shadowed)
        yield from (wording.void(rule, groups) for rule, groups in self.void.items())
        left_out = [*self.left_out, *self.needs.left_out]
        if left_out:
            yield wording.left_out(left_out)
