"""The real agent if the last good policy can't be stored, because the disk is full or read-only, under floods."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sgdataplane.daemon.pastpolicies import INDEX, PastPolicies
from sgdataplane.daemon.statefolder import COUNTERS, LAST_GOOD, POLICIES, PROVEN
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import load
from tests.support.events.ordeal import changing_state, flooded, goes_on, holds
from tests.support.probes.flood import wait_until
from tests.support.run.disk import Disk, tiny_disk
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import Bench

pytestmark = [pytest.mark.daemon, pytest.mark.placement("instance")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with tiny_disk(tmp_path / "var") as disk:
        yield disk


@pytest.fixture
def agent(attached: Bench, disk: Disk) -> Iterator[AgentBench]:
    """It runs, and keeps its files on that disk."""
    with agent_in(attached.folder) as agent:
        assert agent.var == disk.folder
        agent.configure(adoption_window=0)  # else what is left of it differs
        agent.write(changing_state(0))
        agent.start()
        yield agent


def larger_state(step: int) -> CloudState:
    """A state that needs more room than the first one leaves."""
    return changing_state(step, 50)


# What is told, and the step of the state that is kept: an older one only where it can't be removed, since it may open
# what is closed now.
SPOILT = {"full": (os.strerror(errno.ENOSPC), None), "read-only": (os.strerror(errno.EROFS), 2)}


def test_enforcement_and_changes_go_on_and_it_is_told_until_there_is_room(
    attached: Bench, agent: AgentBench, disk: Disk
) -> None:
    with flooded(attached, agent) as flood:
        for how, steps in (("full", (1, 2)), ("read-only", (3,))):
            disk.spoil(how)
            go_on_without(agent, disk, how, steps)
            goes_on(flood)
            disk.mend(how)
            wait_until(lambda: bool(agent.status()["healthy"]))  # by itself
            assert kept(disk) == larger_state(steps[-1])
    files = {LAST_GOOD, COUNTERS, PROVEN, POLICIES}
    wait_until(lambda: {entry.name for entry in disk.folder.iterdir()} <= files)  # nothing half-written
    is_told = any(str(disk.folder / POLICIES) in line for line in agent.status()["warnings"])
    assert (last_kept(disk) != larger_state(3)) is is_told  # the last good policy comes first
    assert holds(attached, larger_state(3))


def last_kept(disk: Disk) -> CloudState:
    """The newest policy that one can come back to. Nothing but what is listed is there."""
    past = PastPolicies(disk.folder / POLICIES)
    contents = {past.path_of(entry.digest) for entry in past.entries}
    assert {*past.folder.iterdir()} == {*contents, past.folder / INDEX}
    return past.state(past.entries[-1].digest)


def kept(disk: Disk) -> CloudState | None:
    path = disk.folder / LAST_GOOD
    return load(path).state if path.exists() else None


def go_on_without(agent: AgentBench, disk: Disk, how: str, steps: Sequence[int]) -> None:
    """Changes still work; and with a full disk, a kill and a start change nothing."""
    error, old = SPOILT[how]
    told = len(agent.events("last-good-not-kept"))
    for step in steps:
        agent.write(larger_state(step))
        wait_until(lambda: agent.epoch() == step + 1)  # noqa: B023  (called here only)
        assert error in agent.status()["last_good"]["error"]
        assert (agent.status()["healthy"], agent.outcomes()) == (False, {"eni-a": "in force"})
    assert len(agent.events("last-good-not-kept")) == told + 1  # not in each cycle
    assert kept(disk) == (None if old is None else larger_state(old))
    if how == "read-only":
        return
    agent.end(signal.SIGKILL)
    agent.start()
    assert (agent.epoch(), agent.outcomes()) == (steps[-1] + 1, {"eni-a": "in force"})
    assert error in agent.status()["last_good"]["error"]
