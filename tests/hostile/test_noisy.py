"""Root in a workload's namespace makes its link flap, or renames it again and again: the agent's log grows at a bounded
rate, and says how much it left out. (Rules that are changed again and again: test_starving.py.)"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sgdataplane.daemon.loglimit import BURST, EVERY_S
from sgdataplane.host.links import Links
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.scenes.pair import made_pair
from tests.support.variants import terseagent

pytestmark = [pytest.mark.kernel, pytest.mark.daemon]
RENAMES = 300


@pytest.fixture(params=["tests.support.variants.terseagent", pytest.param("sgdataplane", marks=pytest.mark.slow)])
def agent(
    make_lab_name: Callable[[], str], placement: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[AgentBench]:
    with ExitStack() as stack:
        pair = stack.enter_context(made_pair(make_lab_name))
        bench = Bench(pair, 0, tmp_path, lambda: "")
        assert bench.attach("--netns", pair["instance"]) == 0
        stack.callback(bench.sgdp, "clear")
        agent = stack.enter_context(agent_in(tmp_path))
        agent.configure(placement=placement)
        agent.module = request.param
        agent.write(state_of(WEB))
        agent.start()
        agent.place = pair  # type: ignore[attr-defined]
        yield agent


def burst_of(agent: AgentBench) -> int:
    """How many lines of a kind it logs at once."""
    return BURST if agent.module == "sgdataplane" else terseagent.BURST


def told(agent: AgentBench, word: str) -> tuple[int, int]:
    """How many lines there are, and how many events they stand for."""
    lines = agent.events(word)
    left_out = (int(found[1]) for line in lines if (found := re.search(r" left_out=(\d+)", line)))
    return len(lines), len(lines) + sum(left_out)


@pytest.mark.placement("host")  # where nobody has to wait for its turn
def test_a_flapping_link_fills_no_log(agent: AgentBench) -> None:
    pair, before, started = agent.place, agent.cycles, time.monotonic()  # type: ignore[attr-defined]
    with Links(pair["instance"]) as links:
        while agent.cycles < before + 3 * burst_of(agent):
            number = agent.cycles
            links.set_down("eth0")
            links.set_up("eth0")
            wait_until(lambda number=number: agent.cycles > number)  # type: ignore[misc]
    lines, _ = told(agent, "cycle")
    # the first cycle, and one more rate for each other cause
    assert lines <= 2 * burst_of(agent) + 2 + (time.monotonic() - started) / EVERY_S
    wait_until(lambda: told(agent, "cycle")[1] == agent.cycles)  # each is logged or counted
    assert f"number={agent.cycles} " in agent.events("cycle")[-1]
    assert agent.outcomes() == {"eni-a": "in force"}


def test_an_interface_that_is_renamed_again_and_again_fills_no_log(agent: AgentBench, placement: str) -> None:
    """In host placement nobody even looks at it: the host end stays the same link."""
    pair, before, started = agent.place, agent.cycles, time.monotonic()  # type: ignore[attr-defined]
    with Links(pair["instance"]) as links:
        index = links.index_of("eth0")
        for number in range(RENAMES):
            links._netlink.link("set", index=index, ifname=f"x{number}")
        wait_until(lambda: placement == "host" or agent.cycles > before)
        links._netlink.link("set", index=index, ifname="eth0")
    agent.reload()
    words = Counter(line.split()[2] for line in agent.log.read_text("utf-8").splitlines())
    assert max(words.values()) <= 2 * burst_of(agent) + 2 + (time.monotonic() - started) / EVERY_S
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
