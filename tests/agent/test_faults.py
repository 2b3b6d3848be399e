"""The real agent as it dies, is refused, or runs out of memory at each step of a change of rules, under floods."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from sgdataplane.daemon.control import Request, ask, spell_request
from sgdataplane.errors import HostError
from sgdataplane.model.state import CloudState
from tests.support.events.ordeal import changing_state, flooded, goes_on, holds
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import Bench
from tests.support.variants.faultyagent import FAULT_VARIABLE, KILLS, REFUSALS, STEPS

pytestmark = [pytest.mark.daemon, pytest.mark.placement("instance")]
MAX_DESCRIPTORS = 1024
MANY = 1500  # members: more than is lying about of memory
ROOM, MOST = 1 << 20, 2 << 20  # bytes; the most is about what they take
LEAST = 1 << 17  # bytes: about what a change of a rule takes


@pytest.fixture
def agent(attached: Bench) -> Iterator[AgentBench]:
    """It runs, and can be made to fail."""
    with agent_in(attached.folder) as agent:
        agent.module = "tests.support.variants.faultyagent"
        agent.configure(adoption_window=0)  # else what is left of it differs
        agent.write(changing_state(0))
        start(agent)
        yield agent


def fault_file(agent: AgentBench) -> Path:
    return agent.folder / "fault"


def start(agent: AgentBench) -> None:
    """Start it, and wait for its first cycle."""
    agent.launch(**{FAULT_VARIABLE: str(fault_file(agent))})
    wait_until(lambda: agent.cycles > 0)


def change(agent: AgentBench, step: int, place: str, fault: str) -> None:
    """Write another state; the fault happens while it is put in force."""
    fault_file(agent).write_text(f"{place} {fault}", "ascii")
    agent.write(changing_state(step))
    wait_until(lambda: not fault_file(agent).exists())


def obeys(agent: AgentBench) -> None:
    """Whether it obeys the state on disk, whatever it was doing before."""
    done = ask(agent.socket, Request.RELOAD)["cycle"]
    assert isinstance(done, int)
    wait_until(lambda: agent.cycles >= done and bool(agent.status()["healthy"]))


def die_at(attached: Bench, agent: AgentBench, step: int, place: str, fault: str) -> None:
    """It dies, and after a restart does what it died doing."""
    change(agent, step, place, fault)
    assert agent.process is not None
    assert agent.process.wait(DEADLINE) == -signal.SIGKILL
    start(agent)
    assert agent.outcomes() == {"eni-a": "in force"}
    assert holds(attached, changing_state(step)), (place, fault)


def be_refused_at(attached: Bench, agent: AgentBench, step: int, place: str, fault: str) -> None:
    """It is refused, and tries again by itself."""
    before = for_states(agent)
    change(agent, step, place, fault)
    wait_until(lambda: for_states(agent) > before and bool(agent.status()["healthy"]))
    assert holds(attached, changing_state(step)), (place, fault)
    assert agent.status()["drift"]["count"] == 0


def for_states(agent: AgentBench) -> int:
    """How many cycles for a changed state have ended."""
    return sum("state" in causes for causes in agent.causes())


def test_killed_and_refused_in_the_middle_of_a_change_it_leaks_and_loses_nothing(
    attached: Bench, agent: AgentBench
) -> None:
    with flooded(attached, agent):
        die_at(attached, agent, 1, "switch", "killed-before")
        die_at(attached, agent, 2, "sweep", "killed-before")
        be_refused_at(attached, agent, 3, "switch", "unheard")
        be_refused_at(attached, agent, 4, "sweep", "refused")
        be_refused_at(attached, agent, 5, "stage", "refused")
        assert "No buffer space" in agent.events("leftovers-not-removed")[0]


@pytest.mark.slow
def test_whatever_happens_at_whatever_step_it_leaks_and_loses_nothing(attached: Bench, agent: AgentBench) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    every = 3 * list(product(STEPS, (*KILLS, *REFUSALS)))
    random.Random(seed).shuffle(every)
    with flooded(attached, agent):
        for step, (place, fault) in enumerate(every, 1):
            print(step, place, fault)
            (die_at if fault in KILLS else be_refused_at)(attached, agent, step, place, fault)


def test_a_cycle_that_fails_is_done_again_and_the_agent_goes_on(attached: Bench, agent: AgentBench) -> None:
    for step, place in enumerate(("reading", "telling"), 1):
        change(agent, step, place, "no-memory")
        agent.wait_for_event("cycle-failed", step)
        wait_until(lambda: bool(agent.status()["healthy"]))
        assert holds(attached, changing_state(step))
    assert not agent.process_has_ended


def limit_memory(agent: AgentBench, room: int) -> None:
    """Allow it that many bytes more than it has now (RLIMIT_AS); -1: no limit."""
    assert agent.process is not None
    pages = int(Path(f"/proc/{agent.process.pid}/statm").read_text("ascii").split()[0])
    limit = resource.RLIM_INFINITY if room < 0 else pages * resource.getpagesize() + room
    resource.prlimit(agent.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def run_out_of_memory(attached: Bench, agent: AgentBench, state: CloudState, room: int) -> str:
    """Write a state that needs that much memory or more. Returns how it ended. Once there is memory again, it obeys the
    state."""
    failed, epoch = len(agent.events("cycle-failed")), agent.epoch()
    limit_memory(agent, room)
    agent.write(state)

    def outcome() -> str:
        if agent.process_has_ended:
            return "died"
        if len(agent.events("cycle-failed")) > failed:
            return "cycle failed"
        with suppress(HostError):
            status = agent.status()
            if status["cycle"]["error"]:  # the log had no memory either
                return "cycle failed"
            (eni,) = status["enis"]
            if eni["outcome"] == "refused":
                return "refused"
            return "enough" if eni["epoch"] > epoch else ""
        return ""

    wait_until(lambda: bool(outcome()))
    ended = outcome()
    if ended != "died":
        with suppress(FileNotFoundError, ProcessLookupError):
            limit_memory(agent, -1)

    def is_healthy() -> bool:
        if agent.process_has_ended:  # it had already begun to die
            start(agent)
        with suppress(HostError):
            return bool(agent.status()["healthy"])
        return False

    wait_until(is_healthy)
    assert holds(attached, state), ended
    return ended


def test_out_of_memory_it_leaks_and_loses_nothing_and_goes_on_when_there_is_some(
    attached: Bench, agent: AgentBench
) -> None:
    with flooded(attached, agent) as flood:
        assert run_out_of_memory(attached, agent, changing_state(1, MANY), ROOM) != "enough"
        goes_on(flood)


@pytest.mark.slow
def test_wherever_it_runs_out_of_memory_it_leaks_and_loses_nothing(attached: Bench, agent: AgentBench) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chooser = random.Random(seed)
    ends = Counter[str]()
    with flooded(attached, agent):
        for step in range(1, 31, 2):
            more, most = chooser.choice(((0, LEAST), (MANY, MOST), (MANY, MOST)))
            room = chooser.randrange(most)
            end = run_out_of_memory(attached, agent, changing_state(step, more), room)
            print(f"{more} members, {room} bytes: {end}")
            ends[end] += 1
            agent.write(changing_state(step + 1))
            agent.end(signal.SIGKILL)
            start(agent)  # with little memory again
    assert ends.total() > ends["enough"]


def test_out_of_descriptors_it_goes_on_enforcing_and_is_there_again_when_there_are_some(
    attached: Bench, agent: AgentBench
) -> None:
    agent.configure(adoption_window=0, resync=1)
    obeys(agent)
    assert agent.process is not None
    with flooded(attached, agent) as flood, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        known = {int(number) for number in os.listdir(f"/proc/{agent.process.pid}/fd")}
        free = min(set(range(max(known) + 2)) - known)
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (free, MAX_DESCRIPTORS))
        client.settimeout(DEADLINE)
        client.connect(str(agent.socket))
        client.send(spell_request(Request.STATUS))
        agent.write(changing_state(1))
        wait_until(lambda: any("Too many open files" in line for line in agent.log.read_text("utf-8").splitlines()))
        goes_on(flood)
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))
        assert client.recv(64).startswith(b'{"ok":true')
        wait_until(lambda: agent.epoch() == 2 and bool(agent.status()["healthy"]))
    assert holds(attached, changing_state(1))
