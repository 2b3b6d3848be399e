"""No session that another policy accepted passes by its mark, whatever comes in whatever order: packets, also those
that write a mark long after they read it, new sessions, slices of a clearing, changes, kills, applies of others, and
others who take our stamp away.

The kernel's tables and sessions are in memory; what is tested is `apply`, and how epochs are chosen and cleared."""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Self

import pytest

from sgdataplane.contract.sites import HOST
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Ageing, Clearance, ClearedEpochs, Clearing, Epochs, KernelSessions, Settings
from sgdataplane.enforce.clearing import at
from sgdataplane.enforce.desired import Desired
from sgdataplane.errors import MarksError
from sgdataplane.host import quiet
from sgdataplane.model.options import Placement
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.builders import make_eni, make_group, make_state
from tests.support.building import apply
from tests.support.fakekernel import FakeKernel

MOST, SLICE, STEPS, IDLE = 3, 2, 900, 0.95
SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))
EPOCHS = Epochs(HOST.marks.last_epoch)


def policy(port: int) -> Desired:
    state = make_state(
        [make_group("sg-a", [f"ingress tcp {port}/{port} from 0.0.0.0/0"])], [make_eni("eni-a", "10.0.0.1", "sg-a")]
    )
    return Desired(state, {"eni-a": "end-a"}, placement=Placement.HOST)


POLICIES = [policy(port) for port in (22, 23, 24)]


@dataclass
class Table:
    """Sessions: the epoch in each mark, and the number of the policy that accepted it; packets that have read a mark,
    and write it again later. `number`: of the policy in force."""

    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    flying: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    passes: int = 0

    def settle(self) -> None:
        while self.flying:
            self.land()

    def land(self) -> None:
        session, mark = self.flying.pop(0)
        if session in self.marks:
            self.marks[session] = mark


class Pass:
    """As MarkPass, on that table."""

    table: Table

    def __init__(self, fields: object, values: Collection[int]) -> None:  # noqa: ARG002
        self.seen = self.cleared = 0
        self.is_endless = False
        self._values, self._left = values, [*self.table.marks]
        self.table.passes += 1

    def step(self) -> bool:
        some, self._left = self._left[:SLICE], self._left[SLICE:]
        for session in some:
            epoch, number = self.table.marks.get(session, (0, 0))
            self.seen += 1
            if epoch in self._values:
                self.cleared += 1
                self.table.marks[session] = 0, number
        return bool(some)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Sessions(KernelSessions):
    def count(self) -> int:
        return len(Pass.table.marks)


