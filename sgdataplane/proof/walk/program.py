"""Read a table's chains as one kind of packet meets them.

Conditions on known fields are worked out here, all others are asked on axes. Owns the meaning of each statement for
sets of packets, as nft/interp.py has it for one packet. It is given the table and how each field is read. It must not
know what the chains are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.contract.fields import PAIRED, PORTS, SESSION_PORTS, Field, KeyType
from sgdataplane.nft.ir import (
    RETURN,
    Count,
    InSet,
    Key,
    Log,
    MapCount,
    MapPriority,
    Match,
    Range,
    SetPriority,
    SetTimeout,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from sgdataplane.proof.spec.axes import LACKING, MalformedError, holds
from sgdataplane.proof.spec.outcomes import Effect, Effects, Outcome
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.walk.ends import ends_of, is_end
from sgdataplane.proof.walk.lookups import Lookup, among, verdict_of
from sgdataplane.proof.walk.step import (
    APART,
    UNPROVABLE,
    Bound,
    RuleStep,
    Test,
    Unprovable,
    group_by_verdict,
    near,
    read_bound,
    way_out,
)

OF_PORTS = (*PORTS, *SESSION_PORTS)
PRIORITY = Field.PACKET_PRIORITY
NO_KEYS = (LACKING, "")  # no map has these keys: every interface has a name


def _nowhere(_: str) -> bool:
    return False


@dataclass
class Program:
    """The chains that packets of one kind can come to from the added ones on, as steps."""

    table: Table
    reading: FieldReading
    """How the packets' fields are read."""
    stops: Mapping[str, str]
    """Chains that aren't entered, each with what stands for it in the outcome."""
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    """The table's maps as far as they were read already; others are read when needed."""
    is_border: Callable[[str], bool] = _nowhere
    """Returns whether a chain of that name isn't entered either; its name stands for it in the outcome."""
    codes: Mapping[int, str] = field(default_factory=dict)
    """What each priority that is a verdict stands for."""
    ranks: Mapping[int, Outcome | None] = field(default_factory=dict)
    """Effects and outcome of the leaf that each rank leads to; None if it leads to none that always decides."""
    within: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Bounds of the numbers that matter on an axis, by axis. Other entries of look-ups aren't read."""
    steps: dict[str, list[RuleStep]] = field(default_factory=dict)
    """The steps of each chain that was read."""
    cuts: dict[int, list[Range]] = field(default_factory=dict)
    """The ranges that the table asks for on each axis."""
    maps: set[str] = field(default_factory=set)
    """The maps of which all elements were read."""
    keys: set[tuple[str, Key]] = field(default_factory=set)
    """The single keys that were read of other maps: (map, key)."""
    names: set[Match] = field(default_factory=set)
    """The matches on interface names that were worked out."""
    borders: set[str] = field(default_factory=set)
    """The chains at the border that were met."""
    outs: dict[str, tuple[Effects, str]] = field(default_factory=dict)
    """Chains where all packets come to one outcome: the effects on the way, and the stop.

    These are the stops, chains that send every packet to a stop, and leaves.
    """
    leaves: set[str] = field(default_factory=set)
    """Chains that return each packet with one of the codes, which stands in for a stop.

    A rule that does so by itself (ends.py) is read as a way to such a chain.
    """
    bounds: dict[str, Bound] = field(default_factory=dict)
    """The priorities that some leaves return before they do anything else."""
    heads: dict[str, Bound] = field(default_factory=dict)
    """The priorities that entries return at once. They aren't among the entry's steps."""
    asked: dict[int, Outcome] = field(default_factory=dict)
    """The ranks that leaves write, each with where it leads."""
    _targets: set[str] = field(default_factory=set)
    _axis: dict[int, int | None] = field(default_factory=dict)  # by the identity of a field: hashing one is slow

    def __post_init__(self) -> None:
        unmasked = {id(asked): self.reading.axis(asked, None) for asked in Field}
        self.outs = {stop: ((), stop) for stop in self.stops}
        self._axis = {key: axis for key, axis in unmasked.items() if axis is not None}

    def add(self, root: str) -> None:
        """Read the chains that can be reached from a chain.

        All chains that the table names must exist (structure.py checks that).
        """
        waiting = [root]
        while waiting:
            name = waiting.pop()
            if name not in self.steps and name not in self.stops and not self._is_border(name):
                waiting.extend(self._parse(name))

    def add_within(self, root: str, ahead: Callable[[Sequence[RuleStep]], Iterable[str]]) -> None:
        """Read the chains that some packets can reach. `ahead` yields the chains where steps can send these."""
        waiting, seen = [root], set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen or is_end(name) or name in self.stops or self._is_border(name):
                continue
            seen.add(name)
            if name not in self.steps:
                self._parse(name)
            waiting.extend(ahead(self.steps[name]))

    def behead(self, name: str) -> None:
        """Keep the priorities that an added chain returns at once apart from its steps."""
        bound = read_bound(self.steps.get(name, ()))
        if bound is not None and name not in self.bounds and name not in self.heads:
            self.heads[name] = bound
            del self.steps[name][0]

    def _is_border(self, name: str) -> bool:
        if name not in self.borders and self.is_border(name):
            self.borders.add(name)
            self.outs[name] = (), name
        return name in self.borders

    def _parse(self, name: str) -> set[str]:
        """Read one chain. Return the chains that it leads to."""
        self._targets = set()
        steps = self.steps[name] = list(self._steps(name))
        for end, decided, beaten_by in ends_of(steps, self._find_outcome) if self.codes else ():
            self._note_leaf(end, decided, beaten_by)
        bound = read_bound(steps)
        leaf, stop = self._leaf(steps if bound is None else steps[1:]), way_out(steps)
        if leaf is not None:
            self._note_leaf(name, leaf, bound)
        elif stop in self.stops or self._is_border(stop):
            self.outs[name] = steps[0].effects, stop
        return self._targets

    def _note_leaf(self, name: str, outcome: Outcome, bound: Bound | None) -> None:
        self.leaves.add(name)
        self.outs[name] = outcome
        if bound is not None:
            self.bounds[name] = bound

    def _leaf(self, steps: Sequence[RuleStep]) -> Outcome | None:
        """Return what these steps do to each packet before they return it with a code, and what the code stands for.

        Return None if they don't do that.
        """
        is_one = len(steps) == 1 and steps[0].is_plain and steps[0].verdict in (None, RETURN)
        return self._find_outcome(steps[0].effects) if is_one else None

    def _find_outcome(self, effects: Effects) -> Outcome | None:
        """Return all effects on a packet after these effects, its rank's leaf included, and what its code stands for.

        Return None if the packet has neither rank nor code.
        """
        last = effects[-1] if effects else None
        if not isinstance(last, SetPriority):
            return None
        code, led = self.codes.get(last.value), self.ranks.get(last.value)
        if led is not None:
            self.asked[last.value] = led
            return effects[:-1] + led[0], led[1]
        return None if code is None else (effects[:-1], code)

    def _steps(self, name: str) -> Iterator[RuleStep]:
        """Yield the steps of a chain, up to the first that takes every packet and doesn't return it.

        Rules that only have effects are joined with the next rule if that has no conditions.
        """
        done: Effects = ()
        for rule in self.table.chain[name].rules:
            step = self._read_step(self._drop_redundant_test(rule.statements))
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

    def _drop_redundant_test(self, statements: Sequence[Statement]) -> Sequence[Statement]:
        """Return a rule's statements without a test of the priority that changes nothing.

        It stands in front of a look-up by the priority, and holds for all keys of the map: where it fails, the look-up
        would find nothing.
        """
        match statements:
            case (Match() as test, MapPriority(asked, name) as look_up) if test.field is asked is PRIORITY:
                keys = self.table.elements_of(name) if name in self.table.map else ()
                is_redundant = all(not isinstance(key, tuple) and holds(test, key) for key in keys)
                return (look_up,) if is_redundant else statements
        return statements

    def _read_step(self, statements: Sequence[Statement]) -> RuleStep | None:
        """Return a rule as a step; one with a problem if nftables would refuse the rule."""
        try:
            return self._rule(statements)
        except MalformedError as error:
            return RuleStep(problem=str(error))

    def _rule(self, statements: Sequence[Statement]) -> RuleStep | None:
        """Return the rest of a rule as a step; None if it does nothing to such packets."""
        step = RuleStep()
        for index, statement in enumerate(statements):
            if isinstance(statement, Match | InSet):
                if not self._ask(step, statement):
                    return None
            elif isinstance(statement, Verdict):
                if statement.kind is VerdictKind.JUMP and statement.chain.startswith(APART):
                    return None
                self._decide(step, statement)
                return step
            elif isinstance(statement, VerdictMap):
                return step if self._look_up(step, statement) else None
            elif isinstance(statement, Unprovable):
                step.problem = UNPROVABLE[type(statement)]
                return step
            elif not isinstance(statement, SetTimeout):
                return self._do(step, statement, statements[index + 1 :])
            if step.problem:
                return step
        return None

    def _ask(self, step: RuleStep, asked: Match | InSet) -> bool:
        """Add a condition to the step. Return False if it certainly fails."""
        match = self._at_interface(step, asked) if isinstance(asked, InSet) else asked
        if match is None or not (match.ranges or match.negate):
            return bool(step.problem)
        if match.field is PRIORITY:
            step.ask(match)
            return True
        return all(self._test(step, part) for part in self.reading.parts(match))

    def _counter(self, step: RuleStep, asked: MapCount) -> Count | None:
        """Return the counter that the map holds for the field; None if there is none: then the rule goes no further."""
        entry, value = self.table.map.get(asked.name), self.reading.known.get(asked.field, LACKING)
        if entry is None or entry.holds is not KeyType.COUNTER or entry.lifetime:
            step.problem = f"{asked.name} is not a map that holds counters"
        elif asked.field not in self.reading.known:
            step.problem = f"it counts by {asked.field.name.lower()}, about which the proof knows nothing"
        elif value not in NO_KEYS:
            self.keys.add((asked.name, value))
            found = self._lookup(asked.name).get(value)
            return found if isinstance(found, Count) else None
        return None

    def _at_interface(self, step: RuleStep, asked: InSet) -> Match | None:
        """Return what a set asks of such packets, whose interface is known, as a match.

        Return None if no packet has an interface, or if there is a problem.
        """
        ifname, entry = self.reading.known.get(asked.interface, asked), self.table.map.get(asked.name)
        if not isinstance(ifname, str):
            step.problem = "" if ifname is LACKING else f"it looks up {asked.interface.name.lower()} in a set"
            return None
        if (
            entry is None
            or entry.holds is not KeyType.NOTHING
            or PAIRED.get(entry.key_type) is not asked.field.key_type
        ):
            step.problem = f"{asked.name} is not a set of {asked.field.name.lower()}"
            return None
        self.keys.add((asked.name, ifname))
        return Match(asked.field, self._lookup(asked.name).at(ifname), asked.negate, asked.mask)

    def _decide(self, step: RuleStep, verdict: Verdict) -> None:
        step.verdict = verdict
        if verdict.chain:
            self._targets.add(verdict.chain)

    def _do(self, step: RuleStep, statement: Effect | MapCount, rest: Sequence[Statement]) -> RuleStep | None:
        """Add an effect, and the rest of the rule, to the step. Return None if it does nothing to such packets."""
        if not isinstance(statement, MapCount):
            return self._affect(step, statement, rest)
        found = self._counter(step, statement)
        if found is None:
            return step if step.problem else None
        return self._affect(step, found, rest)

    def _affect(self, step: RuleStep, effect: Effect, rest: Sequence[Statement]) -> RuleStep | None:
        """Add an effect, and the rest of the rule, to the step.

        Return None if packets of this kind lack the field of a map.
        """
        if isinstance(effect, MapPriority) and self.reading.known.get(effect.field, effect.field) is LACKING:
            return None
        step.problem, step.effects = self._find_fault(effect, rest), (effect,)
        is_last = isinstance(effect, MapPriority) or (rest and isinstance(rest[0], Log))
        then = None if step.problem or is_last else self._rule(rest)
        if then is not None and then.is_plain:
            step.effects += then.effects
            step.verdict, step.then = then.verdict, then.then
        else:
            step.then = then
        return step

    def _find_fault(self, effect: Effect, rest: Sequence[Statement]) -> str:
        """Return what is wrong with an effect in front of the rest of its rule; "" if nothing is."""
        log = rest[0] if rest and isinstance(rest[0], Log) else None
        if isinstance(effect, MapPriority):
            self.maps.add(effect.name)
            return f"a rule goes on after map {effect.name}" if rest else self._find_map_fault(effect)
        if isinstance(effect, Count) and effect.counter not in self.table.counter:
            return f"there is no counter {effect.counter}"
        if log is not None and not isinstance(effect, Count):
            return UNPROVABLE[Log]
        if isinstance(effect, Count) and log is not None and (log.counter != effect.counter or len(rest) > 1):
            return f"a log names {log.counter} after {effect.counter}, or isn't the end of its rule"
        return ""

    def _find_map_fault(self, effect: MapPriority) -> str:
        """Return what is wrong with a map that gives packets a priority; "" if nothing is."""
        entry = self.table.map.get(effect.name)
        if entry is None or entry.holds is not KeyType.CLASSID or entry.lifetime:
            return f"{effect.name} is not a map that holds priorities"
        is_members = effect.field is self.reading.far and effect.name == self.reading.members
        return "" if effect.field is PRIORITY or is_members else f"{effect.name} isn't the map of members"

    def _test(self, step: RuleStep, match: Match) -> bool:
        """Add a match to the step. Return False if it certainly fails."""
        axis = self._axis.get(id(match.field))
        if axis is None:
            axis = self.reading.axis(match.field, match.mask)
        if axis is not None:
            self.cuts.setdefault(axis, []).extend(match.ranges)
            step.tests += (Test(axis, match.ranges, match.negate, match.mask, match.field in OF_PORTS),)
            return True
        if match.field in self.reading.known:
            if match.field.key_type is KeyType.IFNAME:
                self.names.add(match)
            return holds(match, self.reading.known[match.field])
        if match in self.reading.answers:
            return self.reading.answers[match]
        step.problem = f"it reads {match.field.name.lower()}, about which the proof knows nothing"
        return True

    def _look_up(self, step: RuleStep, vmap: VerdictMap) -> bool:
        """Add a look-up to the step. Return False if it certainly finds nothing."""
        if vmap.name and vmap.name not in self.table.map:
            step.problem = f"there is no map {vmap.name}"
        elif vmap.field is PRIORITY and vmap.name:
            step.numbers = vmap.name
        elif vmap.field in self.reading.known:
            value = self.reading.known[vmap.field]
            return value is not LACKING and value not in NO_KEYS and self._look_up_known(step, vmap, value)
        elif (axis := self._axis.get(id(vmap.field))) is None:
            step.problem = f"it looks up {vmap.field.name.lower()}, about which the proof knows nothing"
        else:
            step.groups, step.axis = group_by_verdict(near(self._entries(vmap), self.within.get(axis))), axis
            step.reads_port |= vmap.field in OF_PORTS
            self._targets.update(verdict.chain for verdict, _ in step.groups if verdict.chain)
            self.cuts.setdefault(axis, []).extend(item for _, ranges in step.groups for item in ranges)
            return bool(step.groups or axis not in self.within)
        return True

    def _look_up_known(self, step: RuleStep, vmap: VerdictMap, value: Key) -> bool:
        """Decide a look-up of a known value. Return False if it finds nothing."""
        found = self._element(vmap.name, value) if vmap.name else among(vmap, value)
        if found is not None:
            self._decide(step, found)
        return found is not None

    def _element(self, name: str, key: Key) -> Verdict | None:
        """Return the verdict of one key in a named map."""
        if self.table.map[name].lifetime:
            self.maps.add(name)
            return RETURN if key in self.reading.passing else None
        self.keys.add((name, key))
        value = self._lookup(name).get(key)
        return None if value is None else verdict_of(value, name)

    def look_up_number(self, name: str, value: int) -> Verdict | None:
        """Return the verdict of a priority in a named map."""
        self.keys.add((name, value))
        found = self._lookup(name).get(value)
        return found if isinstance(found, Verdict) else None

    def _entries(self, vmap: VerdictMap) -> Iterator[tuple[Range, Verdict]]:
        """Yield the ranges of a look-up with their verdicts."""
        if not vmap.name:
            yield from vmap.entries
            return
        self.maps.add(vmap.name)
        if self.table.map[vmap.name].lifetime:
            yield from ((Range.of(key), RETURN) for key in self.reading.passing)
            return
        for key, value in sorted(self._lookup(vmap.name).singles().items()):
            yield Range.of(key), verdict_of(value, vmap.name)

    def _lookup(self, name: str) -> Lookup:
        return self.lookups[name] if name in self.lookups else Lookup.of(self.table.map[name])
