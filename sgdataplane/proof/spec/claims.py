"""Say what decide() claims about one ENI, direction and family: its candidates, as sets of packets.

Owns the way from a candidate to its packets, and the list of what a rule can ask for. The compiler has a list of its
own; tests/property/test_dimensions.py compares the two. It is given the state. It must not know the table or how it was
compiled, except for the name of each rule's counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import itemgetter

from sgdataplane.contract.counters import counter_name
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import Candidate, Pooled, order_candidates, pool
from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net import ranges
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Family, PortRange, Prefix, Verdict
from sgdataplane.nft.changes import same_ends
from sgdataplane.nft.ir import Count, Range
from sgdataplane.proof.spec.outcomes import Outcome

Ranges = tuple[Range, ...]  # they are disjoint and sorted
Hull = tuple[int, int, int, int]
"""The first and the last far address, then the first and the last port, of a claim."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleAxis:
    """One field, other than the far address, that a rule can ask for."""

    name: str
    """The field's name, as `kinds.py` finds it in packets."""
    last: Callable[[Family], int]
    """Returns the largest number of the field in a family."""
    of_rule: Callable[[CloudState, SecurityGroupRule, Family], Ranges | None]
    """Returns the numbers that a rule asks for: None for any, () for none, so that no packet matches."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One candidate of decide(): its decision, and the packets that it is about."""

    decision: Decision
    outcome: Outcome
    """What the table must do with these packets."""
    remote: Remote | None
    """The rule's remote; None for any far address."""
    ranges: tuple[Ranges | None, ...]
    """What it asks for on each of AXES; None for any value."""
    block: Ranges | None = None
    """The far addresses, if the remote is a CIDR block."""
    hull: Hull | None = None
    """Bounds of the far addresses and ports, for a quick test; None unless `block` is set."""


def end_chain(direction: Direction, verdict: Verdict) -> str:
    """Return the name that stands for the chains that carry out this verdict of a direction's rules.

    It isn't the name of a chain in the table: those differ by hook.
    """
    return f"{direction.value}-{'accept' if verdict is Verdict.ACCEPT else 'refuse'}"


def claims(state: CloudState, eni: Eni, direction: Direction, family: Family, options: Options) -> list[Claim]:
    """Return the candidates that can hold in a family, strongest first. The last one holds for every packet."""
    memo = ClaimMemo()
    return memo.claims(state, memo.candidates(state, eni, direction, options), family)


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a candidate asks for in one family. Two of them are compared by identity."""

    outcome: Outcome
    """What the table must do if the candidate decides."""
    claim: Claim | None
    """Its packets; None if it can hold for none in that family."""
    is_on_group: bool
    """Whether it is about members of a group."""
    is_fixed: bool
    """Whether all of this follows from the candidate's rule alone, so that it can be reused for another state."""


Known = tuple[SecurityGroupRule, Said]  # keeping the rule alive keeps its id() from being reused
# The key is the rule's id(), the group, the bits of an address, and whether the remote can have addresses (a group
# of another VPC can't).
KnownRules = Mapping[tuple[int, str, int, bool], Known]
# The key is group and direction. The value has the group that the sorted rules were made from.
KnownGroups = Mapping[tuple[str, Direction], tuple[SecurityGroup, Sequence[Pooled]]]
EarlierClaims = tuple[Sequence[Candidate], Sequence[Said]]  # candidates, and what each of them says
LEAST = 4096  # so many rules are remembered even if nobody has asked for them


