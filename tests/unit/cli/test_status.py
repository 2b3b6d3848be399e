"""What `sgdp status` says of the last cycle, and of a state with several errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgdataplane.attach.report import EniOutcome, HostReport
from sgdataplane.cli import agent
from sgdataplane.cli.main import main
from sgdataplane.cli.nextsteps import OF_ENIS, OF_OWNERS, next_steps
from sgdataplane.daemon import control
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.namespaces import Drift
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.status import Status
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.host.identity import Identity
from sgdataplane.host.kernelversion import RunningKernel
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


def test_every_origin_of_a_policy_has_words() -> None:
    assert agent.POLICIES.keys() == {origin.value for origin in Origin} - {Origin.STATE.value}


def test_a_policy_that_is_not_the_state_on_disk_says_what_it_is(
    status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    status.note_cycle(
        CycleReport(frozenset(), Policy(CloudState(), Origin.LAST_GOOD, "no"), HostReport(()), "", "", 0.1)
    )
    assert main(["status"]) == 1
    assert "policy: the last good one, because /state can't be used\n" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("count", "words"), [(1, "sgdataplane's rules once since"), (2, "sgdataplane's rules 2 times since")]
)
def test_changes_of_others_are_counted(
    count: int, words: str, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    note(status, Cause.DRIFT)
    for _ in range(count):
        status.note_drift(Drift(Identity(1, 1), "container web", "nft[7]", "rule added: ingress"))
    assert main(["status"]) == 0
    assert words in capsys.readouterr().out


WELL: dict[str, Any] = {
    "healthy": True,
    "state": {"path": "/state", "origin": "state", "error": None},
    "cycle": {"error": None},
    "last_good": {"path": "/var/lib/x/last-good.yaml", "error": None},
    "config": {"path": "/config", "error": None, "choices": {"profile": "seed"}, "restart": []},
    "bind": {"error": None, "refused": []},
    "tampering": {"count": 0, "recent": False, "last": None},
    "enis": [{"eni": "eni-a", "outcome": "in force"}],
}
AMBIGUOUS = [{"eni": "eni-a", "reason": "several", "interfaces": ["eth0 of netns w"]}]
LOG = "journalctl -u sgdataplane -n 20"


def enis(*outcomes: str) -> list[dict[str, str]]:
    return [{"eni": f"eni-{number}", "outcome": outcome} for number, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("part", "key", "value", "step"),
    [
        (
            "state",
            "error",
            "InvalidSource.NotFound: no such file or directory",
            "put a state there; this writes one to begin with: sgdp init /state",
        ),
        ("state", "error", "no", "correct the state; the agent reads it again by itself: sgdp check /state"),
        ("cycle", "error", "no", f"find out why the last cycle failed: {LOG} -p err"),
        ("last_good", "error", "no", "make room for the last good policy: df -h /var/lib/x"),
        ("config", "error", "no", "correct /config, and then: systemctl reload sgdataplane"),
        ("config", "restart", ["bindings"], "let the agent read its new values: systemctl restart sgdataplane"),
        (
            "bind",
            "error",
            "no",
            f"find out why namespaces could not be searched: {LOG} SGDP_EVENT=namespaces-not-searched",
        ),
        (
            "bind",
            "refused",
            AMBIGUOUS,
            "say which interface carries eni-a: sgdp attach --eni eni-a --netns NAMESPACE --ifname INTERFACE",
        ),
    ],
)
def test_each_fault_has_a_step_with_its_command(part: str, key: str, value: object, step: str) -> None:
    assert next_steps({**WELL, part: {**WELL[part], key: value}}) == [step]


@pytest.mark.parametrize(
    ("outcomes", "steps"),
    [
        (("in force",), []),
        (("gone",), ["attach eni-0 again where the workload runs now, or: sgdp detach --eni eni-0"]),
        (
            ("in force", "gone", "gone", "gone"),
            ["attach eni-1 and 2 more again where the workload runs now, or: sgdp detach --eni eni-1"],
        ),
        (("absent",), ["bring back the interface of eni-0, or: sgdp detach --eni eni-0"]),
        (("closed",), ["add eni-0 to the state, or: sgdp detach --eni eni-0"]),
        (
            ("disturbed",),
            [f"stop the program that changes the rules of eni-0, as the log says: {LOG} SGDP_EVENT=disturbed"],
        ),
        (
            ("refused",),
            [f"find out why eni-0 can't be enforced; the agent tries again by itself: {LOG} SGDP_ENI=eni-0"],
        ),
    ],
)  # fmt: skip
def test_each_outcome_has_a_step_for_all_its_enis(outcomes: tuple[str, ...], steps: list[str]) -> None:
    assert next_steps({**WELL, "enis": enis(*outcomes)}) == steps


def test_every_outcome_that_is_not_fine_has_a_step() -> None:
    assert OF_ENIS.keys() == {outcome.value for outcome in EniOutcome if not outcome.is_fine}


def test_who_is_closed_because_there_is_no_policy_needs_only_the_policy() -> None:
    state = {"path": "/state", "origin": "closed", "error": "no such file"}
    (step,) = next_steps({**WELL, "state": state, "enis": enis("closed", "closed")})
    assert step.endswith("sgdp check /state")


def test_the_state_is_to_be_checked_by_the_agents_quotas() -> None:
    refused = {**WELL["state"], "error": "no"}
    (step,) = next_steps({**WELL, "state": refused, "config": {**WELL["config"], "choices": {"profile": "2026"}}})
    assert step.endswith(": sgdp check /state --profile 2026")


@pytest.mark.parametrize("code", OF_OWNERS)
def test_a_state_that_others_can_change_is_no_matter_of_its_text(code: str) -> None:
    refused = {**WELL["state"], "error": f"{code}: others could"}
    (step,) = next_steps({**WELL, "state": refused})
    assert step.endswith(": namei -l /state")


def test_commands_are_about_the_agents_bindings() -> None:
    (step,) = next_steps({**WELL, "enis": enis("gone")}, Path("/srv/b"))
    assert step.endswith(": sgdp detach --eni eni-0 --bindings /srv/b")


@pytest.mark.parametrize(
    ("part", "key", "value", "step"),
    [
        ("state", "origin", "held", "when the state on disk is right: sgdp resume"),
        ("config", "error", "no", "correct /config, and then: kill -HUP 7"),
        ("config", "restart", ["x"], "let the agent read its new values: kill 7, and then sgdp agent --config /config"),
        ("cycle", "error", "no", "find out why the last cycle failed: see what the agent (pid 7) wrote to its stderr"),
        (
            "bind",
            "error",
            "no",
            (
                "find out why namespaces could not be searched: see what the agent (pid 7) wrote to its stderr, "
                "in lines with namespaces-not-searched"
            ),
        ),
    ],
)
def test_without_systemd_no_step_needs_it(part: str, key: str, value: object, step: str) -> None:
    status = {**WELL, "pid": 7, part: {**WELL[part], key: value}}
    assert next_steps(status, has_unit=False) == [step]


def test_not_healthy_without_a_reason_is_in_the_log() -> None:
    assert next_steps({**WELL, "healthy": False}) == [f"find out what the agent does: {LOG}"]


def test_a_name_cannot_become_a_command(status: Status, capsys: pytest.CaptureFixture[str]) -> None:
    status.state = Path("/st;reboot\x1b[2J\nnext: reboot")
    note(status, Cause.STATE, refusal="no")
    assert main(["status"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert line.endswith(r": sgdp check '/st;reboot\x1b[2J\nnext: reboot'")


@pytest.mark.parametrize(
    ("is_installed", "command"),
    [(True, "systemctl start sgdataplane"), (False, "sgdp agent [--config FILE] (no systemd unit is installed)")],
)
def test_where_no_agent_runs_it_is_said_how_to_start_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_installed: bool,
    command: str,
) -> None:
    monkeypatch.setattr(agent, "require_root", lambda _: None)
    monkeypatch.setattr(control, "UNIT_FOLDERS", (tmp_path,))
    if is_installed:
        (tmp_path / control.UNIT).touch()
    config = tmp_path / "agent.toml"
    config.write_text(f'socket = "{tmp_path / "none.sock"}"\n', "utf-8")
    assert main(["status", "--config", str(config)]) == 3
    assert capsys.readouterr().err.endswith(f"no agent is running there; start it: {command}\n")


DEBIAN_12 = RunningKernel("6.1.0-57-cloud-amd64", (6, 1, 192))
UBUNTU = RunningKernel("6.8.0-45-generic", (6, 8, None))


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        pytest.param(
            (DEBIAN_12, False),
            ["kernel: Linux 6.1.0-57-cloud-amd64 (6.1.192), with", "  missed-keys: a look-up", "  walks-every-path: "],
            id="debian-12",
        ),
        pytest.param((UBUNTU, None), ["kernel: Linux 6.8.0-45-generic, with", "  missed-keys: perhaps: "], id="ubuntu"),
        pytest.param((RunningKernel("6.18.44", (6, 18, 44)), True), [], id="nothing-to-gain"),
    ],
)
def test_faults_of_the_kernel_are_named_with_our_answer(
    status: Status,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kernel: tuple[RunningKernel, bool | None],
    expected: list[str],
) -> None:
    note(status, Cause.STATE)
    monkeypatch.setattr("sgdataplane.daemon.status.read_running", lambda: kernel[0])
    monkeypatch.setattr("sgdataplane.daemon.status.looks_again", lambda: kernel[1])
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert [words for words in expected if words not in said] == []
    assert ("kernel: " in said) is bool(expected)
