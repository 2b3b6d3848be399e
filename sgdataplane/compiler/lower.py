"""Decision diagrams -> chains.

Owns how a diagram becomes chains, leaves, and the names of both. Is given diagrams. Must not know what a diagram is of,
what one side of a profile needs besides, or what the kernel holds.

Chains that hold sets or maps without a name, and all chains below them, are named by a hash of their rules. So equal
chains are one chain, and a name never changes its meaning: an update adds new chains, leads to them in one step, and
removes those that nothing leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from sgdataplane.compiler.cuts import MANY_PROTOCOLS
from sgdataplane.compiler.diagram import ASKED, BY_PROTOCOL, Branch, Dim, Leaf, Node, Steps
from sgdataplane.compiler.memo import ChainMemo, NamedChain
from sgdataplane.compiler.skeleton import SaidRule, content_chain
from sgdataplane.compiler.verdicts import logged
from sgdataplane.contract import names
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.fields import Field
from sgdataplane.contract.priority import CODES
from sgdataplane.errors import InternalError
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.inflight import has_nameless_set
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Counter,
    Match,
    Range,
    Rule,
    SetPriority,
    VerdictMap,
    goto,
    joined,
    rule,
)
from sgdataplane.nft.text import rule_text

Targets = Sequence[tuple[Interval, str]]  # chains by what a packet has; the intervals are sorted and cover all values


Asked = tuple[tuple[Field, Interval], ...]  # conditions of a step


@dataclass
class AllSides:
    """What all sides have made in this compile: chains by what they were made from, and rules of steps. Sides have most
    steps in common."""

    chains: dict[Hashable, NamedChain] = field(default_factory=dict)
    _steps: dict[tuple[Asked, str], SaidRule] = field(default_factory=dict)

    def step(self, asked: Asked, target: str) -> SaidRule:
        """The rule that leads packets to the target for which all of this holds, always the same object."""
        key = (asked, target)
        found = self._steps.get(key)
        if found is None:
            made = rule(*(Match(name, (Range(*interval),)) for name, interval in asked), goto(target))
            found = self._steps[key] = made, rule_text(made)
        return found


@dataclass
class Lowering:
    """Collects the chains and counters of one side of a profile."""

    memo: ChainMemo
    shared: AllSides
    chains: dict[str, Chain] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    _inlined: set[str] = field(default_factory=set)

    def keep(self, chain: Chain) -> str:
        if self.chains.setdefault(chain.name, chain) != chain:
            raise InternalError(f"two chains would be named {chain.name}")
        return chain.name

    def content(self, key: Hashable, prefix: str, rules: Callable[[], tuple[Rule, ...]]) -> str:
        """Keep a chain named after its content, and return its name. Equal keys stand for equal rules, so an earlier
        compile may have made it."""
        return self._known(key, lambda: NamedChain(content_chain(prefix, rules())))

    def steps(self, asked: Iterable[tuple[Asked, str]]) -> str:
        """Keep the chain that asks for conditions one after the other, and return its name."""
        said = [self.shared.step(conditions, target) for conditions, target in asked]
        texts = tuple([text for _, text in said])
        return self._known(texts, lambda: NamedChain(content_chain("steps", tuple([made for made, _ in said]), texts)))

    def _known(self, key: Hashable, make: Callable[[], NamedChain]) -> str:
        named = self.memo.get(key, lambda: self.shared.chains.get(key) or make())
        self.shared.chains[key] = named
        self.keep(named.chain)
        if named.counter is not None:
            self.counters[named.counter.name] = named.counter
        return named.chain.name

    def look_up(self, asked: Field, prefix: str, targets: Targets) -> str:
        """The chain that leads to the target of the interval which holds the field."""
        return self._chosen(asked, prefix, targets, _by_map)

    def one_by_one(self, asked: Field, prefix: str, targets: Targets) -> str:
        """The same, where the intervals are asked one by one."""
        return self._chosen(asked, prefix, targets, _by_rules)

    def _chosen(self, asked: Field, prefix: str, targets: Targets, by: Chooser) -> str:
        """If all targets are one chain, since different nodes may be equal chains, it is that one."""
        if all(target == targets[0][1] for _, target in targets):
            return targets[0][1]
        return self.content((by, asked, *targets), prefix, lambda: by(asked, targets))

    def inline(self, name: str) -> tuple[Rule, ...]:
        """The rules of a chain, for use in one with a stable name, so that a packet goes through one chain less. If
        they are many, can't change in place or count, it is one rule that goes to the chain."""
        rules = self.chains[name].rules
        is_fixed = any(has_nameless_set(entry) for entry in rules) or name.startswith(LEAF)
        if is_fixed or len(rules) > MANY_PROTOCOLS:
            return (rule(goto(name)),)
        self._inlined.add(name)
        return rules

    def needed(self) -> dict[str, Chain]:
        """All chains but those whose rules stand in other chains, so that nothing leads to them."""
        used = {name for chain in self.chains.values() for name in self._inlined.intersection(chain.ways.chains)}
        return {name: chain for name, chain in self.chains.items() if name not in self._inlined or name in used}

    def leaf(self, decision: Decision, before: Sequence[Rule] = ()) -> str:
        """The chain that carries out a decision. It counts by the decision's name, notes the verdict in the packet's
        priority, and returns to the base chain. `before`: rules that come first."""
        return self._known((LEAF, decision, *before), lambda: _leaf(decision, before))


