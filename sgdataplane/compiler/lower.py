"""Turn decision diagrams into chains.

Owns how a diagram becomes chains, leaves (verdict chains), and the names of both. It is given diagrams. It must not
know what a diagram is of, what one side of a profile needs besides, or what the kernel holds.

Chains that hold sets or maps without a name, and all chains below them, are named by a hash of their rules. So equal
chains are one chain, and a name never changes its meaning: an update adds new chains, leads to them in one step, and
removes those that nothing leads to.

What a rule does that decides by addresses is a `RuleEnd`. An accept counts by its name and notes the verdict in the
priority. A refusal writes its rank there, by which the base chain finds its leaf. A step does that itself, so that it
leads to no chain: an old kernel walks each way to a chain at each commit. Where a look-up decides, a chain does it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from sgdataplane.compiler.cuts import MANY_PROTOCOLS
from sgdataplane.compiler.diagram import ASKED, BY_PROTOCOL, Branch, Dim, Leaf, Node, Steps
from sgdataplane.compiler.recent import Recent
from sgdataplane.compiler.skeleton import SaidRule, content_chain
from sgdataplane.compiler.verdicts import log_counted
from sgdataplane.contract import names
from sgdataplane.contract.counters import counter_name, name_audited_counter
from sgdataplane.contract.fields import Field
from sgdataplane.contract.priority import CODES
from sgdataplane.errors import InternalError
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.inflight import has_nameless_set
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Count,
    Counter,
    Match,
    Range,
    Rule,
    SetPriority,
    Statement,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.order import join_neighbours
from sgdataplane.nft.text import rule_text

Targets = Sequence[tuple[Interval, str]]  # the chain for each interval of a field; they are sorted and cover all values


Asked = tuple[tuple[Field, Interval], ...]  # the conditions of a step


@dataclass(frozen=True)
class NamedChain:
    """A chain, and the counters that it counts in."""

    chain: Chain
    counters: tuple[Counter, ...] = ()


ChainMemo = Recent[Hashable, NamedChain]  # chains that are named after their content, by what they were made from
NamedChains = Mapping[str, NamedChain]


@dataclass(frozen=True, eq=False, slots=True)
class RuleEnd:
    """How a decision by addresses is noted. Two of them are compared by identity."""

    decision: Decision
    beaten_by: tuple[Range, ...]
    """The ranks that it leaves alone, which are those of stronger permissions."""
    statements: tuple[Statement, ...]
    """What the rule does."""
    counter: Counter | None
    """The counter of packets; None if they are counted by rank."""

    @classmethod
    def of(cls, decision: Decision, beaten_by: tuple[Range, ...], rank: int) -> RuleEnd:
        """Make the end of a decision. `rank` is that of the decision, if it refuses."""
        if decision.verdict is not Fate.ACCEPT:
            return cls(decision, beaten_by, (SetPriority(rank),), None)
        counter, noted = counter_of(decision), SetPriority(CODES[decision.direction, decision.verdict])
        return cls(decision, beaten_by, (Count(counter.name), noted), counter)


@dataclass
class AllSides:
    """What all sides have made in this compile. They have most steps in common."""

    chains: dict[Hashable, NamedChain] = field(default_factory=dict)
    """Chains by what they were made from."""
    _ends: dict[tuple[Decision, tuple[Range, ...], int], RuleEnd] = field(default_factory=dict)
    _steps: dict[tuple[Asked, RuleEnd], SaidRule] = field(default_factory=dict)

    def end(self, decision: Decision, beaten_by: tuple[Range, ...], rank: int) -> RuleEnd:
        """Return the end of a decision, always the same object."""
        key = (decision, beaten_by, rank)
        found = self._ends.get(key)
        if found is None:
            found = self._ends[key] = RuleEnd.of(*key)
        return found

    def step(self, asked: Asked, end: RuleEnd) -> SaidRule:
        """Return the rule that decides packets for which all of this holds, always the same object.

        Other packets, and packets with ranks that beat it, go on to the next step, which the same ranks beat.
        """
        key = (asked, end)
        found = self._steps.get(key)
        if found is None:
            matches = [Match(name, (Range(*interval),)) for name, interval in asked]
            if end.beaten_by:
                matches.append(Match(Field.PACKET_PRIORITY, end.beaten_by, negate=True))
            found = self._steps[key] = with_text(rule(*matches, *end.statements, RETURN))
        return found


@dataclass
class Lowering:
    """Collects the chains of one side of a profile."""

    memo: ChainMemo
    """Chains that were made in this compile and the one before."""
    shared: AllSides
    """What all sides have made in this compile."""
    previous: NamedChains = field(default_factory=dict)
    """The chains of the same side in an earlier compile; after collect_needed(), its own, for a later compile.

    If a chain is taken over, so are all below it.
    """
    chains: dict[str, NamedChain] = field(default_factory=dict)
    """The chains that were made, by name."""
    _inlined: dict[str, NamedChain] = field(default_factory=dict)

    def next(self, shared: AllSides) -> Lowering:
        """Return what collects the chains of the same side in the next compile."""
        return Lowering(self.memo.next(), shared, self.previous)

    def keep(self, chain: Chain) -> str:
        """Keep a chain, and return its name."""
        return self._keep(NamedChain(chain))

    def _keep(self, named: NamedChain) -> str:
        """Keep a chain, and return its name.

        If the earlier compile made an equal chain, that object is kept.

        Raises:
            InternalError: Another chain has that name.
        """
        chain, known = named.chain, self.previous.get(named.chain.name)
        if known is not None and known.chain == chain:
            chain, named = known.chain, known
        held = self.chains.setdefault(chain.name, named).chain
        if held is not chain and held != chain:
            raise InternalError(f"two chains would be named {chain.name}")
        return chain.name

    def rules(self, name: str) -> tuple[Rule, ...]:
        """Return the rules of a chain that is kept or was taken over."""
        return self._find(name).chain.rules

    def _find(self, name: str) -> NamedChain:
        return self.chains.get(name) or self.previous[name]

    def content(self, key: Hashable, prefix: str, rules: Callable[[], tuple[Rule, ...]]) -> str:
        """Keep a chain named after its content, and return its name.

        Equal keys stand for equal rules, so an earlier compile may have made the chain.
        """
        return self._memoize(key, lambda: NamedChain(content_chain(prefix, rules())))

    def steps(self, asked: Sequence[tuple[Asked, RuleEnd]]) -> str:
        """Keep the chain that asks for conditions one after the other, and return its name."""
        steps = [self.shared.step(conditions, end) for conditions, end in asked]
        texts = tuple([text for _, text in steps])

        def make() -> NamedChain:
            chain = content_chain("steps", tuple([made for made, _ in steps]), texts)
            return NamedChain(chain, tuple([end.counter for _, end in asked if end.counter is not None]))

        return self._memoize(texts, make)

    def end(self, end: RuleEnd) -> str:
        """Keep the chain that carries a decision by addresses out, and return its name."""
        return self._memoize((end.decision, end.beaten_by, end.statements), lambda: _end(end))

    def _memoize(self, key: Hashable, make: Callable[[], NamedChain]) -> str:
        named = self.memo.get(key, lambda: self.shared.chains.get(key) or make())
        self.shared.chains[key] = named
        return self._keep(named)

    def look_up(self, asked: Field, prefix: str, targets: Targets) -> str:
        """Keep the chain that leads to the target of the interval which holds the field, and return its name."""
        return self._keep_chooser(asked, prefix, targets, _by_map)

    def one_by_one(self, asked: Field, prefix: str, targets: Targets) -> str:
        """Keep the same chain, where the intervals are asked one by one, and return its name."""
        return self._keep_chooser(asked, prefix, targets, _by_rules)

    def _keep_chooser(self, asked: Field, prefix: str, targets: Targets, by: Chooser) -> str:
        """Keep the chain that chooses among targets, and return its name.

        If all targets are one chain, which happens as different nodes may become equal chains, it is that chain.
        """
        if all(target == targets[0][1] for _, target in targets):
            return targets[0][1]
        return self.content((by, asked, *targets), prefix, lambda: by(asked, targets))

    def inline(self, name: str) -> tuple[Rule, ...]:
        """Return the rules of a chain, for use in one with a stable name, so that a packet goes through one chain less.

        If they are many or can't change in place, or if the chain is an end, return one rule that goes to the chain.
        """
        named = self._find(name)
        rules = named.chain.rules
        is_fixed = any(has_nameless_set(entry) for entry in rules) or name.startswith((LEAF, RANKED))
        if is_fixed or len(rules) > MANY_PROTOCOLS:
            return (rule(goto(name)),)
        self._inlined[name] = named
        return rules

    def collect_needed(self, roots: Iterable[str]) -> dict[str, NamedChain]:
        """Return all chains to which anything leads from the roots on."""
        every, found, waiting = {**self.previous, **self.chains}, dict[str, NamedChain](), list(roots)
        while waiting:
            name = waiting.pop()
            if name not in found:
                named = found[name] = every[name]
                waiting += named.chain.ways.chains
        self.previous, self.chains = {**found, **self._inlined}, {}
        return found

    def counters(self) -> dict[str, Counter]:
        """Return the counters of all chains that are needed, by name."""
        return {counter.name: counter for named in self.previous.values() for counter in named.counters}

    def evict_unused(self, *, keeps_chains: bool) -> None:
        """Forget all that the next compile doesn't need.

        It needs what chains were made from; or, where diagrams tell which chain each node became, all chains by name.
        """
        self.shared = AllSides()
        self.memo.evict_unused()
        if keeps_chains:
            self.memo = ChainMemo()
        else:
            self.previous = {}

    def leaf(self, decision: Decision) -> str:
        """Keep the chain to which a rank leads, and return its name.

        It counts by the decision's name, logs what is refused, notes the verdict in the packet's priority, and returns
        to the base chain.
        """
        return self._memoize((LEAF, decision), lambda: _leaf(decision))


LEAF, RANKED = "leaf", "rank."
Chooser = Callable[[Field, Targets], tuple[Rule, ...]]


def counter_of(decision: Decision) -> Counter:
    """Return the counter of a decision, with a comment for people."""
    return Counter(counter_name(decision), names.comment(_describe_counter(decision)))


def _leaf(decision: Decision) -> NamedChain:
    """Make the leaf of a decision."""
    counter = counter_of(decision)
    decided = SetPriority(CODES[decision.direction, decision.verdict])
    if decision.verdict is Fate.ACCEPT:
        rules = [with_text(rule(Count(counter.name), decided))]
    else:
        rules = [with_text(rule(Count(counter.name), log_counted(counter.name))), _alone(decided)]
    return NamedChain(_of_decision(LEAF, decision, rules), (counter,))


def audit_leaf(decision: Decision) -> NamedChain:
    """Return the chain to which the rank of a refusal leads at an ENI in audit mode.

    It counts and logs under another name, and notes that the packet is accepted.
    """
    counter = Counter(name_audited_counter(decision), names.comment(f"audited {_describe_counter(decision)}"))
    decided = SetPriority(CODES[decision.direction, Fate.ACCEPT])
    rules = [with_text(rule(Count(counter.name), log_counted(counter.name))), _alone(decided)]
    return NamedChain(_of_decision("audit", decision, rules), (counter,))


def _end(end: RuleEnd) -> NamedChain:
    """Make the chain that carries a decision by addresses out."""
    gives_way = [with_text(rule(Match(Field.PACKET_PRIORITY, end.beaten_by), RETURN))] if end.beaten_by else []
    prefix = RANKED.removesuffix(".") if end.counter is None else LEAF
    chain = _of_decision(prefix, end.decision, [*gives_way, with_text(rule(*end.statements))])
    return NamedChain(chain, () if end.counter is None else (end.counter,))


def _of_decision(prefix: str, decision: Decision, every: Sequence[SaidRule]) -> Chain:
    """Make a chain that is named after a decision and its content."""
    name = names.identifier(prefix, decision.direction.value, decision.security_group_rule_id or decision.cause)
    words = describe(decision)
    rules, texts = zip(*every, strict=True)
    return content_chain(name, rules, texts, comment=names.comment(words), origin=words)


@cache
def _alone(effect: SetPriority) -> SaidRule:
    """Return a rule with this effect only, always the same object."""
    return with_text(rule(effect))


def with_text(made: Rule) -> SaidRule:
    """Return the rule with its text."""
    return made, rule_text(made)


@dataclass
class DiagramChains:
    """The chains of one diagram."""

    lowering: Lowering
    fields: Sequence[Field]
    """The field of a packet that each dimension asks for."""
    end: Callable[[Decision], RuleEnd]
    """Returns how a decision is noted."""
    previous: Mapping[Node, str] = field(default_factory=dict)
    """What nodes of an earlier diagram became, with the same fields and ends."""
    names: dict[Node, str] = field(default_factory=dict)
    """What the nodes became that were looked at."""

    def chain(self, node: Node) -> str:
        """Return the name of the chain that a node becomes."""
        if isinstance(node, Leaf):
            return self.lowering.end(self.end(node.decision))
        found = self.names.get(node)
        if found is None:
            found = self.previous.get(node) or (self._steps(node) if isinstance(node, Steps) else self._branch(node))
            self.names[node] = found
        return found

    def evict_unused(self) -> None:
        """Remember what nodes became, for the next diagram, if those chains are still there."""
        there = self.lowering.previous
        self.names |= {node: name for node, name in self.previous.items() if name in there}
        self.previous, self.end = {}, _no_end

    def _steps(self, node: Steps) -> str:
        """Make the chain of steps."""
        asked = [tuple([(self.fields[dim], interval) for dim, interval in step.conditions]) for step in node.steps]
        ends = [self.end(step.decision) for step in node.steps]
        return self.lowering.steps(list(zip(asked, ends, strict=True)))

    def _branch(self, node: Branch) -> str:
        """Make the chain of a branch: rules one by one for few protocols, else a look-up."""
        targets: list[tuple[Interval, str]] = []
        made: dict[int, str] = {}  # by the identity of a node: many segments lead to one
        for interval, child in node.segments:
            name = made.get(id(child))
            if name is None:
                name = made[id(child)] = self.chain(child)
            targets.append((interval, name))
        asked, name = self.fields[node.dim], prefix_of(node.dim)
        if node.dim == BY_PROTOCOL and len(targets) <= MANY_PROTOCOLS:
            return self.lowering.one_by_one(asked, name, targets)
        return self.lowering.look_up(asked, name, targets)


def _no_end(decision: Decision) -> RuleEnd:
    """Refuse to make an end, as all chains are made."""
    raise InternalError(f"{describe(decision)}: these chains are made")


def prefix_of(dim: Dim) -> str:
    """Return how the names of chains begin that ask about a dimension."""
    return ASKED[dim].name.replace("_", "-")


def _by_rules(asked: Field, targets: Targets) -> tuple[Rule, ...]:
    """Return rules that ask for all intervals but those of the most frequent target, one by one."""
    entries, rest = _part_targets(targets)
    return (*(rule(Match(asked, (item,)), goto(target)) for item, target in entries), rule(goto(rest)))


def _by_map(asked: Field, targets: Targets) -> tuple[Rule, ...]:
    """Return a map for all but the most frequent target, and a rule that leads to that one."""
    entries, rest = _part_targets(targets)
    return rule(VerdictMap(asked, tuple((item, goto(target)) for item, target in entries))), rule(goto(rest))


def _part_targets(targets: Targets) -> tuple[list[tuple[Range, str]], str]:
    """Return the intervals that don't lead to the most frequent target, and that target, which gets the rest."""
    counts: dict[str, int] = {}
    for _, target in targets:
        counts[target] = counts.get(target, 0) + 1
    rest = max(counts, key=lambda target: (counts[target], target))
    entries = join_neighbours((Range(*interval), target) for interval, target in targets)
    return [(item, target) for item, target in entries if target != rest], rest


def describe(decision: Decision) -> str:
    """Return one line for people that says which rule decided, or what else."""
    if decision.cause == RULE:
        ids = f"{decision.security_group_id} {decision.security_group_rule_id}"
        return f"{ids} {decision.direction.value} priority {decision.priority} {decision.verdict.value}"
    subject = f" {decision.security_group_id}" if decision.security_group_id else ""
    return f"{decision.cause}{subject} {decision.direction.value} {decision.verdict.value}"


def _describe_counter(decision: Decision) -> str:
    """Return a counter's comment.

    It says no more than the name does: nft can't change the comment of a counter that stays.
    """
    if decision.cause == RULE:
        return f"{decision.security_group_id} {decision.security_group_rule_id}"
    return describe(decision)