@dataclass
class ClaimMemo:
    """Remembers, from one state to the next, what follows from a rule or a group alone."""

    previous: KnownRules = field(default_factory=dict)
    """Claims by rule, of an earlier state."""
    groups: KnownGroups = field(default_factory=dict)
    """The sorted rules of each group, of an earlier state."""
    others: Mapping[Decision, Candidate] = field(default_factory=dict)
    """Candidates without a rule (inner accept and default), of an earlier state."""
    found: dict[tuple[int, str, int, bool], Known] = field(default_factory=dict)
    """Claims by rule that this state asked for."""
    found_others: dict[Decision, Candidate] = field(default_factory=dict)
    """Candidates without a rule that this state asked for."""
    found_groups: dict[tuple[str, Direction], tuple[SecurityGroup, Sequence[Pooled]]] = field(default_factory=dict)
    """The sorted rules of groups that this state asked for."""
    _asked: int = 0

    def candidates(self, state: CloudState, eni: Eni, direction: Direction, options: Options) -> list[Candidate]:
        """Return the candidates of decide(), strongest first.

        A candidate that can't differ from the earlier state's is the same object as there.
        """
        found = list(order_candidates(state, eni, direction, options, self._of_group))
        for place in [place for place, candidate in enumerate(found) if candidate.rule is None]:
            found[place] = self._of_no_rule(found[place])
        return found

    def _of_no_rule(self, candidate: Candidate) -> Candidate:
        """Return an earlier candidate in place of this one without a rule, if its group is the same."""
        known = self.found_others.get(candidate.decision) or self.others.get(candidate.decision)
        if known is None or not _is_like(known.group, candidate.group):
            known = candidate
        self.found_others[candidate.decision] = known
        return known

    def _of_group(self, group: SecurityGroup, direction: Direction) -> Sequence[Pooled]:
        """Return a group's rules of one direction, sorted by strength.

        Entries of rules that haven't changed are taken over, if the group differs in its rules at most.
        """
        key = group.security_group_id, direction
        known = self.found_groups.get(key) or self.groups.get(key)
        if known is None or known[0] is not group:
            kept = {} if known is None else _reuse_rules(*known, group)
            rules = [rule for rule in group.rules if rule.direction is direction]
            made = [_same(kept.get(rule.security_group_rule_id), rule) or pool(group, rule) for rule in rules]
            known = group, sorted(made, key=itemgetter(0))
        self.found_groups[key] = known
        return known[1]

    def claims(self, state: CloudState, candidates: Sequence[Candidate], family: Family) -> list[Claim]:
        """Return the claims of an ENI's candidates for one direction, strongest first."""
        return [said.claim for said in self.claims_of(state, candidates, family) if said.claim is not None]

    def claims_of(
        self, state: CloudState, candidates: Sequence[Candidate], family: Family, previous: EarlierClaims = ((), ())
    ) -> list[Said]:
        """Return what each candidate says about a family.

        `previous` has other candidates and what they said. Most candidates are the same objects as there; only those
        between the equal ends are worked out, and those that don't follow from their rule alone.
        """
        known, said = previous
        start, end = same_ends(known, candidates)
        changed = [self._find_claim(state, one, family) for one in candidates[start : len(candidates) - end]]
        found = [*said[:start], *changed, *said[len(said) - end :]]
        self._asked += len(candidates)
        for place in [place for place, one in enumerate(found) if not one.is_fixed]:
            found[place] = self._find_claim(state, candidates[place], family)
        return found

    def _find_claim(self, state: CloudState, candidate: Candidate, family: Family) -> Said:
        """Return what a candidate says, from memory if its rule and group allow that."""
        rule, group, decision = candidate.rule, candidate.group, candidate.decision
        if rule is None or group is None or rule.port_list_id:
            return self._make_claim(state, candidate, family, is_fixed=rule is None)
        is_on_group = isinstance(rule.remote, GroupRef)
        has_remote = not is_on_group or _has_remote(state, group, rule, family)
        key = (id(rule), decision.security_group_id, family.bits, has_remote)
        known = self.found.get(key) or self.previous.get(key)
        if known is None:
            known = rule, self._make_claim(state, candidate, family, is_fixed=not is_on_group)
        self.found[key] = known
        return known[1]

    @staticmethod
    def _make_claim(state: CloudState, candidate: Candidate, family: Family, *, is_fixed: bool) -> Said:
        """Work out what a candidate says."""
        claim = _claim(state, candidate, family)
        return Said(derive_outcome(candidate.decision), claim, _is_on_group(candidate), is_fixed)

    @property
    def rules(self) -> KnownRules:
        """The claims by rule to remember for the next state.

        Once there are many more than were asked for, only those that were asked for are kept.
        """
        every = {**self.previous, **self.found} if self.found else self.previous
        return every if len(every) <= max(LEAST, 4 * self._asked) else self.found


def _reuse_rules(previous: SecurityGroup, entries: Sequence[Pooled], group: SecurityGroup) -> Mapping[str, Pooled]:
    """Return a group's earlier rules by id, if the group differs from then in its rules only; else nothing."""
    return {entry[1].security_group_rule_id: entry for entry in entries} if _is_like(previous, group) else {}


def _is_like(one: SecurityGroup | None, other: SecurityGroup | None) -> bool:
    """Return whether both are the same group, whatever its rules are."""
    return one is other or (one is not None and other is not None and replace(one, rules=other.rules) == other)


