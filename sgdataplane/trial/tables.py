"""The table of a trial: it counts each packet that opens a session and lies in one of the trial's lines.

Owns its chains. Is given lines, and where the policy's table stands. Must not know the kernel, or how states differ.

    <hook>       base chain, one priority before the policy's, if there are lines in that direction. Packets of sessions
                 leave at its first rule, others of a session that this side has accepted at the second one. All
                 others go to the chain of their interface's ENI
    at-...       the chain of the ENI at one interface: leads to the diagram of the packet's family
    (diagram)    finds the line that the packet lies in, as the policy finds a rule (compiler/cuts.py). Lines are
                 disjoint, so there is one at most
    line-...     packets that no rule judges return: the line's ranges may reach over them. All others are counted, and
                 a few of them logged

Nothing here has a verdict but to lead on or to return, and the base chains accept at their end. So a trial changes no
packet's fate, and nothing about a packet: no mark and no priority. All chains and maps but the base chains are named by
what they hold, so that they never change: an update adds new ones and then changes the rules of the base chains alone.
An ENI's chain is also named by its interface: so the names say all that the base chains' rules say, and equal names
mean equal rules (running.py).

A packet that opens a session has its addresses and ports in its own headers as rules judge them, at each hook. So no
field of the conntrack entry is asked but its state and its mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.analyse.rows import PLACES
from sgdataplane.compiler.cuts import MANY_PROTOCOLS, build_cutting
from sgdataplane.compiler.diagram import ASKED, BY_PROTOCOL, Branch, Leaf, Node, RuleBox, Steps
from sgdataplane.compiler.skeleton import content_chain
from sgdataplane.contract import names
from sgdataplane.contract.counters import TRIAL_GROUP
from sgdataplane.contract.fields import (
    DESTINATION,
    NFPROTO,
    SOURCE,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    CtState,
    Field,
    Hook,
    KeyType,
)
from sgdataplane.contract.marks import HALF
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import TRIALS
from sgdataplane.model import always
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.net.ranges import Interval, Ranges, meet, minus, unite
from sgdataplane.net.values import TCP, UDP, Direction, Family, Prefix, Verdict
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Count,
    Counter,
    Log,
    Map,
    Match,
    Range,
    Rule,
    Statement,
    Table,
    VerdictMap,
    goto,
    is_value,
    rule,
)
from sgdataplane.nft.order import join_neighbours
from sgdataplane.policy.dimensions import LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT, Dimension
from sgdataplane.trial.lines import TrialLine, TrialLines

SAMPLES_A_SECOND = 20  # of each line
LOOK_UPS = 4  # on the way to a line, at most
FEW = 2  # up to so many interfaces, the base chain asks for each
NO_LINE, LINE = "no-line", "line"
OPENS_NOTHING = is_value(Field.CT_STATE, CtState.INVALID, CtState.ESTABLISHED, CtState.RELATED, CtState.UNTRACKED)
SYN_FLAGS = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK
NOT_SYN = Match(Field.TCP_FLAGS, (Range.of(TCP_SYN),), negate=True, mask=SYN_FLAGS)


@dataclass(frozen=True)
class TrialPlace:
    """The place of the policy's table, and what it obeys."""

    site: Site
    interfaces: Mapping[str, str]
    """ENI id -> interface."""
    options: Options


def table_name(trial: str) -> str:
    """Return the name of a trial's table."""
    return TRIALS + names.digest(trial)


def compile_trial(trial: str, place: TrialPlace, found: TrialLines) -> Table:
    """Return the table that counts these lines, which are about the place's ENIs."""
    made = _Chains(place, found)
    directions = {line.change.direction for line in found.lines}
    bases = [made.base(hook) for hook in Direction if hook in directions]
    chains = sorted((*bases, *made.chains.values()), key=lambda chain: chain.name)
    maps = tuple(sorted(made.maps.values(), key=lambda entry: entry.name))
    counters = tuple(map(Counter, found.counter_names))
    return Table(table_name(trial), tuple(chains), maps, counters)


def base_name(hook: Direction) -> str:
    """Return the name of the base chain at that side's hook."""
    return hook.value


