"""Use a proven interface's fixed part as a template for ENIs that differ only in what is their own.

Owns the comparison of another interface with it. It is given tables, and what the clauses say of one ENI alone
(fixed.py: Own). It must not know rules, or how a table was compiled.

Clauses and chains ask of a packet's address only in which of their sets it lies. The one interface, which is proven,
and the other are alike if

- their chains read the same, statement by statement, but for sets of addresses, and with the one ENI's slot, counters
  and interface where the other one's are;
- each set of the one stands for one set of the other, in clauses and chains alike;
- each combination of sets in which an address can lie at the other is one of the combinations at the one.

Then for each packet at the other there is a packet at the one for which all clauses and rules hold alike. So what was
proven for the one holds for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sgdataplane.contract.fields import PAIRED, Field, KeyType
from sgdataplane.contract.priority import CODES
from sgdataplane.contract.tables import PROFILES, WINNERS
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Exceeds,
    InSet,
    Key,
    Log,
    MapCount,
    Match,
    Rule,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from sgdataplane.proof.reuse.proven import ProvenGate, Roots, judging
from sgdataplane.proof.spec.axes import MalformedError, holds, name_patterns, patterns
from sgdataplane.proof.spec.claims import Ranges
from sgdataplane.proof.spec.fixed import EVERY_END, LAST, Common, Own, ends_at, find_renamings
from sgdataplane.proof.walk.step import APART
from sgdataplane.proof.walk.structure import INTERFACES, Paired, Structure, map_value

BY_NUMBER = (PROFILES, WINNERS)  # the maps in which the base chain looks up a priority, in this order


class Unlike(Exception):  # noqa: N818  # control flow of the comparison, not an error of ours
    """The interfaces aren't alike, or it can't be told here."""


def require(is_alike: bool) -> None:
    """Go on only if this holds.

    Raises:
        Unlike: It doesn't hold.
    """
    if not is_alike:
        raise Unlike


@dataclass(frozen=True)
class Template:
    """A proven interface, as a template for others."""

    common: Common
    """What the clauses say of all ENIs alike."""
    own: Own
    """What is its ENI's own."""
    chains: Mapping[str, Chain]
    """The chains of its fixed part."""
    values: Mapping[str, object]
    """What each map has for its name."""
    roots: Roots
    """The chains where its rules begin."""
    profiles: Mapping[int, str] = field(default_factory=dict)
    """The root that each number of a profile leads to."""
    patterns: Mapping[Field, tuple[tuple[Ranges, ...], frozenset[int]]] = field(default_factory=dict)
    """By field, the sets of addresses that are asked for, and the combinations in which an address can lie."""

    @classmethod
    def of(cls, common: Common, own: Own, gate: ProvenGate, structure: Structure) -> Template | None:
        """Make a template of a proven interface; None if the interface is of a kind that can't be one."""
        table = structure.table
        by_interface = (e.name for e in table.maps if e.key_type is KeyType.IFNAME or e.key_type in PAIRED)
        values = {name: map_value(structure, name, own.ifname) for name in by_interface}
        made = cls(common, own, table.chain, values, gate.roots, dict(_profiles(table)))
        try:
            reading = _Reading(made, structure, own)
            found = {a: (tuple(s), patterns(s, LAST[a.key_type])) for a, s in reading.sets.items()}
            return replace(made, chains={name: table.chain[name] for name in reading.chains}, patterns=found)
        except (Unlike, MalformedError):
            return None

    def put_in(self, structure: Structure, own: Own, basis: object) -> ProvenGate | None:
        """Return the proven fixed part of another interface if it is alike; None if it isn't.

        `own` and `basis` are those of that interface.
        """
        try:
            return _Reading(self, structure, own).gate(basis)
        except (Unlike, MalformedError):
            return None

    @cached_property
    def own_sets(self) -> dict[Field, tuple[Ranges, ...]]:
        """The sets of its ENI's addresses, by field."""
        return self.common.sets(self.own)

    @cached_property
    def seen(self) -> dict[tuple[Direction, str], _Seen]:
        """What was seen of chains that tables have as common objects, by hook and name."""
        return {}


