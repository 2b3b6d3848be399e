"""The real agent in host placement: policies hold in the VPC's router, out of the workloads' reach."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ROUTER, state_of
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.daemon
IN_FORCE = {"eni-a": "in force", "eni-b": "in force"}


@pytest.fixture
def bench(host_bench: Bench) -> Bench:
    return host_bench


@pytest.fixture
def agent(bench: Bench, tmp_path: Path) -> Iterator[AgentBench]:
    """It runs in host placement, and its state lets WEB in. It ends before its ENIs are detached."""
    assert bench.registry.load()
    with agent_in(tmp_path) as agent:
        agent.configure(placement="host")
        agent.write(state_of(WEB))
        agent.start()
        yield agent


def test_workloads_obey_in_their_router_and_drift_there_is_repaired(bench: Bench, agent: AgentBench) -> None:
    assert agent.outcomes() == IN_FORCE
    assert {eni["placement"] for eni in agent.status()["enis"]} == {"host"}
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
        nft(ROUTER, f"delete table inet {TABLE}")
        wait_until(lambda: agent.status()["drift"]["count"] == 1)
        assert agent.status()["drift"]["last"]["namespace"] == ROUTER
        assert not dns.passes(beside=web)
        agent.write(state_of(DNS))
        agent.reload()
        assert not web.passes(beside=dns)


def test_workload_that_ends_while_its_interface_lives_elsewhere_is_gone(
    bench: Bench, agent: AgentBench, make_lab_name: Callable[[], str]
) -> None:
    """Its ENI is absent while its interface is elsewhere. No link changes when it ends: the kernel reports only that
    the namespace has ended."""
    elsewhere = make_lab_name()
    netns.create(elsewhere)
    try:
        with Links(bench.pair["peer"]) as links:
            links.move("eth0", elsewhere, "eth0")
        wait_until(lambda: agent.outcomes() == {**IN_FORCE, "eni-b": "absent"})
        os.kill(int(bench.pair["peer"].split("/")[2]), signal.SIGKILL)
        wait_until(lambda: agent.outcomes() == {**IN_FORCE, "eni-b": "gone"})
    finally:
        netns.remove(elsewhere)


def test_its_own_writing_of_bindings_is_no_cause(bench: Bench, agent: AgentBench) -> None:
    """In host placement each cycle writes them. The control: what others change there is a cause."""
    for ports in ((WEB, DNS), (DNS,)):
        agent.write(state_of(*ports))
        agent.reload()
    assert not any("bindings" in causes for causes in agent.causes())
    bindings = bench.registry.load()
    for some in (bindings[:1], bindings):
        with bench.registry.lock():
            bench.registry.store(some)
        wait_until(lambda: len(agent.outcomes()) == len(some))  # noqa: B023  (called here only)
    assert any("bindings" in causes for causes in agent.causes())
