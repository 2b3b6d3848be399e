"""The real agent follows the API's folder, and says so: what is called enforced is what packets obey."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.control.agentplace import AgentPlace
from sgdataplane.control.following import SilentError
from sgdataplane.control.publishing import Publisher, name_of_generation
from sgdataplane.errors import HostError
from tests.support.agentbench import AgentBench
from tests.support.attachbench import DNS, WEB, Bench, state_of
from tests.support.pair import Session

pytestmark = pytest.mark.daemon


@pytest.fixture
def publisher(agent: AgentBench, tmp_path: Path) -> Publisher:
    """The agent is told to read what it publishes."""
    publisher = Publisher(tmp_path / "api")
    agent.state = publisher.current
    agent.configure()
    return publisher


def test_a_revision_is_enforced_when_that_is_said(
    bench: Bench, agent: AgentBench, publisher: Publisher, web: Session, dns: Session
) -> None:
    bench.attach()
    place = AgentPlace(publisher, agent.socket)
    publisher.publish(1, {"version": 1, "vpcs": [{"vpc_id": "vpc-none"}]})
    agent.start()
    for revision, state, asked, other in ((2, state_of(WEB), web, dns), (3, state_of(DNS), dns, web)):
        place.put(revision, state)
        assert not other.passes(beside=asked)
    assert publisher.revision() == 3


def test_what_nobody_says_is_not_called_enforced(
    bench: Bench, agent: AgentBench, publisher: Publisher, tmp_path: Path
) -> None:
    bench.attach()
    with pytest.raises(SilentError, match="no agent"):
        AgentPlace(publisher, agent.socket).put(1, state_of(WEB))
    agent.start()
    with pytest.raises(HostError, match="reads"):
        AgentPlace(Publisher(tmp_path / "other"), agent.socket).put(1, state_of(WEB))
    AgentPlace(publisher, agent.socket).put(2, state_of(DNS))
    assert agent.outcomes() == {"eni-a": "in force"}


def test_generations_share_what_has_not_changed_and_old_ones_go(publisher: Publisher) -> None:
    for revision in range(1, 8):
        instances = [{"instance_id": f"i-{number}"} for number in range(revision)]
        publisher.publish(revision, {"version": 1, "vpcs": [{"vpc_id": "vpc-a"}], "instances": instances})
    names = sorted(entry.name for entry in (publisher.folder / "generations").iterdir())
    assert names == [f"{revision:012}" for revision in (5, 6, 7)]
    first, last = (publisher.folder / "generations" / names[at] for at in (0, -1))
    shared = {path.name for path in first.iterdir() if path.stat().st_ino == (last / path.name).stat().st_ino}
    assert any(name.startswith("vpcs-") for name in shared)
    publisher.publish(3, {"version": 1})
    assert publisher.revision() == 7


@pytest.mark.parametrize("error", ["", "the registry is locked"])
def test_what_a_failed_cycle_leaves_is_not_called_enforced(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """If a cycle could do nothing, the status has the new generation and what was in force of ENIs before."""
    enis = [{"eni": "eni-a", "outcome": "in force", "error": None}]
    state = {"path": str(publisher.current), "generation": name_of_generation(1), "error": None}
    told = {"status": {"state": state, "cycle": {"error": error or None}, "enis": enis}}
    monkeypatch.setattr("sgdataplane.control.agentplace.ask", lambda *_: told)
    place = AgentPlace(publisher, Path("agent.sock"))
    if error:
        with pytest.raises(HostError, match=error):
            place.put(1, state_of(WEB))
    else:
        place.put(1, state_of(WEB))
