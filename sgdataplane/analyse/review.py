"""review(): everything odd about a state, each as a finding.

Owns the order, the words of each finding, and what is left out where there is too much to examine. Is given a checked
state. Must not know files, hosts or nftables.

What findings say about rules holds for decide(), packet by packet: tests/property/test_findings.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from sgdataplane.analyse.arrangement import Budget, BudgetSpentError, Stacks
from sgdataplane.analyse.internet import SENSITIVE, internet, openings
from sgdataplane.analyse.order import FarAddresses
from sgdataplane.analyse.pools import PoolPolicy, RuleKey, policies_of, pools_of, rule_key
from sgdataplane.analyse.redundancy import Needs, RedundantRule, ties, void_drops
from sgdataplane.analyse.unmatched import Unmatched, find_unused_groups
from sgdataplane.model import words
from sgdataplane.model.decision import DEFAULT, Decision
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.standins import is_stand_in
from sgdataplane.model.state import CloudState, GroupRef, GroupType, PrefixListRef
from sgdataplane.net.values import Direction, Prefix, Verdict
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.policy.resolve import Permission

NAMED = 3  # a message names so many, and counts the others
PAST = {Verdict.ACCEPT: "accepted", Verdict.DROP: "dropped"}
PRESENT = {Verdict.ACCEPT: "accepts", Verdict.DROP: "drops"}


def review(
    state: CloudState,
    budget: Budget | None = None,
    options: Options = DEFAULTS,
    pending: Iterable[PendingEni] = (),
) -> tuple[Finding, ...]:
    """Return all findings, by group and rule.

    `budget` is how much may be examined. `pending` are ENIs without an address.
    """
    far, stacks = FarAddresses(state), Stacks(budget or Budget())
    unmatched = Unmatched(state, far)
    nothing = [finding for group in state.security_groups for finding in unmatched.of_group(group)]
    seen = _RuleFindings(state, {_key(finding) for finding in nothing})
    policies = [policy for pool in pools_of(state, options, pending) for policy in policies_of(pool, far, stacks)]
    for policy in policies:
        seen.add_openings(policy)
    for policy in policies:
        seen.add(policy)
    found = [*find_unused_groups(state), *nothing, *seen.findings(), *in_audit_mode(state)]
    return tuple(sorted(found, key=lambda finding: (finding.subject, finding.code)))


def in_audit_mode(state: CloudState) -> Iterator[Finding]:
    """Yield a finding for each ENI whose rules are not enforced.

    All other findings are about what rules say, whichever mode ENIs have.
    """
    for eni in state.audited:
        until = f" until {eni.audit_until}" if eni.audit_until else ""
        message = f"{eni.network_interface_id} is in audit mode{until}: what its rules refuse passes"
        about = subject(network_interface_id=eni.network_interface_id)
        yield Finding("InAuditMode", Severity.WARNING, message, about)


def _key(finding: Finding) -> RuleKey:
    ids = dict(finding.subject)
    return ids["security_group_id"], ids["security_group_rule_id"]


@dataclass
class _Opened:
    """What a rule opens to the internet."""

    ports: set[int] = field(default_factory=set)
    """The sensitive ports; none for an egress rule."""
    others: set[Permission] = field(default_factory=set)
    """The rules without whose help it doesn't open them."""