def _same(entry: Pooled | None, rule: SecurityGroupRule) -> Pooled | None:
    """Return the entry if its rule equals this one; else None."""
    return entry if entry is not None and (entry[1] is rule or entry[1] == rule) else None


def _is_on_group(candidate: Candidate) -> bool:
    """Return whether a candidate is about members of a group: inner accept, or a rule whose remote is one."""
    is_inner = candidate.rule is None and candidate.group is not None
    return is_inner or (candidate.rule is not None and isinstance(candidate.rule.remote, GroupRef))


def _claim(state: CloudState, candidate: Candidate, family: Family) -> Claim | None:
    """Return a candidate as a claim; None if it can hold for no packet of the family."""
    decision, group, rule = candidate.decision, candidate.group, candidate.rule
    outcome = derive_outcome(decision)
    if group is None:
        return Claim(decision, outcome, None, ANYTHING)
    if rule is None:
        return Claim(decision, outcome, GroupRef(group.security_group_id), ANYTHING)
    if not _has_remote(state, group, rule, family):
        return None
    ranges, remote = tuple([axis.of_rule(state, rule, family) for axis in AXES]), rule.remote
    if () in ranges:
        return None
    if not isinstance(remote, Prefix):
        return Claim(decision, outcome, remote, ranges)
    ports = ranges[PORT]
    first, last = (0, 0xFFFF) if ports is None else (int(ports[0].first), int(ports[-1].last))
    hull = remote.first, remote.last, first, last
    return Claim(decision, outcome, remote, ranges, (Range(remote.first, remote.last),), hull)


@lru_cache(maxsize=1 << 16)
def derive_outcome(decision: Decision) -> Outcome:
    """Return what the table must do for a decision: count by its name, and go to the chain that carries it out."""
    return (Count(counter_name(decision)),), end_chain(decision.direction, decision.verdict)


def _has_remote(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, family: Family) -> bool:
    """Return whether the rule's remote can have addresses of that family."""
    match rule.remote:
        case Prefix():
            return rule.remote.family is family
        case GroupRef(group_id):
            other = state.group.get(group_id)
            return other is not None and other.vpc_id == group.vpc_id
        case PrefixListRef():
            return True


def _protocols(_: CloudState, rule: SecurityGroupRule, family: Family) -> Ranges | None:
    """Return the protocols that a rule asks for. A rule that asks for ports gets only protocols with ports."""
    protocol, is_for_ports = rule.ip_protocol, rule.port_list_id or rule.port_range or rule.source_port_range
    if protocol.is_all:
        return tuple(map(Range.of, PORT_PROTOCOLS)) if is_for_ports else None
    is_possible = protocol.exists_in(family) and (protocol.number in PORT_PROTOCOLS or not is_for_ports)
    return (Range.of(protocol.number),) if is_possible else ()


def _local(_: CloudState, rule: SecurityGroupRule, family: Family) -> Ranges | None:
    if rule.narrowing is None:
        return None
    return (Range(rule.narrowing.first, rule.narrowing.last),) if rule.narrowing.family is family else ()


def _source_ports(_: CloudState, rule: SecurityGroupRule, __: Family) -> Ranges | None:
    return _merge(None if rule.source_port_range is None else [rule.source_port_range])


def _ports(state: CloudState, rule: SecurityGroupRule, _: Family) -> Ranges | None:
    if rule.port_list_id:
        return _merge(entry.port_range for entry in state.port_list[rule.port_list_id].entries)
    return _merge(None if rule.port_range is None else [rule.port_range])


# The protocol must come first (walk.py: PROTOCOL). The largest numbers are those of the header fields.
AXES = (
    RuleAxis("protocol", lambda _: 0xFF, _protocols),
    RuleAxis("local", lambda family: family.last, _local),
    RuleAxis("source_port", lambda _: 0xFFFF, _source_ports),
    RuleAxis("port", lambda _: 0xFFFF, _ports),
)
PORT = [axis.name for axis in AXES].index("port")
ANYTHING: tuple[Ranges | None, ...] = (None,) * len(AXES)


def _merge(ranges: Iterable[PortRange] | None) -> Ranges | None:
    return None if ranges is None else unite((item.first, item.last) for item in ranges)


def unite(intervals: Iterable[tuple[int, int]]) -> Ranges:
    """Return the intervals as ranges that are disjoint and sorted, with a gap between any two."""
    return tuple(Range(first, last) for first, last in ranges.unite(intervals))
