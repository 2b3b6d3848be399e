"""The agent, as it is started, and a namespace whose root is hostile: it lives, nothing of the machine's is read, and
everybody's policy changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgdataplane.host.netlink import attribute
from tests.hostile.scene import OURS, Canary
from tests.hostile.test_names import ATTACKS, BREAKS
from tests.hostile.test_userdata import CRASHING, NOTES, USERDATA
from tests.support.kernel import rawnft
from tests.support.kernel.rawnft import In, Message
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import state_of

pytestmark = pytest.mark.kernel


@pytest.fixture
def agent(bench: Bench) -> Iterator[AgentBench]:
    with agent_in(bench.folder) as agent:
        agent.configure(adoption_window=0)
        agent.write(state_of(WEB))
        agent.start()
        assert agent.status()["healthy"], agent.log.read_text("utf-8")
        yield agent


def attacks(canary: Canary) -> Iterator[tuple[Message, ...]]:
    for make in ATTACKS.values():
        yield make(BREAKS["line"](canary.path))
    for number, name in enumerate(CRASHING):
        there = In(b"other%d" % number)
        more = attribute(USERDATA, NOTES[name])
        yield rawnft.table(there.table), there.set(b"plain", rawnft.KEYS["ifname"], more=more)
        yield (In(OURS).set(b"plain%d" % number, rawnft.KEYS["ifname"], more=more),)


def has_rule(bench: Bench, name: bytes) -> bool:
    """Not asked of the nft program, which crashes there."""
    return any(name in found for found in rawnft.names_in(bench.place, OURS)["object"])


def is_in_force(agent: AgentBench) -> bool:
    """It may be so more than once: of the last attacks it may hear when the policy is in force already."""
    status = agent.status()
    return bool(status["healthy"]) and {eni["outcome"] for eni in status["enis"]} == {"in force"}


def test_the_agent_lives_and_all_policies_change(bench: Bench, agent: AgentBench, canary: Canary) -> None:
    for number, messages in enumerate(attacks(canary)):
        rawnft.send_what_fits(bench.place, messages)
        if number % 4 == 0:
            agent.write(state_of(*((WEB, DNS) if number % 8 == 0 else (WEB,))))
    agent.write(state_of(DNS, 4711))
    wait_until(lambda: agent.process_has_ended or has_rule(bench, b"sgr-4711"))
    wait_until(lambda: is_in_force(agent))
    assert (agent.process_has_ended, canary.was_opened) == (False, False)
    assert not any("traceback" in line for line in agent.log.read_text("utf-8").splitlines())
    assert agent.events("drift")


def test_an_agent_that_starts_finds_it_all_and_lives(bench: Bench, agent: AgentBench, canary: Canary) -> None:
    """Before, it died at each start."""
    assert agent.end() == 0
    for messages in attacks(canary):
        rawnft.send_what_fits(bench.place, messages)
    agent.write(state_of(DNS))
    agent.start()
    wait_until(lambda: is_in_force(agent))
    assert not canary.was_opened
    assert has_rule(bench, b"sgr-5353")
    assert set(rawnft.names_in(bench.place, b"other0")["set"]) == {b"plain"}
