"""Decision diagrams and address classes -> chains, each named after what it holds.

Owns the shape below an ENI's chain (ruleset.md, "The decision, compiled"). Is given one space at a time. Must not know
hooks, epochs, or what the kernel holds.

Chains that hold sets or maps without a name, and all chains below them, are named by a hash of their rules. So equal
chains are one chain, and a name never changes its meaning: an update adds new chains, leads to them in one step, and
removes those that nothing leads to. Far and kin chains have stable names and change in place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import and_, or_

from sgdataplane.compiler.classes import AddressClasses, RemoteSet, Segments
from sgdataplane.compiler.cuts import MANY_PROTOCOLS
from sgdataplane.compiler.diagram import BY_FAR, BY_PROTOCOL, Branch, Dim, Leaf, Node, Steps
from sgdataplane.compiler.judge import Judge, Kinship
from sgdataplane.compiler.memo import Lowered, NamedChain, SpaceMemo
from sgdataplane.compiler.skeleton import content_chain
from sgdataplane.compiler.verdicts import logged
from sgdataplane.contract import names
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.fields import Field
from sgdataplane.contract.sites import Site
from sgdataplane.errors import InternalError
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.model.state import GroupRef
from sgdataplane.net.values import AH, Direction, Family
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.inflight import has_nameless_set
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Counter,
    Match,
    Range,
    Rule,
    Verdict,
    VerdictMap,
    goto,
    is_value,
    joined,
    rule,
)
from sgdataplane.policy.dimensions import CONDITIONS
from sgdataplane.policy.resolve import Profile


@dataclass(frozen=True, slots=True)
class SessionFields:
    """Where the packets whose sessions one side judges have the fields that a diagram asks for.

    They are in the session's entry, so an opening packet, its replies and ICMP errors about it have the same verdict.
    Only AH over IPv6 is judged by the protocol in its own header, since its entry is that of the packet behind the
    header (verdicts.py).
    """

    site: Site
    side: Direction
    family: Family
    is_behind_ah: bool

    @property
    def far(self) -> Field:
        return self.site.far(self.side, self.family)

    @property
    def protocol(self) -> int | None:
        """The protocol that all of these packets have, if that is known."""
        return AH if self.is_behind_ah else None

    def field(self, dim: Dim) -> Field:
        return self.far if dim == BY_FAR else self.site.field(CONDITIONS[dim], self.side, self.family)


def lowered(profile: Profile, family: Family, classes: AddressClasses, memo: SpaceMemo, site: Site) -> Lowered:
    """The chains for one profile's far addresses in one family."""
    space, lowering = _Space(profile, family, classes), Lowering(memo)
    sides = {side: _Far(lowering, space, site, side) for side in Direction}
    kin = {side: far.kin_chains() for side, far in sides.items()}
    everyone = {side: far.name for side, far in sides.items()}
    return Lowered(lowering.needed(), lowering.counters, everyone, kin)


@dataclass
class Lowering:
    """Collects the chains and counters of one space."""

    memo: SpaceMemo
    chains: dict[str, Chain] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    _leaves: dict[Decision, str] = field(default_factory=dict)
    _inlined: set[str] = field(default_factory=set)

    def content(self, prefix: str, rules: tuple[Rule, ...], comment: str = "", origin: str = "") -> str:
        """Keep a chain named after its content. Returns its name."""
        chain = content_chain(prefix, rules, comment, origin)
        self.memo.chains.put(chain.name, NamedChain(chain))
        return self.keep(chain)

    def look_up(self, prefix: str, asked: Field, targets: list[tuple[Range, str]]) -> str:
        """The chain that leads to the target of the range which holds the field; ranges cover all values. If all
        targets are one chain, since different nodes may be equal chains, it is that one."""
        if all(target == targets[0][1] for _, target in targets):
            return targets[0][1]
        return self.content(prefix, _choose(asked, targets))

    def keep_known(self, name: str) -> None:
        """Keep a chain that an earlier compile made, and all chains that it leads to."""
        if name in self.chains or (named := self.memo.chains.find(name)) is None:
            return
        self.keep(named.chain)
        if named.counter is not None:
            self.counters[named.counter.name] = named.counter
        for target in named.chain.ways.chains:
            self.keep_known(target)

    def keep(self, chain: Chain) -> str:
        if self.chains.setdefault(chain.name, chain) != chain:
            raise InternalError(f"two chains would be named {chain.name}")
        return chain.name

    def inline(self, name: str) -> tuple[Rule, ...]:
        """The rules of a chain, for use in one with a stable name, so that a packet goes through one chain less. If
        they are many, can't change in place or count, it is one rule that goes to the chain."""
        rules = self.chains[name].rules
        is_fixed = any(has_nameless_set(entry) or isinstance(entry.statements[0], Count) for entry in rules)
        if is_fixed or len(rules) > MANY_PROTOCOLS:
            return (rule(goto(name)),)
        self._inlined.add(name)
        return rules

    def needed(self) -> dict[str, Chain]:
        """All chains but those whose rules stand in other chains, so that nothing leads to them."""
        used = {name for chain in self.chains.values() for name in self._inlined.intersection(chain.ways.chains)}
        return {name: chain for name, chain in self.chains.items() if name not in self._inlined or name in used}

    def leaf(self, decision: Decision) -> str:
        """The chain at the end of a verdict: it counts by the decision's name and accepts or refuses for its
        direction."""
        if decision not in self._leaves:
            self._leaves[decision] = self._made_leaf(decision)
        return self._leaves[decision]

    def _made_leaf(self, decision: Decision) -> str:
        counter = Counter(counter_name(decision), names.comment(_counted(decision)))
        self.counters[counter.name] = counter
        end = f"{decision.direction.value}-{'accept' if decision.verdict is Fate.ACCEPT else 'refuse'}"
        prefix = names.identifier("leaf", decision.direction.value, decision.security_group_rule_id or decision.cause)
        if decision.verdict is Fate.ACCEPT:
            rules: tuple[Rule, ...] = (rule(Count(counter.name), goto(end)),)
        else:
            rules = (rule(Count(counter.name), logged(counter.name)), rule(goto(end)))
        name = self.content(prefix, rules, names.comment(describe(decision)), describe(decision))
        self.memo.chains.put(name, NamedChain(self.chains[name], counter))
        return name


