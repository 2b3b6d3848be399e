"""No session passes by its mark that the policy in force refuses, whatever comes in whatever order: packets, also
those that write a mark long after they read it, new sessions, slices of a clearing, changes of some ENIs' policies and
of all, kills, applies of others, and others who take our stamp away. Nor is a session judged again without a reason.

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
from sgdataplane.model.state import Eni, SecurityGroup
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import apply
from tests.support.models.fakekernel import FakeKernel

MOST, SLICE, STEPS, IDLE = 3, 2, 1200, 0.95
SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))
EPOCHS = Epochs(HOST.marks.last_epoch)


PORTS = (22, 23, 24)
ENDS = ("end-a", "end-b", "end-c")
SLOTS = HOST.marks.slots(ENDS)
Policy = tuple[frozenset[int], ...]  # the ports that each ENI has open


def desired_of(policy: Policy) -> Desired:
    """Each ENI is in a group of its own."""
    groups: list[SecurityGroup] = []
    enis: list[Eni] = []
    for end, ports in zip(ENDS, policy, strict=True):
        rules = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{end}-{port}") for port in sorted(ports)]
        groups.append(make_group(f"sg-{end}", rules))
        enis.append(make_eni(f"eni-{end}", f"10.0.0.{1 + len(enis)}", f"sg-{end}"))
    return Desired(make_state(groups, enis), {f"eni-{end}": end for end in ENDS}, placement=Placement.HOST)


def end_of(session: int) -> int:
    """The number of the ENI whose session it is."""
    return session % len(ENDS)


def port_of(session: int) -> int:
    return PORTS[session // len(ENDS) % len(PORTS)]


@dataclass
class Table:
    """Sessions: the epoch in each mark, whose slot is that of its ENI. And packets that have read a mark, and write it
    again later."""

    marks: dict[int, int] = field(default_factory=dict)
    flying: list[tuple[int, int]] = field(default_factory=list)
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
            self.seen += 1
            if self.table.marks.get(session, 0) in self._values:
                self.cleared += 1
                self.table.marks[session] = 0
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
    kernel: FakeKernel = field(default_factory=lambda: FakeKernel(ENDS))
    table: Table = field(default_factory=Table)
    policy: Policy = (frozenset(PORTS),) * len(ENDS)
    before: Desired | None = None
    ageing: Ageing | None = None
    clearing: Clearing | None = None
    slices: Iterator[None] = field(default_factory=lambda: iter(()))
    cleared: ClearedEpochs | None = None
    waits: int = 0
    changes: int = 0
    rounds: int = 0
    passed: int = 0
    kept: int = 0

    @property
    def stamp(self) -> Stamp:
        return stamp_of(self.kernel.table(TABLE))

    def change(self) -> None:
        self._apply(
            self._another(),
            Clearance()
            if self.ageing is None and self.rng.random() < 0.5
            else Clearance.of(self.ageing, self.cleared, MOST),
        )

    def other(self) -> None:
        """Somebody's `sgdp apply`, of which the agent hears nothing; maybe very often."""
        known = self.ageing
        for _ in range(self.rng.choice([1, EPOCHS.last // 2, EPOCHS.last])):
            self._apply(self._another(), Clearance())
        self.ageing = known

    def _another(self) -> Policy:
        """One ENI opens or closes a port, or all do. The last one seldom does, so that its epoch gets old."""
        turned = self.rng.choices(((0,), (1,), (2,), (0, 1, 2)), (20, 10, 2, 1))[0]
        port = frozenset({self.rng.choice(PORTS)})
        return tuple(ports ^ port if number in turned else ports for number, ports in enumerate(self.policy))

    def _apply(self, policy: Policy, clearance: Clearance) -> None:
        held, desired = self.kernel.inventory(TABLE).stamp, desired_of(policy)
        is_known = self.before is not None and self.kernel.inventory(TABLE).is_untouched
        try:
            report = apply(self.kernel, Sessions("", HOST.marks, clearance), desired, self.before, Settings())
        except MarksError:
            self.waits += 1
            return
        assert report.ageing is not None
        assert report.ageing.stamp == self.kernel.inventory(TABLE).stamp
        self.ageing = report.ageing.after(clearance.ageing, EPOCHS)
        if held is not None and is_known and not held.is_unsettled:
            self._check_kept(held, policy)
        self.before, self.policy = desired, policy
        self.changes += 1
        self.rounds += self.stamp.epoch == 1

    def _check_kept(self, held: Stamp, policy: Policy) -> None:
        """An ENI of which nothing more is refused keeps its epoch while that may be."""
        before, after = held.epochs(SLOTS.values()), self.stamp.epochs(SLOTS.values())
        for end, old, new in zip(ENDS, self.policy, policy, strict=True):
            slot = SLOTS[end]
            is_kept = old <= new and EPOCHS.may_stay(before[slot], self.stamp.epoch)
            assert after[slot] == (before[slot] if is_kept else self.stamp.epoch)
            self.kept += is_kept and self.stamp.epoch != held.epoch

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
            self.table.marks[session] = dict(part.elements)[0]  # type: ignore[assignment]

    def new(self) -> None:
        if len(self.table.marks) < 12:
            self.table.marks[self.rng.randrange(1 << 30)] = 0

    def expire(self) -> None:
        if self.table.marks:
            self.table.marks.pop(self.rng.choice([*self.table.marks]))

    def packet(self) -> None:
        """It passes by its mark, or the policy in force judges it."""
        if not self.table.marks or self.kernel.inventory(TABLE).stamp is None:
            return
        session = self.rng.choice([*self.table.marks])
        if session & 1 << 20 and self.rng.random() < IDLE:
            return
        slot = SLOTS[ENDS[end_of(session)]]
        epoch, in_force = self.table.marks[session], self.stamp.epochs([slot])[slot]
        is_open = port_of(session) in self.policy[end_of(session)]
        if epoch != in_force:
            self.table.marks[session] = in_force if is_open else 0
        elif not self.stamp.is_unsettled:
            assert is_open, f"a session of epoch {epoch} passes, and its port is closed"
            self.passed += 1

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
    "packet": 50,
    "read": 5,
    "land": 1,
    "new": 4,
    "expire": 0.4,
    "kill": 0.3,
    "other": 0.3,
    "wipe": 0.1,
}


@pytest.mark.parametrize(
    "seed",
    [SEED, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEED + 1, SEED + 60))],
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
    print(
        f"{life.changes} changes, {life.rounds} rounds, {life.waits} changes had to wait, {life.table.passes} passes, "
        f"{life.passed} packets by their mark, {life.kept} epochs kept"
    )
    assert min(life.changes, life.passed, life.kept) > 20
