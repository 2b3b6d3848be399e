"""ENIs in audit mode at a real agent: by its configuration, by how they were attached, and until when."""

from __future__ import annotations

import signal
import time

import pytest

from sgdataplane.model.modes import until_text
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.daemon
SOON_S = 12.0  # so long that a busy machine has done what is to be done before


def test_the_configuration_audits_until_its_time_is_over(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    """Nobody tells the agent then. What passed is counted, and what passes no more is dropped."""
    bench.attach()
    agent.start()
    assert not dns.passes(beside=web)
    ends = until_text(time.time() + SOON_S)
    agent.configure(audit=["eni-*"], audit_until=ends)
    agent.reload()
    wait_until(lambda: agent.outcomes() == {"eni-a": "auditing"})
    assert dns.passes(beside=web)
    wait_until(lambda: agent.status()["enis"][0]["audited"]["packets"] > 0)
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert not dns.passes(beside=web)
    assert frozenset({"mode"}) in agent.causes()
    assert agent.status()["enis"][0]["audited"] is None
    assert (agent.var / "audit-ended").read_text() == f"{ends}\n"


def test_what_has_ended_is_enforced_also_by_a_clock_that_has_gone_back(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    """The agent starts again, and its clock is before the end that it has seen."""
    bench.attach()
    ends = until_text(time.time() + 3600)
    agent.configure(audit=["*"], audit_until=ends)
    agent.start()
    assert agent.outcomes() == {"eni-a": "auditing"}  # control: by this clock it is audited
    assert dns.passes(beside=web)
    agent.end(signal.SIGKILL)
    (agent.var / "audit-ended").write_text(f"{ends}\n")
    agent.start()
    assert agent.outcomes() == {"eni-a": "in force"}
    assert not dns.passes(beside=web)
    agent.configure(audit=["*"], audit_until=until_text(time.time() + 7200))
    agent.reload()
    wait_until(lambda: agent.outcomes() == {"eni-a": "auditing"})  # a later end audits again
    assert dns.passes(beside=web)


def test_a_reload_that_names_the_eni_audits_it_and_one_that_does_not_enforces_it(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    assert not dns.passes(beside=web)
    epoch = agent.epoch()
    agent.configure(audit=["*"])
    agent.reload()
    wait_until(lambda: agent.outcomes() == {"eni-a": "auditing"})
    assert dns.passes(beside=web)
    agent.configure(audit=["eni-b"])
    agent.reload()
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert not dns.passes(beside=web)
    assert agent.epoch() > epoch


def test_a_binding_in_audit_mode_is_audited_and_can_be_enforced_again(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach("--pid", bench.pid, "--mode", "audit")
    agent.start()
    assert agent.outcomes() == {"eni-a": "auditing"}
    assert dns.passes(beside=web)
    bench.read_output()
    bench.attach("--pid", bench.pid, "--mode", "enforce")
    assert "already bound" in (said := bench.read_output())
    assert "from now on in mode enforce" in said
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert not dns.passes(beside=web)