@dataclass(frozen=True, slots=True)
class _Space:
    """One profile's far addresses in one family."""

    profile: Profile
    family: Family
    classes: AddressClasses


class _Far:
    """A space as one side judges it. `name`: the chain for addresses that no member has."""

    def __init__(self, lowering: Lowering, space: _Space, site: Site, side: Direction) -> None:
        self._lowering, self._classes = lowering, space.classes
        self.name = names.identifier(f"far-{side.value}-{space.family.value}", profile_name(space.profile))
        kinds = (False, True) if space.family is Family.IPV6 else (False,)
        views = [SessionFields(site, side, space.family, is_behind_ah) for is_behind_ah in kinds]
        self._kinds = [_KindChains(lowering, space, view, self.name) for view in views]
        self._places: dict[RemoteSet, str] = {}
        lowering.keep(Chain(self.name, self._by_protocol([kind.far() for kind in self._kinds])))

    def kin_chains(self) -> dict[RemoteSet, Verdict]:
        """The chains for members, by the groups that they are in."""
        return {mask: goto(self._kin_chain(mask, segments)) for mask, segments in self._classes.kin.items()}

    def _kin_chain(self, kin: RemoteSet, segments: Segments) -> str:
        groups = [r.security_group_id for r in self._classes.named(kin) if isinstance(r, GroupRef)]
        name = f"{self.name}.kin-{names.digest(repr(groups))}"
        comment = names.comment(f"members of {', '.join(groups)}")
        held = [holding & ~kin for _, holding in segments]
        kinship = Kinship(kin, reduce(and_, held), reduce(or_, held))
        rest = self._place(kinship.holding) if kinship.holding == kinship.touching else self.name
        targets = [kind.target(kinship, rest) for kind in self._kinds]
        return self._lowering.keep(Chain(name, self._by_protocol(targets), comment=comment))

    def _place(self, holding: RemoteSet) -> str:
        """The chain for addresses that these remotes hold, and no others. It does what the one for all addresses does
        there, and is smaller; an old kernel goes through it once for each kinship."""
        if holding not in self._places:
            name = f"{self.name}.at-{names.digest(repr(self._classes.named(holding)))}"
            rules = self._by_protocol([kind.at(holding) for kind in self._kinds])
            self._places[holding] = self._lowering.keep(Chain(name, rules))
        return self._places[holding]

    def _by_protocol(self, targets: Sequence[str]) -> tuple[Rule, ...]:
        """Judges AH over IPv6 by the protocol of its own header, all other packets by that of their session."""
        found, *behind_ah = targets
        is_fixed = found == self.name or found in self._places.values()
        rest = (rule(goto(found)),) if is_fixed else self._lowering.inline(found)
        return rest if behind_ah in ([], [found]) else (rule(is_value(Field.L4PROTO, AH), goto(*behind_ah)), *rest)


