"""Undoing by the real agent: what was in force before comes back, for real packets, and the state on disk after it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.daemon
Run = Callable[..., int]


@pytest.fixture
def sgdp(agent: AgentBench) -> Run:
    """A verb of the command line, with the agent's configuration."""
    return lambda *words: main([*words, "--config", str(agent.config)])


@pytest.fixture
def two_policies(bench: Bench, agent: AgentBench) -> None:
    """Policy 1 lets DNS in, too. Policy 2, which is in force, doesn't."""
    bench.attach()
    agent.write(state_of(WEB, DNS))
    agent.start()
    agent.write(state_of(WEB))
    agent.reload()


@pytest.mark.usefixtures("two_policies")
def test_an_earlier_policy_comes_back_and_goes_when_somebody_resumes(
    agent: AgentBench, web: Session, dns: Session, sgdp: Run
) -> None:
    assert not dns.passes(beside=web)
    assert sgdp("rollback", "1") == 0
    assert dns.passes(beside=web)
    assert agent.status()["state"]["origin"] == "held"
    assert not agent.status()["healthy"]  # the state on disk isn't in force
    assert sgdp("resume") == 0
    assert not dns.passes(beside=web)
    assert agent.status()["healthy"]


@pytest.mark.usefixtures("two_policies")
def test_it_is_held_over_restarts_and_reloads_until_the_state_changes(
    agent: AgentBench, web: Session, dns: Session, sgdp: Run
) -> None:
    assert sgdp("rollback", "1") == 0
    agent.reload()
    assert dns.passes(beside=web)
    agent.end(signal.SIGKILL)
    agent.start()
    assert agent.status()["state"]["origin"] == "held"
    assert dns.passes(beside=web)
    agent.write(state_of(WEB, 9999))
    wait_until(lambda: agent.status()["state"]["origin"] == "state")
    assert not dns.passes(beside=web)


@pytest.mark.usefixtures("two_policies")
def test_with_a_time_the_state_on_disk_comes_back_by_itself(
    agent: AgentBench, web: Session, dns: Session, sgdp: Run
) -> None:
    assert sgdp("rollback", "1", "--for", "2s") == 0
    assert agent.status()["state"]["error"].startswith("policy 1 is in force in place of the state on disk until 20")
    wait_until(lambda: agent.status()["state"]["origin"] == "state")
    assert not dns.passes(beside=web)


@pytest.mark.usefixtures("two_policies")
def test_while_the_state_on_disk_is_refused_the_policy_stays_held(
    agent: AgentBench, web: Session, dns: Session, sgdp: Run
) -> None:
    assert sgdp("rollback", "1") == 0
    good = agent.state.read_text("utf-8")
    agent.state.write_text("security_groups: 7\n", "utf-8")
    agent.reload()
    assert agent.status()["state"]["origin"] == "held"
    assert dns.passes(beside=web)
    agent.state.write_text(good, "utf-8")
    agent.reload()
    assert agent.status()["state"]["origin"] == "held"  # it is the state that is held off, as before
    assert sgdp("resume") == 0
    assert not dns.passes(beside=web)


@pytest.mark.usefixtures("two_policies")
def test_verbs_that_name_no_state_ask_what_is_in_force(
    agent: AgentBench, sgdp: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SGDP_STATE", raising=False)
    flow = ("192.0.2.7", "i-a", f"udp/{DNS}", "--exit-code")
    assert sgdp("explain", *flow) == 1
    assert sgdp("rollback", "1") == 0
    assert sgdp("explain", *flow) == 0
    assert sgdp("sessions") == 0
    assert main(["explain", str(agent.state), *flow]) == 1  # the state that is named


@pytest.mark.usefixtures("two_policies")
def test_policies_are_listed_shown_and_written(
    agent: AgentBench, sgdp: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = read_json(capsys, sgdp, "policies")
    assert [(entry["policy"], entry["change"]) for entry in listed] == [
        (1, "the first one that is kept"),
        (2, "-1 rule"),
    ]
    assert sgdp("rollback", "1", "--dry-run") == 0
    assert "opens" in capsys.readouterr().out
    assert agent.status()["state"]["origin"] == "state"
    assert sgdp("policies", "2") == 0
    assert "closes" in capsys.readouterr().out
    assert [entry["policy"] for entry in read_json(capsys, sgdp, "policies", "--eni", "eni-a")] == [1, 2]
    written = agent.folder / "one.yaml"
    assert sgdp("policies", "1", "-o", str(written)) == 0
    assert main(["diff", str(written), str(agent.state), "--fail-on-any-open"]) == 0
    assert main(["diff", str(agent.state), str(written), "--fail-on-any-open"]) == 1
    assert sgdp("rollback", "1") == 0
    assert read_json(capsys, sgdp, "policies")[-1]["change"] == "back to 1"


@pytest.mark.usefixtures("two_policies")
def test_what_isnt_kept_or_was_changed_is_refused(
    agent: AgentBench, web: Session, dns: Session, sgdp: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sgdp("rollback", "7") == 3
    assert "those that are: 1 to 2" in capsys.readouterr().err
    oldest = read_json(capsys, sgdp, "policies")[0]["digest"]
    file = agent.var / "policies" / f"{oldest}.yaml"
    file.write_text(file.read_text("utf-8").replace("drop", "accept") + "\n", "utf-8")
    assert sgdp("rollback", "1") == 3
    assert "isn't the policy that was written" in capsys.readouterr().err
    assert not dns.passes(beside=web)
    assert agent.status()["healthy"]


def read_json(capsys: pytest.CaptureFixture[str], sgdp: Run, *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert sgdp(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert_conforms("policies", found)
    policies: list[dict[str, Any]] = found["policies"]
    return policies
