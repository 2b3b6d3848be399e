"""A table's chains as one kind of packet meets them: conditions on known fields are worked out, others are asked on
axes.

Owns the meaning of each statement for sets of packets, as nft/interp.py has it for one packet. Is given the table and
how each field is read. Must not know what the chains are for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sgdataplane.contract.fields import PORTS, SESSION_PORTS, Field, KeyType
from sgdataplane.nft.ir import (
    RETURN,
    Count,
    Exceeds,
    Key,
    Log,
    Match,
    Range,
    SetMark,
    SetPacketMark,
    SetTimeout,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from sgdataplane.proof.axes import LACKING, MalformedError, holds
from sgdataplane.proof.lookups import Lookup
from sgdataplane.proof.step import Effects, FieldReading, RuleStep, Test, grouped, in_order

TIMEOUTS = "timeouts-"  # the names of chains that only set timeouts begin so (timeouts.py checks that they do no more)
OF_PORTS = (*PORTS, *SESSION_PORTS)
UNPROVABLE = {
    Exceeds: "a limit decides by the packets that came before",
    Log: "a log has no counter right before it",
}
NOTHING: frozenset[str] = frozenset()


@dataclass
class Program:
    """The chains that such packets can come to from the added ones on. `stops`: chains that aren't entered, each with
    the outcome of packets that come to it.

    `lookups`: the table's maps as they were read already; others are read when needed. `maps`, `keys`: what was read of
    maps: all of some, single keys of others. `names`: matches on interface names that were worked out.

    `outs`: the stops, and chains that send every packet to one, with the effects on the way and the stop. `cuts`: for
    each axis the ranges that the table asks for. `far_cuts`, `far_maps`: where ranges cut far addresses, and the maps
    that are keyed by them. `far_chains`: chains that ask for the far address, or lead to one that does.
    """

    table: Table
    reading: FieldReading
    stops: Mapping[str, str]
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    steps: dict[str, list[RuleStep]] = field(default_factory=dict)
    cuts: dict[int, list[Range]] = field(default_factory=dict)
    far_cuts: set[int] = field(default_factory=set)
    far_maps: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    keys: set[tuple[str, Key]] = field(default_factory=set)
    names: set[Match] = field(default_factory=set)
    far_chains: set[str] = field(default_factory=set)
    outs: dict[str, tuple[Effects, str]] = field(default_factory=dict)
    _parents: dict[str, list[str]] = field(default_factory=dict)
    _targets: set[str] = field(default_factory=set)
    _ways: dict[str, set[str]] = field(default_factory=dict)  # where each chain leads
    _whole: set[str] = field(default_factory=set)  # chains that were parsed with all that they lead to
    _axis: dict[int, int | None] = field(default_factory=dict)  # by the identity of a field: hashing one is slow

    def __post_init__(self) -> None:
        unmasked = {id(asked): self.reading.axis(asked, None) for asked in Field}
        self.outs = {stop: ((), stop) for stop in self.stops}
        self._axis = {key: axis for key, axis in unmasked.items() if axis is not None}

    def add(self, root: str, near: AbstractSet[str] = NOTHING) -> None:
        """Parse the chains that can be reached from a chain, but not those behind the chains `near`, none of which asks
        for the far address. All chains that the table names must exist (structure.py)."""
        done, known = (set[str]() if near else self._whole), len(self.steps)
        waiting = [root]
        while waiting:
            name = waiting.pop()
            if name in done or name in self.stops or name in near:
                continue
            done.add(name)
            if name not in self.steps:
                self._parse(name)
            waiting.extend(self._ways[name])
        if len(self.steps) > known:
            self._spread()

    def _parse(self, name: str) -> None:
        self._targets = set()
        self.steps[name] = list(self._steps(name))
        self._ways[name] = self._targets
        for chain in self._targets:
            self._parents.setdefault(chain, []).append(name)
        self._note(name, self.steps[name])

    def _steps(self, name: str) -> Iterator[RuleStep]:
        """The steps of a chain, up to the first one that takes every packet and doesn't return it. Rules that only have
        effects are joined with the next rule if that has no conditions."""
        done: Effects = ()
        for rule in self.table.chain[name].rules:
            step = self._parsed(rule.statements)
            if step is None:
                continue
            if step.is_plain:
                step.effects, done = done + step.effects, ()
                if step.verdict is None:
                    done = step.effects
                    continue
            elif done:
                yield RuleStep(effects=done)
                done = ()
            yield step
            if step.is_plain and step.verdict is not None and step.verdict.kind is not VerdictKind.JUMP:
                return
        if done:
            yield RuleStep(effects=done)

    def _note(self, chain: str, steps: Sequence[RuleStep]) -> None:
        """Notes whether a chain asks for the far address, and whether it sends every packet to a stop."""
        if any(step.is_far for step in steps):
            self.far_chains.add(chain)
        if steps and steps[0].is_plain and steps[0].verdict is not None and steps[0].verdict.chain in self.stops:
            self.outs[chain] = (steps[0].effects, steps[0].verdict.chain)

    def _spread(self) -> None:
        """A chain that leads to one which asks for the far address counts as one that asks."""
        waiting = list(self.far_chains)
        while waiting:
            for parent in self._parents.get(waiting.pop(), ()):
                if parent not in self.far_chains:
                    self.far_chains.add(parent)
                    waiting.append(parent)

    def rest(self, chain: str) -> str:
        """The chain to which the last step sends all packets that are left; "" if there is none."""
        if chain not in self.steps:
            self._parse(chain)
        last = self.steps[chain][-1] if self.steps[chain] else None
        if last is None or not last.is_plain or last.effects or last.verdict is None:
            return ""
        return last.verdict.chain if last.verdict.kind is VerdictKind.GOTO else ""

    def follow(self, chain: str, far: int) -> str:
        """The chain that all packets with this far address come to from that one, as long as nothing else is asked: the
        first one that leads to no chain which asks for the far address."""
        following = self._next(chain, far)
        while following is not None:
            chain = following
            following = self._next(chain, far) if chain in self.far_chains else None
        return chain

    def _next(self, chain: str, far: int) -> str | None:
        """The chain that these packets go to; None if anything else is done or asked first, or if they don't go on."""
        for step in self.steps[chain]:
            if not step.is_decided:
                return None
            if step.distant and not all(test(far) for test in step.distant):
                continue
            if step.effects:
                return None
            verdict = step.lookup(far) if step.lookup is not None else step.verdict
            if verdict is not None:
                return verdict.chain if verdict.kind is VerdictKind.GOTO else None
        return None

    def _parsed(self, statements: Sequence[Statement]) -> RuleStep | None:
        try:
            return self._rule(statements)
        except MalformedError as error:
            return RuleStep(problem=str(error))

    def _rule(self, statements: Sequence[Statement]) -> RuleStep | None:
        """The rest of a rule as a step; None if it does nothing to such packets."""
        step = RuleStep()
        for index, statement in enumerate(statements):
            if isinstance(statement, Match):
                if not all(self._test(step, part) for part in self.reading.parts(statement)):
                    return None
            elif isinstance(statement, Verdict):
                if statement.kind is VerdictKind.JUMP and statement.chain.startswith(TIMEOUTS):
                    return None
                self._decide(step, statement)
                return step
            elif isinstance(statement, VerdictMap):
                return step if self._look_up(step, statement) else None
            elif isinstance(statement, Exceeds | Log):
                step.problem = UNPROVABLE[type(statement)]
                return step
            elif not isinstance(statement, SetTimeout):
                return self._affect(step, statement, statements[index + 1 :])
            if step.problem:
                return step
        return None

    def _decide(self, step: RuleStep, verdict: Verdict) -> None:
        step.verdict = verdict
        if verdict.chain:
            self._targets.add(verdict.chain)

    def _affect(self, step: RuleStep, effect: Count | SetMark | SetPacketMark, rest: Sequence[Statement]) -> RuleStep:
        if isinstance(effect, Count) and effect.counter not in self.table.counter:
            step.problem = f"there is no counter {effect.counter}"
            return step
        step.effects = (effect,)
        if isinstance(effect, Count) and rest and isinstance(rest[0], Log):
            if rest[0].counter != effect.counter or len(rest) > 1:
                step.problem = f"a log names {rest[0].counter} after {effect.counter}, or isn't the end of its rule"
            return step
        then = self._rule(rest)
        if then is not None and then.is_plain:
            step.effects += then.effects
            step.verdict, step.then = then.verdict, then.then
        else:
            step.then = then
        return step

    def _test(self, step: RuleStep, match: Match) -> bool:
        """Adds a match to the step. False if it certainly fails."""
        axis = self._axis.get(id(match.field))
        if axis is None:
            axis = self.reading.axis(match.field, match.mask)
        if axis is not None:
            self.cuts.setdefault(axis, []).extend(match.ranges)
            step.tests += (Test(axis, match.ranges, match.negate, match.mask, match.field in OF_PORTS),)
            return True
        if match.field is self.reading.far and match.mask is None:
            step.distant += (self._distant(match),)
            return True
        if match.field in self.reading.known:
            if match.field.key_type is KeyType.IFNAME:
                self.names.add(match)
            return holds(match, self.reading.known[match.field])
        if match in self.reading.answers:
            return self.reading.answers[match]
        step.problem = f"it reads {match.field.name.lower()}, about which the proof knows nothing"
        return True

    def _distant(self, match: Match) -> Callable[[int], bool]:
        starts, ends = self._cut_far(match.ranges)

        def holds(far: int) -> bool:
            index = bisect_right(starts, far) - 1
            return (index >= 0 and far <= ends[index]) != match.negate

        return holds

    def _cut_far(self, ranges: Iterable[Range]) -> tuple[list[int], list[int]]:
        made = [(int(item.first), int(item.last)) for item in in_order(ranges)]
        starts, ends = [first for first, _ in made], [last for _, last in made]
        self.far_cuts.update(starts)
        self.far_cuts.update(last + 1 for last in ends)
        return starts, ends

    def _look_up(self, step: RuleStep, vmap: VerdictMap) -> bool:
        """Adds a look-up to the step. False if it certainly finds nothing."""
        if vmap.name and vmap.name not in self.table.map:
            step.problem = f"there is no map {vmap.name}"
        elif vmap.field is self.reading.far:
            step.lookup = self._far_map(vmap.name) if vmap.name else self._far_ranges(vmap)
        elif vmap.field in self.reading.known:
            value = self.reading.known[vmap.field]
            return value is not LACKING and self._known(step, vmap, value)
        elif (axis := self._axis.get(id(vmap.field))) is None:
            step.problem = f"it looks up {vmap.field.name.lower()}, about which the proof knows nothing"
        else:
            step.groups, step.axis = grouped(self._entries(vmap)), axis
            step.reads_port |= vmap.field in OF_PORTS
            self._targets.update(verdict.chain for verdict, _ in step.groups if verdict.chain)
            self.cuts.setdefault(axis, []).extend(item for _, ranges in step.groups for item in ranges)
        return True

    def _known(self, step: RuleStep, vmap: VerdictMap, value: Key) -> bool:
        found = self._element(vmap.name, value) if vmap.name else _among(vmap, value)
        if found is not None:
            self._decide(step, found)
        return found is not None

    def _element(self, name: str, key: Key) -> Verdict | None:
        """The verdict of one key in a named map."""
        if self.table.map[name].lifetime:
            self.maps.add(name)
            return RETURN if key in self.reading.passing else None
        self.keys.add((name, key))
        value = self._lookup(name).get(key)
        return None if value is None else _verdict(value, name)

    def _entries(self, vmap: VerdictMap) -> Iterator[tuple[Range, Verdict]]:
        if not vmap.name:
            yield from vmap.entries
            return
        self.maps.add(vmap.name)
        if self.table.map[vmap.name].lifetime:
            yield from ((Range.of(key), RETURN) for key in self.reading.passing)
            return
        for key, value in sorted(self._lookup(vmap.name).values().items()):
            yield Range.of(key), _verdict(value, vmap.name)

    def _lookup(self, name: str) -> Lookup:
        return self.lookups[name] if name in self.lookups else Lookup.of(self.table.map[name])

    def _far_map(self, name: str) -> Callable[[int], Verdict | None]:
        lookup = self._lookup(name)
        if lookup.has_numbers or self.table.map[name].lifetime:
            raise MalformedError(f"map {name} holds marks, or its elements expire")
        self.far_maps.add(name)
        self._targets.update(lookup.targets)
        return lookup.verdict

    def _far_ranges(self, vmap: VerdictMap) -> Callable[[int], Verdict | None]:
        starts, ends = self._cut_far(item for item, _ in vmap.entries)
        verdicts = [verdict for _, verdict in vmap.entries]
        self._targets.update({verdict.chain for verdict in verdicts} - {""})

        def look_up(far: int) -> Verdict | None:
            index = bisect_right(starts, far) - 1
            return verdicts[index] if index >= 0 and far <= ends[index] else None

        return look_up


def _among(vmap: VerdictMap, value: Key) -> Verdict | None:
    """The verdict of the range that holds the value."""
    return next((verdict for item, verdict in vmap.entries if item.first <= value <= item.last), None)  # type: ignore[operator]


def _verdict(value: Verdict | int, name: str) -> Verdict:
    if isinstance(value, int):
        raise MalformedError(f"map {name} holds marks")
    return value