class _KindChains:
    """The chains for one kind of packets. `far`: the name of the chain for addresses that no member has."""

    def __init__(self, lowering: Lowering, space: _Space, view: SessionFields, far: str) -> None:
        self._lowering = lowering
        permissions = space.profile.permissions(view.side)
        self._judge = Judge(permissions, space.family, space.classes, lowering.memo, view.protocol)
        self._kind = f"{far}{'-ah' if view.is_behind_ah else ''}"
        self._field = cache(view.field)
        self._names: dict[tuple[Node, str], str] = {}

    def far(self) -> str:
        """The chain for addresses that no member has."""
        return self._known(self._judge.far_key(), self._judge.far)

    def at(self, holding: RemoteSet) -> str:
        """The chain for addresses that these remotes hold, and no others."""
        return self._known(self._judge.at_key(holding), lambda: self._judge.at(holding))

    def target(self, kinship: Kinship, rest: str) -> str:
        """The chain for a kinship. `rest`: the chain to go to where no permission on the groups decides."""
        subset = self._judge.subset(kinship)
        return self._known(self._judge.key(subset), lambda: self._judge.of(subset), rest) if subset else rest

    def _known(self, key: Hashable, diagram: Callable[[], Node], rest: str = "") -> str:
        """The chain for the diagram with that key; it is made unless an earlier compile has made it."""
        found = self._lowering.memo.targets.get((self._kind, rest, key), lambda: self._lower(diagram(), rest))
        self._lowering.keep_known(found)
        return found

    def _lower(self, node: Node, rest: str) -> str:
        if isinstance(node, Leaf):
            return self._decided(node.decision, rest)
        if (node, rest) not in self._names:
            self._names[node, rest] = self._steps(node, rest) if isinstance(node, Steps) else self._branch(node, rest)
        return self._names[node, rest]

    def _decided(self, decision: Decision | None, rest: str) -> str:
        return rest if decision is None else self._lowering.leaf(decision)

    def _steps(self, node: Steps, rest: str) -> str:
        rules = tuple(
            rule(
                *(Match(self._field(dim), (Range(*interval),)) for dim, interval in step.conditions),
                goto(self._decided(step.decision, rest)),
            )
            for step in node.steps
        )
        return self._lowering.content("steps", rules)

    def _branch(self, node: Branch, rest: str) -> str:
        targets = [(Range(*interval), self._lower(child, rest)) for interval, child in node.segments]
        asked = self._field(node.dim)
        if node.dim == BY_PROTOCOL and len(targets) <= MANY_PROTOCOLS:
            return self._lowering.content("protocol", _one_by_one(asked, targets))
        prefix = "segments" if node.dim == BY_FAR else CONDITIONS[node.dim].name.replace("_", "-")
        return self._lowering.look_up(prefix, asked, targets)


def _one_by_one(asked: Field, targets: list[tuple[Range, str]]) -> tuple[Rule, ...]:
    entries, rest = _parted(targets)
    return (*(rule(Match(asked, (item,)), goto(target)) for item, target in entries), rule(goto(rest)))


def _choose(asked: Field, targets: list[tuple[Range, str]]) -> tuple[Rule, ...]:
    """Rules that go to the target of the range which holds the field: a map for all but the most frequent target."""
    entries, rest = _parted(targets)
    return rule(VerdictMap(asked, tuple((item, goto(target)) for item, target in entries))), rule(goto(rest))


def _parted(targets: list[tuple[Range, str]]) -> tuple[list[tuple[Range, str]], str]:
    """The ranges that don't lead to the most frequent target, and that target, which gets the rest."""
    counts: dict[str, int] = {}
    for _, target in targets:
        counts[target] = counts.get(target, 0) + 1
    rest = max(counts, key=lambda target: (counts[target], target))
    return [(item, target) for item, target in joined(targets) if target != rest], rest


def profile_name(profile: Profile) -> str:
    """A readable, stable name for a set of groups and a nic type."""
    ids = profile.security_group_ids
    return f"{ids[0][:24]}-{names.digest(repr((ids, profile.nic_type.value)))}"


def members_name(side: Direction, family: Family, profile: Profile) -> str:
    """The name of the map of members that one side asks for far addresses of one family."""
    return names.identifier(f"members-{side.value}-{family.value}", profile_name(profile))


def describe(decision: Decision) -> str:
    """One line for people: which rule, or what else decided."""
    if decision.cause == RULE:
        ids = f"{decision.security_group_id} {decision.security_group_rule_id}"
        return f"{ids} {decision.direction.value} priority {decision.priority} {decision.verdict.value}"
    subject = f" {decision.security_group_id}" if decision.security_group_id else ""
    return f"{decision.cause}{subject} {decision.direction.value} {decision.verdict.value}"


def _counted(decision: Decision) -> str:
    """A counter's comment. It says no more than the name does: nft can't change the comment of a counter that stays."""
    if decision.cause == RULE:
        return f"{decision.security_group_id} {decision.security_group_rule_id}"
    return describe(decision)