@dataclass
class _RuleFindings:
    """What the policies show about rules, put together."""

    state: CloudState
    nothing: set[RuleKey]
    """Rules that match nothing; nothing else needs to be said about them."""
    needs: Needs = field(default_factory=Needs)
    opened: dict[Permission, _Opened] = field(default_factory=dict)
    """What rules open to the internet."""
    tied: dict[Permission, set[Permission]] = field(default_factory=dict)
    """The drops to which an accept loses a tie, by the accept."""
    void: dict[Permission, set[str]] = field(default_factory=dict)
    """The groups whose inner accept makes a drop void, by the drop."""
    left_out: list[PoolPolicy] = field(default_factory=list)
    """The policies that took too long to examine."""
    maybe_open: list[PoolPolicy] = field(default_factory=list)
    """The policies of which nobody knows whether they open something to the internet."""

    def add_openings(self, policy: PoolPolicy) -> None:
        """Add what a policy opens to the internet.

        This happens for all policies before anything else is examined: a policy that spends the budget must not hide
        what is open.
        """
        try:
            policy.stacks.budget.begin()
            self._add_openings(policy)
        except BudgetSpentError:
            self.maybe_open.append(policy)

    def add(self, policy: PoolPolicy) -> None:
        """Add what a policy shows about its rules."""
        try:
            self.needs.add(policy)
            self._add_contested(policy)
        except BudgetSpentError:
            self.left_out.append(policy)

    def _add_openings(self, policy: PoolPolicy) -> None:
        group = self.state.group[policy.pool.profile.security_group_ids[0]]
        outside = internet(policy.order.family, self.state.vpc[group.vpc_id].cidr_blocks)
        is_ingress = policy.direction is Direction.INGRESS
        if not is_ingress and group.security_group_type is GroupType.NORMAL:
            return
        for index, port, others in openings(policy, outside, SENSITIVE if is_ingress else (None,)):
            found = self.opened.setdefault(policy.permission(index), _Opened())
            found.ports |= {port} if port is not None else set()
            found.others |= {policy.permission(other) for other in others}

    def _add_contested(self, policy: PoolPolicy) -> None:
        for accept, drop in ties(policy):
            self.tied.setdefault(policy.permission(accept), set()).add(policy.permission(drop))
        for drop, inner in void_drops(policy):
            self.void.setdefault(policy.permission(drop), set()).add(policy.decision(inner).security_group_id)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings about rules, and those about policies that took too long to examine."""
        shadowed = set()
        for redundant in self.needs.redundant():
            shadowed |= {redundant.rule} if redundant.is_shadowed else set()
            key = rule_key(redundant.rule)
            if key not in self.nothing and not is_stand_in(key[1], redundant.rule.verdict):
                yield _report_shadowed(redundant) if redundant.is_shadowed else _redundant(redundant)
        yield from (_open(rule, found) for rule, found in self.opened.items())
        yield from (_report_tie(rule, drops) for rule, drops in self.tied.items() if rule.decision not in shadowed)
        yield from (_void(rule, groups) for rule, groups in self.void.items())
        left_out = [each for each in (*self.left_out, *self.needs.left_out) if each not in self.maybe_open]
        if left_out:
            message = _not_examined(left_out, "findings that need this comparison are missing for them")
            yield Finding("NotExamined", Severity.INFO, message, ())
        if self.maybe_open:
            message = _not_examined(self.maybe_open, "whether they open a port to the internet isn't known")
            yield Finding("NotExamined", Severity.HIGH, message, ())


def _report_shadowed(redundant: RedundantRule) -> Finding:
    verdict = redundant.rule.verdict
    other = PAST[Verdict.DROP if verdict is Verdict.ACCEPT else Verdict.ACCEPT]
    message = f"the rule never decides: everything that it {PRESENT[verdict]} is already {other}{_by(redundant)}"
    return _make_finding("ShadowedRule", Severity.WARNING, message, redundant.rule)


def _redundant(redundant: RedundantRule) -> Finding:
    verdict = redundant.rule.verdict
    message = f"without the rule, everything that it {PRESENT[verdict]} is still {PAST[verdict]}{_by(redundant)}"
    return _make_finding("RedundantRule", Severity.INFO, message, redundant.rule)


def _by(redundant: RedundantRule) -> str:
    return f", by {_names(redundant.instead)}" if redundant.instead else ""


def _open(rule: Permission, found: _Opened) -> Finding:
    together = f"together with {_names(other.decision for other in found.others)} " if found.others else ""
    if rule.decision.direction is Direction.EGRESS:
        message = f"{together}the rule lets the group send anything to any address"
        return _make_finding("WideOpenEgress", Severity.INFO, message, rule.decision)
    if rule.protocol.is_all and len(found.ports) == len(SENSITIVE) and not together:
        message = f"the rule opens every protocol and port to {_remote(rule)}"
    else:
        ports = ", ".join(f"{SENSITIVE[port]} ({port})" for port in sorted(found.ports))
        message = f"{together}the rule opens {ports} to {'the internet' if together else _remote(rule)}"
    return _make_finding("WideOpenIngress", Severity.HIGH, message, rule.decision)


def _report_tie(rule: Permission, drops: Iterable[Permission]) -> Finding:
    names, priority = _names(drop.decision for drop in drops), rule.decision.priority
    message = f"packets that also match {names} are dropped: all have priority {priority}, and a drop wins a tie"
    return _make_finding("TieDecidedByDrop", Severity.INFO, message, rule.decision)


def _void(rule: Permission, groups: Collection[str]) -> Finding:
    is_everyone = isinstance(rule.remote, Prefix) and rule.remote.length == 0
    names = _list_first(sorted(groups))
    message = f"the drop has no effect between members of {names}, whose inner policy is Accept"
    return _make_finding("VoidDrop", Severity.INFO if is_everyone else Severity.WARNING, message, rule.decision)


def _not_examined(left_out: Collection[PoolPolicy], so: str) -> str:
    """Return one message for all policies that took too long to examine."""
    pools = dict.fromkeys(policy.pool for policy in left_out)
    first = _list_first(next(iter(pools)).profile.security_group_ids)
    more = f", and those of {len(pools) - 1} more sets of groups," if len(pools) > 1 else ""
    return f"the rules of {first}{more} overlap in too many ways to be compared with each other; {so}"


def _make_finding(code: str, severity: Severity, message: str, rule: Decision) -> Finding:
    group_id, rule_id = rule_key(rule)
    return Finding(code, severity, message, subject(security_group_id=group_id, security_group_rule_id=rule_id))


def _remote(rule: Permission) -> str:
    match rule.remote:
        case GroupRef(name) | PrefixListRef(name):
            return name
        case prefix:
            return str(prefix)


def _names(decisions: Iterable[Decision]) -> str:
    """Return what decided, in words, the strongest first; rules are named with their group."""

    def strength(decision: Decision) -> tuple[bool, int, bool, RuleKey]:
        is_accept = decision.verdict is Verdict.ACCEPT
        return decision.cause == DEFAULT, decision.priority, is_accept, rule_key(decision)

    return _list_first(list(map(words.name, sorted(decisions, key=strength))))


def _list_first(names: Collection[str]) -> str:
    """Return the first few names, in words, and how many more there are."""
    shown = list(names)[:NAMED]
    more = len(names) - len(shown)
    parts = [*shown, f"{more} more"] if more else shown
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
