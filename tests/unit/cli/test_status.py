"""What `sgdp status` says of the last cycle, and of a state with several errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.attach.report import HostReport
from sgdataplane.cli import agent
from sgdataplane.cli.main import main
from sgdataplane.daemon import control
from sgdataplane.daemon.cycle import CycleReport, Origin, Policy
from sgdataplane.daemon.namespaces import Drift
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.status import Status
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.host.identity import Identity
from sgdataplane.model.state import CloudState

REFUSAL = str(StateFileError(tuple(Problem(Where("s.yaml", n), "Unknown", "no such key", f"k{n}") for n in (1, 2))))


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    """What a running agent answers with."""
    found = Status(Path("/state"), Path("/config"), Path("/last-good"))
    monkeypatch.setattr(agent, "require_root", lambda _: None)
    monkeypatch.setattr(control, "ask", lambda *_: {"status": found.as_json()})
    return found


def note(status: Status, *causes: Cause, refusal: str = "") -> None:
    policy = Policy(CloudState(), Origin.STATE, refusal)
    status.note_cycle(CycleReport(frozenset(causes), policy, HostReport(()), "", "", 0.1))


def test_every_cause_of_a_cycle_has_words() -> None:
    assert agent.CAUSES.keys() == {cause.value for cause in Cause}


def test_each_error_of_a_state_begins_as_an_error(status: Status, capsys: pytest.CaptureFixture[str]) -> None:
    note(status, Cause.STATE, Cause.LINK, refusal=REFUSAL)
    assert main(["status"]) == 1
    out, err = capsys.readouterr()
    assert "because an interface or namespace changed and the state changed\n" in out
    assert err.splitlines() == [
        "error: Unknown: no such key",
        "  at:       s.yaml:1",
        "  value:    k1",
        "error: Unknown: no such key",
        "  at:       s.yaml:2",
        "  value:    k2",
    ]


@pytest.mark.parametrize(("count", "words"), [(1, "our rules once since"), (2, "our rules 2 times since")])
def test_changes_of_others_are_counted(
    count: int, words: str, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    note(status, Cause.DRIFT)
    for _ in range(count):
        status.note_drift(Drift(Identity(1, 1), "container web", "nft[7]", "rule added: ingress"))
    assert main(["status"]) == 0
    assert words in capsys.readouterr().out