LEAF = "leaf"
Chooser = Callable[[Field, Targets], tuple[Rule, ...]]


def _leaf(decision: Decision, before: Sequence[Rule]) -> NamedChain:
    counter = Counter(counter_name(decision), names.comment(_counted(decision)))
    decided = SetPriority(CODES[decision.direction, decision.verdict])
    if decision.verdict is Fate.ACCEPT:
        end = [rule(Count(counter.name), decided)]
    else:
        end = [rule(Count(counter.name), logged(counter.name)), rule(decided)]
    prefix = names.identifier(LEAF, decision.direction.value, decision.security_group_rule_id or decision.cause)
    said = describe(decision)
    return NamedChain(content_chain(prefix, (*before, *end), comment=names.comment(said), origin=said), counter)


@dataclass
class DiagramChains:
    """The chains of one diagram. `fields`: where packets have what it asks for; `leaf`: the chain of a decision."""

    lowering: Lowering
    fields: Sequence[Field]
    leaf: Callable[[Decision], str]
    _names: dict[Node, str] = field(default_factory=dict)

    def chain(self, node: Node) -> str:
        """The chain that a node becomes."""
        if isinstance(node, Leaf):
            return self.leaf(node.decision)
        if node not in self._names:
            self._names[node] = self._steps(node) if isinstance(node, Steps) else self._branch(node)
        return self._names[node]

    def _steps(self, node: Steps) -> str:
        return self.lowering.steps(
            (tuple([(self.fields[dim], interval) for dim, interval in step.conditions]), self.leaf(step.decision))
            for step in node.steps
        )

    def _branch(self, node: Branch) -> str:
        targets = [(interval, self.chain(child)) for interval, child in node.segments]
        asked, name = self.fields[node.dim], prefix_of(node.dim)
        if node.dim == BY_PROTOCOL and len(targets) <= MANY_PROTOCOLS:
            return self.lowering.one_by_one(asked, name, targets)
        return self.lowering.look_up(asked, name, targets)


def prefix_of(dim: Dim) -> str:
    """How the names of chains begin that ask about a dimension."""
    return ASKED[dim].name.replace("_", "-")


def _by_rules(asked: Field, targets: Targets) -> tuple[Rule, ...]:
    entries, rest = _parted(targets)
    return (*(rule(Match(asked, (item,)), goto(target)) for item, target in entries), rule(goto(rest)))


def _by_map(asked: Field, targets: Targets) -> tuple[Rule, ...]:
    """A map for all but the most frequent target."""
    entries, rest = _parted(targets)
    return rule(VerdictMap(asked, tuple((item, goto(target)) for item, target in entries))), rule(goto(rest))


def _parted(targets: Targets) -> tuple[list[tuple[Range, str]], str]:
    """The intervals that don't lead to the most frequent target, and that target, which gets the rest."""
    counts: dict[str, int] = {}
    for _, target in targets:
        counts[target] = counts.get(target, 0) + 1
    rest = max(counts, key=lambda target: (counts[target], target))
    entries = joined((Range(*interval), target) for interval, target in targets)
    return [(item, target) for item, target in entries if target != rest], rest


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
