"""The walk over sets of packets says what the interpreter says of each packet: over random tables of every statement.

Each table is tried out point by point first; then the walk must find it equal to these points, and, with one point
changed, must find exactly a set of packets that this point is in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from sgdataplane.contract.fields import CtDirection, Field, Hook, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft import interp, ir
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    RETURN,
    Chain,
    Count,
    InSet,
    Key,
    Map,
    MapCount,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPriority,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
    jump,
)
from sgdataplane.proof.spec.axes import LACKING, Span
from sgdataplane.proof.spec.order import BoxOrder
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.walk.priority import GroupSetAtom, Priorities
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.walk import Mismatch, State, Walk

SHARDS, TABLES = 4, 200
FAR, LOCAL, PRIORITY = Field.IP_SADDR, Field.IP_DADDR, Field.PACKET_PRIORITY
AXES = (Field.L4PROTO, LOCAL, Field.TH_SPORT, Field.TH_DPORT)
GROUP_SET = len(AXES)  # the axis of group sets
MEMBERS = {1: 5, 2: 9}  # group sets' numbers by far address
GROUP_SETS: list[GroupSetAtom] = [((), None), (("a",), 5), (("b",), 9)]  # of the far addresses 0, 1, 2
RANKS = {"r0": {5: 1, 0: 7}, "r1": {5: 2, 9: 2, 1: 9}}
VALUES = {
    Field.L4PROTO: (1, 6, 17),
    **dict.fromkeys(AXES[1:], (0, 1, 2)),
    PRIORITY: (0, 1, 2, 5, 9),
}
LASTS = (255, (1 << 32) - 1, 65_535, 65_535)
KNOWN: dict[Field, Key | None] = {
    Field.CT_DIRECTION: CtDirection.REPLY,
    Field.IP6_SADDR: LACKING,
    Field.IIFNAME: "eth0",
    Field.OIFNAME: LACKING,
}
COUNTS = (
    Map("counts", KeyType.NUMBER, ((int(CtDirection.REPLY), Count("y")),), holds=KeyType.COUNTER),
    Map("counts-none", KeyType.NUMBER, ((int(CtDirection.ORIGINAL), Count("x")),), holds=KeyType.COUNTER),
)
NAMES = ("base", "a", "b", "c", "d")
STOP = "stop"

Point = tuple[int, ...]


def random_table(chance: random.Random) -> Table:
    """Chains that lead to later ones only."""
    members = Map("members", KeyType.IPV4, tuple(MEMBERS.items()), holds=KeyType.CLASSID)
    ranks = [Map(name, KeyType.CLASSID, tuple(held.items()), holds=KeyType.CLASSID) for name, held in RANKS.items()]
    chains = []
    for index, name in enumerate(NAMES):
        later = (*NAMES[index + 1 :], STOP)
        rules = tuple(Rule(tuple(_statements(chance, later))) for _ in range(chance.randint(1, 4)))
        chains.append(Chain(name, rules, Hook("prerouting", 0) if name == "base" else None))
    chains.append(Chain(STOP, (Rule((DROP,)),)))
    pairs = tuple(
        ((value, name), MEMBER) for value in VALUES[LOCAL] for name in ("eth0", "eth1") if chance.random() < 0.4
    )
    own = Map("own", KeyType.IPV4_IFNAME, pairs, holds=KeyType.NOTHING)
    return Table("t", tuple(chains), (members, own, *ranks, *COUNTS), (ir.Counter("x"), ir.Counter("y")))


def _statements(chance: random.Random, later: tuple[str, ...]) -> Iterator[Statement]:
    """Tests, effects and tests again; in the end a verdict, a look-up or nothing. Ports mostly behind a protocol."""
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        yield from _tests(chance)
        if chance.random() < 0.3:
            yield Count(chance.choice("xy"))
        if chance.random() < 0.1:
            yield MapCount(chance.choice(tuple(KNOWN)), chance.choice(COUNTS).name)
        if chance.random() < 0.1:
            yield SetMark(0xFFFF0000, chance.randint(0, 3))
        if chance.random() < 0.15:
            yield SetPriority(chance.choice(VALUES[PRIORITY]))
    kind = chance.random()
    if kind < 0.5:
        yield _verdict(chance, later)
    elif kind < 0.7:
        yield from _look_up(chance, later)
    elif kind < 0.85:
        yield chance.choice((MapPriority(FAR, "members"), *(MapPriority(PRIORITY, name) for name in RANKS)))


def _tests(chance: random.Random) -> Iterator[Match | InSet]:
    if chance.random() < 0.15:
        interface = chance.choice((Field.IIFNAME, Field.IIFNAME, Field.OIFNAME))
        yield InSet(LOCAL, interface, "own", negate=chance.random() < 0.4)
        return
    asked = chance.choice((*AXES, PRIORITY, PRIORITY, Field.CT_DIRECTION, Field.IP6_SADDR))
    if asked in (Field.TH_SPORT, Field.TH_DPORT) and chance.random() < 0.9:
        yield Match(Field.L4PROTO, (Range.of(chance.choice((6, 17))),))
    values = VALUES.get(asked, (0, 1))
    yield Match(asked, tuple(_ranges(chance, values)), negate=chance.random() < 0.2)


def _ranges(chance: random.Random, values: tuple[int, ...]) -> Iterator[Range]:
    ends = sorted(chance.sample(values, chance.choice((1, 2, 2))))
    if len(ends) == 2 and chance.random() < 0.5:
        yield Range(ends[0], ends[1])
    else:
        yield from map(Range.of, ends)


def _look_up(chance: random.Random, later: tuple[str, ...]) -> Iterator[Statement]:
    asked = chance.choice(AXES)
    if asked in (Field.TH_SPORT, Field.TH_DPORT):
        yield Match(Field.L4PROTO, (Range.of(6),))
    yield VerdictMap(asked, tuple((item, _verdict(chance, later)) for item in _ranges(chance, VALUES[asked])))


def _verdict(chance: random.Random, later: tuple[str, ...]) -> Verdict:
    target = chance.choice(later)
    return chance.choice((goto(target), goto(target), goto(STOP), jump(target), ACCEPT, DROP, RETURN))


class _Recorder(interp._Walk):
    """Stops where the walk over sets stops, and says what was done."""

    stopped = False

    def __init__(self, table: Table, packet: dict[Field, Key]) -> None:
        super().__init__(table, packet, interp.PacketOutcome(VerdictKind.DROP, 0))
        self.done: list[Count | SetMark] = []

    def chain(self, name: str, depth: int) -> VerdictKind | None:
        self.stopped |= name == STOP
        return super().chain(name, depth)

    def _count(self, counter: str) -> None:
        self.done.append(Count(counter))

    def _set_mark(self, keep: int, value: int) -> None:
        self.done.append(SetMark(keep, value))


class _Walk(Walk):
    """Takes the priority that packets have in the end for a part of the outcome."""

    def _end(self, outcome: Outcome, state: State) -> None:
        effects, label = outcome
        assert isinstance(self.priorities, Priorities)
        view = self.priorities.view(effects)
        done = tuple(effect for effect in effects if not isinstance(effect, SetPriority | MapPriority))
        for value in set(view):
            group_sets = state.cell[GROUP_SET] & sum(1 << index for index, held in enumerate(view) if held == value)
            if group_sets:
                super()._end((done, f"{label} {value}"), state._replace(cell=(*state.cell[:GROUP_SET], group_sets)))


def outcome_of(table: Table, point: Point) -> Outcome | None:
    """By the interpreter; None: it can't be run."""
    packet: dict[Field, Key] = {Field.CT_DIRECTION: CtDirection.REPLY, Field.IIFNAME: "eth0", PRIORITY: 0}
    packet |= dict(zip((*AXES, FAR), point, strict=True))
    walk = _Recorder(table, packet)
    try:
        verdict = walk.chain("base", 0)
    except InternalError:
        return None
    label = STOP if walk.stopped else "end" if verdict is None else verdict.value
    return tuple(walk.done), f"{label} {packet[PRIORITY]}"


