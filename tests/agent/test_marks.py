"""Clearing old marks delays nobody else: two VPCs on a host, one with very many sessions, and changes that use up its
epochs."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from sgdataplane.contract.sites import HOST, INSTANCE
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Epochs
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.inputs.builders import make_rule
from tests.support.kernel.conntrack import fill_many, marks_of
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import ROUTER, state_of, with_second_vpc

pytestmark = pytest.mark.daemon
LAST = HOST.marks.last_epoch
MIDDLE = Epochs(LAST).second_half
MANY = 6000  # more than an apply looks through itself


@pytest.fixture
def bench(host_bench: Bench) -> Bench:
    return host_bench


@dataclass
class Host:
    """eni-a is in the VPC with many sessions, eni-b in the other one. Each has a rule that says which change it is."""

    agent: AgentBench
    near: int = 0
    far: int = 0

    def state(self) -> CloudState:
        state = with_second_vpc(state_of(), "eni-b")
        steps = {"sg-a": self.near, "sg-b-two": self.far}
        groups = [
            replace(group, rules=(make_rule(f"ingress udp {port}/{port} from 192.0.2.0/24", f"sgr-{port}"),))
            if (port := 1000 + steps.get(group.security_group_id, -1)) >= 1000
            else group
            for group in state.security_groups
        ]
        return replace(state, security_groups=tuple(groups))

    def epochs(self) -> dict[str, int]:
        return {eni["eni"]: eni["epoch"] for eni in self.agent.status()["enis"]}

    def change(self, *, near: bool = False, far: bool = False) -> None:
        """Write it, and wait until it is in force in those VPCs."""
        before = self.epochs()
        self.near, self.far = self.near + near, self.far + far
        self.agent.write(self.state())
        changed = [eni for eni, is_changed in (("eni-a", near), ("eni-b", far)) if is_changed]
        wait_until(lambda: all(self.epochs()[eni] != before[eni] for eni in changed))
        assert {eni: self.epochs()[eni] for eni in changed} == {eni: before[eni] % LAST + 1 for eni in changed}


@contextmanager
def hosting(bench: Bench, folder: Path) -> Iterator[Host]:
    assert bench.registry.load()
    with agent_in(folder) as agent:
        host = Host(agent)
        agent.configure(placement="host", log_level="debug", adoption_window=0)
        agent.write(host.state())
        agent.start()
        assert set(agent.outcomes().values()) == {"in force"}
        yield host


def accepted(epoch: int) -> int:
    """A mark that both sides have accepted in that epoch, for no ENI of ours."""
    return sum(HOST.marks.encode_acceptance(side, epoch, 2047) for side in Direction)


def carried(namespace: str) -> set[int]:
    """The epochs that sessions carry there."""
    return {HOST.marks.parts(side, mark)[0] for mark in marks_of(namespace) for side in Direction} - {0}


@pytest.mark.parametrize("many", [MANY, pytest.param(200_000, marks=pytest.mark.slow)])
def test_old_epochs_are_cleared_before_they_are_needed_and_nobody_waits(
    bench: Bench, tmp_path: Path, many: int
) -> None:
    with hosting(bench, tmp_path) as host:
        fill_many(ROUTER, many, mark=accepted(LAST - 1))
        assert carried(ROUTER) == {LAST - 1}
        while host.epochs()["eni-a"] < MIDDLE - 1:
            host.change(near=True)
        wait_until(lambda: LAST - 1 not in carried(ROUTER))
        host.agent.wait_for_event("marks-cleared", 1)
        host.change(near=True, far=True)
        assert host.epochs()["eni-a"] == MIDDLE
        assert host.agent.events("marks-not-cleared") == []
        assert not any("refused" in line for line in host.agent.log.read_text("utf-8").splitlines())
        assert len(marks_of(ROUTER)) >= many, "no session is lost"


@pytest.mark.slow
def test_another_vpc_changes_meanwhile(bench: Bench, tmp_path: Path) -> None:
    """While 100,000 sessions are cleared, and afterwards; prints the medians."""

    def took() -> float:
        began = time.monotonic()
        host.change(far=True)
        return time.monotonic() - began

    with hosting(bench, tmp_path) as host:
        while host.epochs()["eni-a"] < MIDDLE // 2 - 1:
            host.change(near=True)
        fill_many(ROUTER, 100_000, mark=accepted(LAST - 1))
        host.change(near=True)
        during = []
        while not any(f"={ROUTER} " in line for line in host.agent.events("marks-cleared")):
            during.append(took())
        after = [took() for _ in during]
        print(f"{len(during)} changes during it, ms: {1000 * statistics.median(during):.0f}, at most", end=" ")
        print(f"{1000 * max(during):.0f}; afterwards {1000 * statistics.median(after):.0f}, {1000 * max(after):.0f}")
        assert len(during) > 1
        assert not carried(ROUTER) & {LAST - 1}


def test_change_that_comes_before_they_are_cleared_waits_and_only_there(bench: Bench, tmp_path: Path) -> None:
    """An agent that has just started finds the last epoch of a half, many sessions, and a new state for both VPCs."""
    with hosting(bench, tmp_path) as host:
        while host.epochs()["eni-a"] < MIDDLE - 1:
            host.change(near=True)
        far = host.epochs()["eni-b"]
        assert host.agent.end() == 0
        fill_many(ROUTER, MANY, mark=accepted(MIDDLE))
        host.near, host.far = host.near + 1, host.far + 1
        host.agent.write(host.state())
        host.agent.start()
        waiting = [line for line in host.agent.log.read_text("utf-8").splitlines() if f"from {MANY:,} sessions" in line]
        assert waiting, "it is told"
        assert host.epochs()["eni-b"] == far + 1
        wait_until(lambda: host.agent.outcomes() == {"eni-a": "in force", "eni-b": "in force"})
        assert host.epochs() == {"eni-a": MIDDLE, "eni-b": far + 1}
        assert (carried(ROUTER), len(marks_of(ROUTER))) == (set(), MANY)
        assert "turn" in {cause for causes in host.agent.causes() for cause in causes}


def test_agent_that_is_killed_while_it_clears_does_it_again(bench: Bench, tmp_path: Path) -> None:
    with hosting(bench, tmp_path) as host:
        while host.epochs()["eni-a"] < MIDDLE - 1:
            host.change(near=True)
        assert host.agent.end() == 0
        fill_many(ROUTER, 5 * MANY, mark=accepted(MIDDLE))
        host.near += 1
        host.agent.write(host.state())
        for times in range(1, 4):
            host.agent.launch()
            wait_until(partial(was_told, host, times))
            host.agent.end(signal.SIGKILL)
            if epoch_in(ROUTER) == MIDDLE:
                break
        print(f"killed {times} times; {len(marks_of(ROUTER)) - marks_of(ROUTER).count(0)} sessions left")
        assert epoch_in(ROUTER) == MIDDLE - 1 or carried(ROUTER) == set()
        host.agent.start()
        wait_until(lambda: set(host.agent.outcomes().values()) == {"in force"})
        assert (epoch_in(ROUTER), carried(ROUTER), len(marks_of(ROUTER))) == (MIDDLE, set(), 5 * MANY)


def was_told(host: Host, times: int) -> bool:
    """Whether so many agents have told that a change has to wait."""
    lines = host.agent.log.read_text("utf-8").splitlines()
    return sum("sessions; the previous policy stays" in line for line in lines) >= times


def epoch_in(namespace: str) -> int:
    with NetlinkKernel(namespace) as kernel:
        stamp = kernel.inventory(TABLE).stamp
    assert stamp is not None
    return stamp.epoch


def test_first_policy_waits_for_no_session_and_none_passes_by_a_mark_of_before(
    attached: Bench, agent: AgentBench
) -> None:
    """Instance placement: many sessions carry any marks, when there is no policy yet."""
    namespace = attached.pair["instance"]
    fill_many(
        namespace, MANY, mark=sum(INSTANCE.marks.encode_acceptance(side, n, 1) for n, side in enumerate(Direction, 1))
    )
    agent.start()
    assert "marks of unknown policies" in agent.log.read_text("utf-8"), "it is told"
    wait_until(lambda: agent.epoch() == 2 and agent.status()["healthy"])
    epochs = {INSTANCE.marks.parts(side, mark)[0] for mark in marks_of(namespace) for side in Direction}
    assert (epochs, len(marks_of(namespace))) == ({0, 1}, MANY), "the first one means nothing now"
    assert epoch_in(namespace) == 2