@dataclass
class _Chains:
    """A collector of a table's chains and maps, by name."""

    place: TrialPlace
    found: TrialLines
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)

    def base(self, hook: Direction) -> Chain:
        """Return the base chain of one side; keep everything below it."""
        at = self.place.site.hooks[hook]
        accepted = Match(Field.CT_MARK, (Range.of(0),), negate=True, mask=HALF[hook])
        rules = (rule(OPENS_NOTHING, RETURN), rule(accepted, RETURN), *self._by_interface(hook))
        return Chain(base_name(hook), rules, Hook(at.name, at.priority - 1))

    def _by_interface(self, hook: Direction) -> Iterator[Rule]:
        """Yield the rules that lead from each interface to its ENI's chain."""
        interface, targets = self.place.site.interface(hook), self._enis(hook)
        if len(targets) <= FEW:
            yield from (rule(is_value(interface, ifname), goto(name)) for ifname, name in targets)
            return
        elements = tuple((ifname, goto(name)) for ifname, name in targets)
        name = f"{hook.value}-enis-{names.digest(repr(elements))}"
        self.maps[name] = Map(name, KeyType.IFNAME, elements)
        yield rule(VerdictMap(interface, name=name))

    def _enis(self, hook: Direction) -> list[tuple[str, str]]:
        """Return the interfaces of ENIs with lines in that direction, each with its first chain."""
        by_eni: dict[str, dict[Family, list[TrialLine]]] = {}
        for line in self.found.lines:
            if line.change.direction is hook:
                by_eni.setdefault(line.change.eni_id, {}).setdefault(line.change.family, []).append(line)
        found = ((self.place.interfaces[eni_id], families) for eni_id, families in by_eni.items())
        return sorted((ifname, self._eni(hook, ifname, families)) for ifname, families in found)

    def _eni(self, hook: Direction, ifname: str, families: Mapping[Family, Sequence[TrialLine]]) -> str:
        """Keep the chain of the ENI at one interface; return its name."""
        ways = [
            rule(is_value(Field.NFPROTO, NFPROTO[family]), goto(self._family(hook, family, lines)))
            for family, lines in families.items()
        ]
        return self._keep(content_chain(f"at-{hook.value}-{ifname}", tuple(ways)))

    def _family(self, hook: Direction, family: Family, lines: Sequence[TrialLine]) -> str:
        """Return the first chain of the diagram that finds the line of a packet."""
        boxes = [RuleBox(_make_decision(hook, number), _intervals(line)) for number, line in enumerate(lines)]
        boxes.append(RuleBox(Decision(hook, Verdict.ACCEPT, NO_LINE), (None,) * len(ASKED)))
        node = build_cutting(boxes, family, LOOK_UPS, None).node
        ends = {box.decision: self._line(line) for box, line in zip(boxes, lines, strict=False)}
        return _Diagram(self, [_field(each, hook, family) for each in ASKED], ends).chain(node)

    def _line(self, line: TrialLine) -> str:
        """Keep the chain that counts a line's packets; return its name."""
        counter = self.found.counters[line.name]
        counts = rule(Count(counter), Log(counter, TRIAL_GROUP, SAMPLES_A_SECOND))
        unjudged = [rule(*condition, RETURN) for condition in _exclude_unjudged(line, self.place.options)]
        return self._keep(content_chain("line", (*unjudged, counts)))

    def _keep(self, chain: Chain) -> str:
        self.chains[chain.name] = chain
        return chain.name

    def keep(self, prefix: str, rules: Iterable[Rule]) -> str:
        """Keep a chain, named by its content; return the name."""
        return self._keep(content_chain(prefix, tuple(rules)))


@dataclass
class _Diagram:
    """A maker of the chains of one diagram."""

    made: _Chains
    fields: Sequence[Field]
    """The packet field of each dimension."""
    ends: Mapping[Decision, str]
    """The chain of each line; what is in no line returns."""
    _names: dict[Node, str] = field(default_factory=dict)

    def chain(self, node: Node) -> str:
        """Return the chain that a node becomes; "" if it leads to no line."""
        if isinstance(node, Leaf):
            return self.ends.get(node.decision, "")
        if node not in self._names:
            rules = self._steps(node) if isinstance(node, Steps) else self._branch(node)
            self._names[node] = self.made.keep("find", rules)
        return self._names[node]

    def _steps(self, node: Steps) -> Iterator[Rule]:
        """Yield a rule for each match of a linear match list that leads to a line."""
        for step in node.steps:
            name = self.ends.get(step.decision, "")
            asked = [Match(self.fields[dim], (Range(*interval),)) for dim, interval in step.conditions]
            if name:
                yield rule(*asked, goto(name))

    def _branch(self, node: Branch) -> Iterator[Rule]:
        """Yield the rules of a look-up; what leads to no line has no element."""
        asked = self.fields[node.dim]
        named = ((Range(*interval), self.chain(child)) for interval, child in node.segments)
        targets = [(keys, name) for keys, name in join_neighbours(named) if name]
        if node.dim == BY_PROTOCOL and len(targets) <= MANY_PROTOCOLS:
            yield from (rule(Match(asked, (keys,)), goto(name)) for keys, name in targets)
        else:
            yield rule(VerdictMap(asked, tuple((keys, goto(name)) for keys, name in targets)))