@dataclass
class Life:
    rng: random.Random
    kernel: FakeKernel = field(default_factory=lambda: FakeKernel(["end-a"]))
    table: Table = field(default_factory=Table)
    number: int = 0
    before: Desired | None = None
    ageing: Ageing | None = None
    clearing: Clearing | None = None
    slices: Iterator[None] = field(default_factory=lambda: iter(()))
    cleared: ClearedEpochs | None = None
    waits: int = 0
    rounds: int = 0

    @property
    def stamp(self) -> Stamp:
        return stamp_of(self.kernel.table(TABLE))

    def change(self) -> None:
        self._apply(
            self.rng.choice(POLICIES),
            Clearance()
            if self.ageing is None and self.rng.random() < 0.5
            else Clearance.of(self.ageing, self.cleared, MOST),
        )

    def other(self) -> None:
        """Somebody's `sgdp apply`, of which the agent hears nothing; maybe very often."""
        known = self.ageing
        for _ in range(self.rng.choice([1, EPOCHS.last // 2, EPOCHS.last])):
            self._apply(self.rng.choice(POLICIES), Clearance())
        self.ageing = known

    def _apply(self, desired: Desired, clearance: Clearance) -> None:
        held = self.kernel.inventory(TABLE).stamp
        try:
            report = apply(self.kernel, Sessions("", HOST.marks, clearance), desired, self.before, Settings())
        except MarksError:
            self.waits += 1
            return
        assert report.ageing is not None
        assert report.ageing.stamp == self.kernel.inventory(TABLE).stamp
        self.before, self.ageing = desired, report.ageing.after(clearance.ageing, EPOCHS)
        self.number += held is None or (held.epoch, held.is_unsettled) != (self.stamp.epoch, self.stamp.is_unsettled)
        self.rounds += self.stamp.epoch == 1

    def slice(self) -> None:
        if self.clearing is None:
            due = frozenset() if self.ageing is None else frozenset(EPOCHS.due(self.ageing.stamp))
            if due and self.ageing is not None:
                self.clearing, self._since = Clearing(at(""), HOST.marks, due), self.ageing.since
                self.slices = self.clearing.slices()
            return
        if next(self.slices, self) is self:
            if self.clearing.is_clear:
                self.cleared = ClearedEpochs(self._since, frozenset(self.clearing.epochs))
            self.clearing = None

    def kill(self) -> None:
        self.before = self.ageing = self.clearing = self.cleared = None

    def wipe(self) -> None:
        """Root of a workload's namespace takes the stamp away; what its rules accept then has any number."""
        stamp = self.kernel.table(TABLE).map[STAMP_MAP]
        part = replace(stamp, elements=stamp.elements[:1])
        self.kernel.run(Transaction(TABLE, (Operation(Verb.DELETE, Kind.ELEMENTS, part),)))
        for session in self.rng.sample([*self.table.marks], len(self.table.marks) // 2):
            self.table.marks[session] = dict(part.elements)[0], -1  # type: ignore[assignment]

    def new(self) -> None:
        if len(self.table.marks) < 12:
            self.table.marks[self.rng.randrange(1 << 30)] = 0, -1

    def expire(self) -> None:
        if self.table.marks:
            self.table.marks.pop(self.rng.choice([*self.table.marks]))

    def packet(self) -> None:
        """It passes by its mark, or the policy in force accepts it; its mark may be written later."""
        if not self.table.marks or self.kernel.inventory(TABLE).stamp is None:
            return
        session = self.rng.choice([*self.table.marks])
        if session % 2 and self.rng.random() < IDLE:
            return
        stamp, (epoch, number) = self.stamp, self.table.marks[session]
        if epoch == stamp.epoch and not stamp.is_unsettled:
            assert number == self.number, f"epoch {epoch}: accepted by policy {number}, in force is {self.number}"
        elif epoch != stamp.epoch:
            mark = stamp.epoch, self.number
            self.table.marks[session] = mark

    def read(self) -> None:
        """Another packet writes the other half of the mark: what it read of this half comes back with it."""
        if self.table.marks:
            session = self.rng.choice([*self.table.marks])
            self.table.flying.append((session, self.table.marks[session]))

    def land(self) -> None:
        if self.table.flying:
            self.table.land()


WEIGHTS = {
    "change": 6,
    "slice": 12,
    "packet": 12,
    "read": 8,
    "land": 1,
    "new": 4,
    "expire": 0.4,
    "kill": 0.3,
    "other": 0.3,
    "wipe": 0.1,
}


@pytest.mark.parametrize(
    "seed",
    [*range(SEED, SEED + 3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEED + 3, SEED + 60))],
)
def test_no_session_passes_by_a_mark_that_another_policy_gave(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(random.Random(seed))
    monkeypatch.setattr(Pass, "table", life.table, raising=False)
    monkeypatch.setattr("sgdataplane.enforce.clearing.MarkPass", Pass)
    monkeypatch.setattr("sgdataplane.enforce.clearing.count_tracked", lambda: len(life.table.marks))
    monkeypatch.setattr("sgdataplane.host.netns.inside", lambda _: nullcontext())
    monkeypatch.setattr(quiet, "wait", life.table.settle)
    monkeypatch.setattr(life.kernel, "settle", life.table.settle)
    life.change()
    for step in random.Random(seed).choices([*WEIGHTS], [*WEIGHTS.values()], k=STEPS):
        if life.kernel.inventory(TABLE).stamp is None and step in ("wipe", "packet"):
            continue
        getattr(life, step)()
    print(f"{life.number} epochs, {life.rounds} rounds, {life.waits} changes had to wait, {life.table.passes} passes")
    assert life.number > 20