class Compared:
    """A table beside all its points."""

    def __init__(self, table: Table) -> None:
        asked: dict[tuple[Field, int | None], int] = {(name, None): index for index, name in enumerate(AXES)}
        self.program = Program(table, FieldReading(KNOWN, asked, FAR, "members"), {STOP: STOP})
        self.program.add("base")
        self.axes = [*(Span(last, self._cuts(axis)) for axis, last in enumerate(LASTS)), Span(2, range(3))]
        self.points: list[Point] = list(product(*(axis.starts for axis in self.axes)))
        self.table = table

    def _cuts(self, axis: int) -> set[int]:
        cuts = set(Span.cuts_of(self.program.cuts.get(axis, ())))
        return cuts | {6, 7, 17, 18} if axis == 0 else cuts

    def outcomes(self) -> list[Outcome | None]:
        return [outcome_of(self.table, point) for point in self.points]

    def region(self, point: Point) -> tuple[int, ...]:
        return tuple(1 << axis.starts.index(value) for axis, value in zip(self.axes, point, strict=True))

    def mismatch(self, outcomes: list[Outcome | None]) -> Mismatch | None:
        """What the walk finds, if each point must have that outcome. The most frequent one is said of everything, and
        weakest; so what has become of a point that must have it may depend on all that is stronger."""
        full = tuple(axis.full for axis in self.axes)
        usual = Counter(outcomes).most_common(1)[0][0]
        special = [n for n, outcome in enumerate(outcomes) if outcome != usual]
        regions = [*(self.region(self.points[n]) for n in special), full]
        order = BoxOrder(full, regions, [*(outcomes[n] for n in special), usual])
        priorities = Priorities(GROUP_SET, GROUP_SETS, self.table.elements_of, first=0)
        walk = _Walk(self.program, self.axes, order, self.axes[0].single(6) | self.axes[0].single(17), priorities)
        try:
            walk.check("base", full, order.all)
        except Mismatch as mismatch:
            return mismatch
        return None

    def are_in(self, mismatch: Mismatch) -> list[int]:
        """The points of a difference."""
        regions = (self.region(point) for point in self.points)
        return [n for n, region in enumerate(regions) if all(a & b for a, b in zip(region, mismatch.cell, strict=True))]