def _make_decision(hook: Direction, number: int) -> Decision:
    """Return the decision that stands for a line in a diagram."""
    return Decision(hook, Verdict.ACCEPT, LINE, security_group_rule_id=str(number))


def _field(dimension: Dimension, hook: Direction, family: Family) -> Field:
    """Return the field where a packet that opens a session has that dimension."""
    is_in = hook is Direction.INGRESS
    return {
        PROTOCOL: Field.L4PROTO,
        SOURCE_PORT: Field.TH_SPORT,
        PORT: Field.TH_DPORT,
        LOCAL: (DESTINATION if is_in else SOURCE)[family],
        REMOTE: (SOURCE if is_in else DESTINATION)[family],
    }[dimension]


def _intervals(line: TrialLine) -> tuple[Ranges | None, ...]:
    """Return the line as a diagram takes it.

    Where it has one range in a dimension, that is it; else the line's chain asks.
    """
    parts = {each: _range(line, each) for each in ASKED}
    return tuple(parts[each] for each in ASKED)


def _range(line: TrialLine, dimension: Dimension) -> Ranges | None:
    """Return the line's range in a dimension; None if the line has all of it.

    Ranges of several lines don't overlap, except where no rule judges.
    """
    part = line.change.of(dimension)
    if dimension is LOCAL and len(judged := _list_judged_local(line)) == 1:
        part = judged[0]
    return None if part is None or (part,) == dimension.whole(line.change.family) else (part,)


def _list_judged_local(line: TrialLine) -> Ranges:
    """Return the local addresses of the line that rules judge."""
    part = line.change.of(LOCAL)
    return line.judged.local if part is None else meet(line.judged.local, (part,))


def _exclude_unjudged(line: TrialLine, options: Options) -> Iterator[tuple[Statement, ...]]:
    """Yield conditions of packets in the line's ranges that no rule judges, so that they aren't the line's."""
    _, hook, family = line.place
    far, local = (_field(each, hook, family) for each in (REMOTE, LOCAL))
    remote = line.change.of(REMOTE)
    unjudged = minus(dimension_ranges(REMOTE, family, remote), line.judged.far)
    if unjudged:
        yield (Match(far, _as_keys(unjudged)),)
    judged = _list_judged_local(line)
    if len(judged) > 1:
        yield (Match(local, _as_keys(judged), negate=True),)
    yield from _of_protocols(line, options)


def dimension_ranges(dimension: Dimension, family: Family, part: Interval | None) -> Ranges:
    """Return a part of a dimension as ranges; None stands for all of it."""
    return dimension.whole(family) if part is None else (part,)


def _as_keys(ranges: Ranges) -> tuple[Range, ...]:
    return tuple(Range(*part) for part in ranges)


def _of_protocols(line: TrialLine, options: Options) -> Iterator[tuple[Statement, ...]]:
    """Yield the conditions of DHCP, and of TCP that opens nothing, where they are in the line's ranges.

    Discovery isn't tracked, so it needs none.
    """
    _, hook, _ = line.place
    if _has(line, PROTOCOL, UDP):
        yield from _dhcp(line, options)
    is_dropped = options.strict_syn or (hook is Direction.EGRESS and options.midstream_egress == "drop")
    if _has(line, PROTOCOL, TCP) and is_dropped:
        yield is_value(Field.L4PROTO, TCP), NOT_SYN


def _dhcp(line: TrialLine, options: Options) -> Iterator[tuple[Statement, ...]]:
    """Yield the conditions of DHCP between an ENI and its gateways; at egress also of what only a server sends."""
    _, hook, family = line.place
    client, server, everyone = always.DHCP[family]
    is_sent = hook is Direction.EGRESS
    source_port, port = (client, server) if is_sent else (server, client)
    known = (*options.gateways, *((everyone,) if is_sent else ()))
    asked = unite((p.first, p.last) for p in map(Prefix.of, known) if p.family is family)
    ends = meet(asked, line.ranges[PLACES[REMOTE]])
    if ends and _has(line, SOURCE_PORT, source_port) and _has(line, PORT, port):
        yield *_udp(source_port, port), Match(_field(REMOTE, hook, family), _as_keys(ends))
    if is_sent and _has(line, SOURCE_PORT, server) and _has(line, PORT, client):
        yield _udp(server, client)


def _udp(source_port: int, port: int) -> tuple[Statement, ...]:
    ports = is_value(Field.TH_SPORT, source_port), is_value(Field.TH_DPORT, port)
    return is_value(Field.L4PROTO, UDP), *ports


def _has(line: TrialLine, dimension: Dimension, number: int) -> bool:
    part = line.change.of(dimension)
    return part is None or part[0] <= number <= part[1]