@dataclass
class _Seen:
    """What two chains show, read side by side."""

    sets: list[tuple[Field, Ranges, Ranges]] = field(default_factory=list)
    """Sets of addresses: the field, the one's, the other's."""
    names: set[tuple[Ranges, Ranges]] = field(default_factory=set)
    """Sets of interface names: the one's and the other's."""
    values: set[tuple[int, int, int]] = field(default_factory=set)
    """Values of marks: the mask, the one's, the other's."""
    counters: set[str] = field(default_factory=set)
    """The other's counters."""
    ways: list[tuple[str, str]] = field(default_factory=list)
    """The pairs of chains that they lead to."""


class _Reading:
    """Reads the chains of two interfaces side by side: `one` is the template's, `other` the other interface's.

    Attributes:
        sets: By field, the other's set of addresses for each of the one's.
        chains: The other's chains that were read.
    """

    def __init__(self, template: Template, structure: Structure, own: Own) -> None:
        self.sets: dict[Field, dict[Ranges, Ranges]] = {}
        self.chains: set[str] = set()
        self._template, self._structure, self._own = template, structure, own
        self._seen = self._all = _Seen()
        self._is_same_name = (template.own.ifname, template.own.slot) == (own.ifname, own.slot)
        self._roots: dict[str, str] = {}
        self._maps: set[str] = set()
        self._keys: dict[tuple[str, Key], object] = {}
        self._effects, self._marks = find_renamings(template.common, template.own, own)
        for (mask, one), other in self._marks.items():
            self._part(mask or 0, int(one.first), int(other.first))
        for asked, sets in template.common.sets(own).items():
            for mine, others in zip(template.own_sets[asked], sets, strict=True):
                self._set(asked, mine, others)
        for asked, ranges in template.common.constants:
            self._set(asked, ranges, ranges)
        for code in CODES.values():
            self._number(code, code)
        for hook in Direction:
            self._read(hook)

    def gate(self, basis: object) -> ProvenGate:
        """Return the proven fixed part of the other interface.

        Raises:
            Unlike: An address there can lie where none can at the template's.
        """
        template = self._template
        require(self.sets.keys() == template.patterns.keys())
        for asked, (sets, possible) in template.patterns.items():
            others = self.sets[asked]
            require(others.keys() == set(sets))
            require(patterns([others[ranges] for ranges in sets], LAST[asked.key_type]) <= possible)
        require(self._are_names_alike() and self._are_marks_alike())
        roots = {at: frozenset(self._roots[name] for name in names) for at, names in template.roots.items()}
        return ProvenGate(basis, frozenset(self.chains), frozenset(self._maps), self._keys, roots)

    def _are_names_alike(self) -> bool:
        one, other = (name_patterns([pair[i] for pair in self._all.names]) for i in (0, 1))
        return other <= one

    def _are_marks_alike(self) -> bool:
        """Return whether the values of each part of the mark stand for each other one by one, and 0 for 0."""
        pairs = self._all.values | {(mask, 0, 0) for mask, _, _ in self._all.values}
        return len(pairs) == len({pair[:2] for pair in pairs}) == len({pair[::2] for pair in pairs})

    def _read(self, hook: Direction) -> None:
        """Read all pairs of chains at a hook, from the base chain and the chains that carry verdicts out."""
        begins = [(hook.value, hook.value), *((name, name) for name in ends_at(hook))]
        done, waiting = set(begins), begins
        for one, other in waiting:  # grows on the way
            for pair in self._read_chains(hook, one, other):
                if pair not in done and not self._is_stop(*pair):
                    done.add(pair)
                    waiting.append(pair)

    def _is_stop(self, one: str, other: str) -> bool:
        """Return whether the way through the fixed part ends there, as it must at both interfaces or at none."""
        if one in EVERY_END or other in EVERY_END:
            require(one == other)
            return True
        side = judging(one)
        require(judging(other) is side)
        if side is not None:
            require(self._roots.setdefault(one, other) == other)
        return side is not None

    def _read_chains(self, hook: Direction, one: str, other: str) -> list[tuple[str, str]]:
        """Read two chains. Return the pairs of chains that they lead to."""
        mine, others = self._template.chains.get(one), self._structure.table.chain.get(other)
        if mine is None or others is None:
            raise Unlike
        self.chains.add(other)
        is_common = mine is others and self._is_same_name and not (mine.ways.maps or mine.ways.priorities)
        seen = self._template.seen.get((hook, one)) if is_common else None
        if seen is None:
            seen = self._seen = _Seen()
            self._read_rules(hook, mine.rules, others.rules)
            if is_common:
                self._template.seen[hook, one] = seen
        self._note(seen)
        return seen.ways

    def _note(self, seen: _Seen) -> None:
        for asked, mine, others in seen.sets:
            self._set(asked, mine, others)
        require(seen.counters <= self._structure.table.counter.keys())
        self._all.names |= seen.names
        self._all.values |= seen.values

    def _read_rules(self, hook: Direction, one: Sequence[Rule], other: Sequence[Rule]) -> None:
        for number, rule in enumerate(one):
            require(number < len(other))
            if self._read_rule(hook, rule, other[number]):
                return
        require(len(one) == len(other))

    def _read_rule(self, hook: Direction, one: Rule, other: Rule) -> bool:
        """Read two rules. Return whether no packet goes on to the next one."""
        require(len(one.statements) == len(other.statements))
        is_certain = True
        for mine, others in zip(one.statements, other.statements, strict=True):
            if isinstance(mine, Match) and isinstance(others, Match):
                result = self._match(hook, mine, others)
                if result is False:
                    return False
                is_certain = is_certain and result is True
            elif isinstance(mine, InSet) and isinstance(others, InSet):
                self._read_sets(hook, mine, others)
                is_certain = False
            elif isinstance(mine, VerdictMap) and isinstance(others, VerdictMap):
                found = self._look_up(hook, mine, others)
                return found is not None and self._read_verdicts(*found) and is_certain
            elif isinstance(mine, MapCount) and isinstance(others, MapCount):
                if not self._read_counts(hook, mine, others):
                    return False
            elif isinstance(mine, Verdict) and isinstance(others, Verdict):
                return self._read_verdicts(mine, others) and is_certain
            else:
                self._read_effects(mine, others)
        return False

    def _match(self, hook: Direction, one: Match, other: Match) -> bool | None:
        """Read two matches. Return whether they certainly hold, or certainly don't; None if that depends."""
        asked, ranges = one.field, (one.ranges, other.ranges)
        require(other.field is asked and (one.negate, one.mask) == (other.negate, other.mask))
        if asked in INTERFACES:
            return self._read_interfaces(hook, one, other)
        if asked.key_type in LAST:
            require(one.mask is None)
            self._seen.sets.append((asked, *ranges))
        elif asked is Field.CT_MARK:
            self._mark(one, other)
        else:
            require(ranges[0] is ranges[1] or ranges[0] == ranges[1])
        return None

    def _read_sets(self, hook: Direction, one: InSet, other: InSet) -> None:
        """Read two look-ups in a set, as matches on what it has for the two interfaces."""
        require(one == other and one.interface is self._template.common.site.interface(hook))
        mine, others = self._template.values.get(one.name), self._read_other(one.name)
        if not (isinstance(mine, Paired) and isinstance(others, Paired)):
            raise Unlike
        self._match(hook, *(Match(one.field, found.values, one.negate, one.mask) for found in (mine, others)))

    def _read_interfaces(self, hook: Direction, one: Match, other: Match) -> bool | None:
        """Read two matches on names of interfaces. Return the same as _match().

        Where a packet comes in, its outgoing interface isn't known yet.
        """
        site = self._template.common.site
        if one.field is site.interface(hook):
            result = holds(one, self._template.own.ifname)
            require(holds(other, self._own.ifname) == result)
            return result
        if not site.is_leaving(hook):
            return False
        self._seen.names.add((one.ranges, other.ranges))
        return None

    def _look_up(self, hook: Direction, one: VerdictMap, other: VerdictMap) -> tuple[Verdict, Verdict] | None:
        """Return the verdicts that maps of interfaces have for the two; None if they have none, or none that stays.

        Where priorities lead was read where they are written.
        """
        if one.name in BY_NUMBER:
            require(one == other and one.field is Field.PACKET_PRIORITY)
            return None
        mine, others, stays = self._read_maps(hook, one, other)
        if mine is None or others is None or not stays:
            return None
        require(isinstance(mine, Verdict) and isinstance(others, Verdict))
        assert isinstance(mine, Verdict)
        assert isinstance(others, Verdict)
        return mine, others

    def _read_counts(self, hook: Direction, one: MapCount, other: MapCount) -> bool:
        """Read two counts by interface. Return whether the rule goes on."""
        mine, others, stays = self._read_maps(hook, one, other)
        if mine is None or others is None:
            return False
        require(isinstance(mine, Count) and isinstance(others, Count) and stays)
        assert isinstance(mine, Count)
        assert isinstance(others, Count)
        self._read_effects(mine, others)
        return True

    def _read_maps(
        self, hook: Direction, one: VerdictMap | MapCount, other: VerdictMap | MapCount
    ) -> tuple[object, object, bool]:
        """Return what maps of interfaces hold for the two, and whether that stays. Both have something, or none has."""
        site, name = self._template.common.site, one.name
        require(one == other and one.field in INTERFACES)  # pairs are asked in chains that are checked apart
        if one.field is not site.interface(hook):
            require(not site.is_leaving(hook))
            return None, None, True
        (mine, stays), (others, stay) = (
            _element(found) for found in (self._template.values.get(name), self._read_other(name))
        )
        require(stays == stay and (mine is None) == (others is None))
        return mine, others, stays

    def _read_other(self, name: str) -> object:
        """Return what a map says of the other interface, and note that it was read."""
        asked = name, self._own.ifname
        found = map_value(self._structure, *asked)
        if found is not None and self._structure.table.map[name].lifetime:
            self._maps.add(name)
        else:
            self._keys[asked] = found
        return found

    def _read_verdicts(self, one: Verdict, other: Verdict) -> bool:
        """Read two verdicts. Return whether no packet comes back."""
        require(one.kind is other.kind)
        if one.chain:
            is_apart = one.chain.startswith(APART)
            require(other.chain.startswith(APART) == is_apart)
            if not (is_apart and one.kind is VerdictKind.JUMP):  # a jump there is checked apart
                self._seen.ways.append((one.chain, other.chain))
        return one.kind is not VerdictKind.JUMP

    def _read_effects(self, one: Statement, other: Statement) -> None:
        """Read two effects, which must be the same but for what is an ENI's own."""
        require(type(one) is type(other))
        if isinstance(one, Log) and isinstance(other, Log):
            self._read_effects(Count(one.counter), Count(other.counter))
        elif isinstance(one, SetPriority) and isinstance(other, SetPriority):
            self._number(one.value, other.value)
        elif isinstance(one, Count | SetMark | SetPacketMark):
            require(self._effects.get(one, one) == other)
            if isinstance(other, Count):
                self._seen.counters.add(other.counter)
        else:
            require(isinstance(one, SetTimeout) or (isinstance(one, Exceeds) and one == other))

    def _number(self, one: int, other: int) -> None:
        """Read two priorities. They are the same, or both stand for a profile that the base chain looks up."""
        root, others = self._template.profiles.get(one), self._leads(other)
        require((root is None) == (others is None) and (one == other or root is not None))
        if root is not None and others is not None:
            self._seen.ways.append((root, others))

    def _leads(self, number: int) -> str | None:
        """Return the chain that the base chain leads to with that priority; None if to none."""
        for name in BY_NUMBER:
            found = map_value(self._structure, name, number)
            self._keys[name, number] = found
            verdict = _element(found)[0]
            if isinstance(verdict, Verdict):
                require(name == PROFILES and verdict.kind is VerdictKind.JUMP)
                return verdict.chain
        return None

    def _set(self, asked: Field, one: Ranges, other: Ranges) -> None:
        """Note which set of addresses stands for which. Each must always stand for the same one."""
        require(self.sets.setdefault(asked, {}).setdefault(one, other) == other)

    def _mark(self, one: Match, other: Match) -> None:
        """Read two matches on marks. The other ENI's slot stands where the one's does; all else is the same."""
        require(len(one.ranges) == len(other.ranges))
        for mine, others in zip(one.ranges, other.ranges, strict=True):
            require(others == self._marks.get((one.mask, mine), mine))
            require(mine == others or len(one.ranges) == 1)
            self._part(one.mask or 0, int(mine.first), int(others.first))

    def _part(self, mask: int, one: int, other: int) -> None:
        """Note which values stand for each other in each part of the mark."""
        marks = self._template.common.site.marks
        for part in (of(side) & mask for side in Direction for of in (marks.epoch_mask, marks.slot_mask)):
            if part:
                self._seen.values.add((part, one & part, other & part))


def _profiles(table: Table) -> Iterator[tuple[int, str]]:
    for number, verdict in table.elements_of(PROFILES).items() if PROFILES in table.map else ():
        if isinstance(number, int) and isinstance(verdict, Verdict):
            yield number, verdict.chain


def _element(found: object) -> tuple[object, bool]:
    """Return what a map holds for a name, and whether that stays.

    Raises:
        Unlike: There is no such map.
    """
    if not isinstance(found, tuple):
        raise Unlike
    value, lifetime = found
    return value, not lifetime