def check_right(compared: Compared) -> list[Outcome | None]:
    """The table equals its points; where one can't be run, the walk says so, and of such a one."""
    outcomes = compared.outcomes()
    mismatch = compared.mismatch(outcomes)
    if None in outcomes:
        assert mismatch is not None
        assert {outcomes[n] for n in compared.are_in(mismatch)} == {None}
    else:
        assert mismatch is None, (
            mismatch.problem,
            mismatch.outcome,
            [compared.points[n] for n in compared.are_in(mismatch)],
        )
    return outcomes


def check_wrong(compared: Compared, outcomes: list[Outcome | None], chance: random.Random) -> None:
    """One point must have another outcome: that one is found, and no other."""
    changed = chance.randrange(len(outcomes))
    others = [*outcomes[:changed], ((), "elsewhere"), *outcomes[changed + 1 :]]
    mismatch = compared.mismatch(others)
    assert mismatch is not None
    assert compared.are_in(mismatch) == [changed]
    assert mismatch.outcome == outcomes[changed]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_walk_equals_interpreter(shard: int) -> None:
    chance = random.Random(shard)
    runnable = 0
    for _ in range(TABLES):
        compared = Compared(random_table(chance))
        outcomes = check_right(compared)
        if None not in outcomes:
            check_wrong(compared, outcomes, chance)
            runnable += len(set(outcomes)) > 1
    print(f"seed {shard}: {runnable} tables of several outcomes")
    assert runnable > TABLES // 4, "hardly any table could be run: this proves nothing"
