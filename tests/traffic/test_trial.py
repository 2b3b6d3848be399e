"""A trial in a lab, with real packets: every line's count is what was sent, whatever is applied meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.counters import TRIAL_GROUP
from sgdataplane.contract.tables import TABLE, TRIALS
from sgdataplane.enforce import Settings, build, is_in_force
from sgdataplane.host import netns
from sgdataplane.host.nflog import Nflog
from sgdataplane.lab import keeping, manage, trials
from sgdataplane.lab.manage import Lab
from sgdataplane.trial.record import MAX_S, TrialRecord
from sgdataplane.trial.report import TrialReport
from tests.support.documents.schemas import assert_conforms
from tests.support.kernel.nft import listing, nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.probes.trialtraffic import Opener, state_text
from tests.support.run.forked import Forked
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic
BEFORE, AFTER = state_text("5000/5001"), state_text("5001/5002")
OTHER = state_text("5000/5001", "7000/7000")  # the same lines, and one more
TRUE = state_text("5001/5001")  # what closes, is closed
CLOSES, SAME, OPENS = 5000, 5001, 5002


@pytest.fixture
def lab(whole_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The process that keeps its trials forks from this one."""

    def run(command: Sequence[str], **_: object) -> int:
        return Forked(lambda: keeping.main(command[-1]), []).wait(DEADLINE)

    monkeypatch.setattr(trials, "subprocess", SimpleNamespace(**{**vars(subprocess), "run": run}))
    return whole_lab


@pytest.fixture
def whole_lab(lab_name: str, placement: str) -> Iterator[Lab]:
    with labs.running(lab_name, labs.state_of(BEFORE), enforce_policy, placement=placement) as found:
        yield found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {"before": BEFORE, "after": AFTER, "other": OTHER, "true": TRUE}
    found = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, path in found.items():
        path.write_text(texts[name])
    return found


@pytest.fixture
def opener(whole_lab: Lab) -> Opener:
    return Opener(whole_lab.find_node("i-a").netns, "10.0.0.2", (CLOSES, SAME, OPENS), seed=7)


def record(name: str, seconds: float = 3600) -> TrialRecord:
    return TrialRecord(name, "after.yaml", (), time.time(), time.time() + seconds)


def counts(report: TrialReport, eni_id: str = "eni-b") -> dict[int, int]:
    """Packets by the line's first port, at ingress of an ENI."""
    mine = [seen for seen in report.lines if seen.line.change.eni_id == eni_id]
    return {ports[0]: seen.packets for seen in mine if (ports := seen.line.change.ranges[-1]) is not None}


def tables(lab: Lab) -> list[str]:
    """The trial tables of all namespaces."""
    found = [nft(at.netns, "list tables") for at in lab.enforced]
    return [line for text in found for line in text.splitlines() if TRIALS in line]


def sgdp(*arguments: str, code: int = 0) -> str:
    out, error = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        try:
            found = main([*arguments])
        except SystemExit as end:
            found = int(end.code or 0)
    assert found == code, out.getvalue() + error.getvalue()
    assert "Traceback" not in error.getvalue()
    return out.getvalue() + error.getvalue()


def test_each_line_counts_what_was_sent(lab: Lab, opener: Opener) -> None:
    trials.start(lab, record("t"), labs.state_of(AFTER))
    opener.send(600)
    found = counts(trials.read(lab, "t"))
    assert found == {CLOSES: opener.sent[CLOSES], OPENS: opener.sent[OPENS]}
    assert min(found.values()) > 100


def test_counts_stay_exact_while_the_policy_changes(lab: Lab, opener: Opener) -> None:
    """Lines that stay keep their counts, over applies and readings, and none counts a packet twice."""
    trials.start(lab, record("t"), labs.state_of(AFTER))
    now = lab
    with opener:
        for text in (OTHER, BEFORE, OTHER, BEFORE):
            now = manage.apply(lab.record.name, labs.state_of(text), enforce_policy)
            trials.read(now, "t")
    report = trials.read(now, "t")
    assert not report.paused
    assert counts(report) == {CLOSES: opener.sent[CLOSES], OPENS: opener.sent[OPENS]}
    assert opener.sent.total() > 100


def test_an_apply_that_changes_half_of_the_lines(lab: Lab, opener: Opener) -> None:
    """What was made true is said to be so, with what it had counted; the other half goes on."""
    trials.start(lab, record("t"), labs.state_of(AFTER))
    opener.send(300)
    closed = opener.sent[CLOSES]
    now = manage.apply(lab.record.name, labs.state_of(TRUE), enforce_policy)
    opener.send(300)
    report = trials.read(now, "t")
    assert counts(report) == {OPENS: opener.sent[OPENS]}
    done = {one.line.change.eni_id: one.packets for one in report.done}
    assert done == {"eni-a": 0, "eni-b": closed}
    now = manage.apply(lab.record.name, labs.state_of(BEFORE), enforce_policy)
    back = trials.read(now, "t")
    assert back.done == ()
    assert counts(back)[CLOSES] == closed, "a line that comes back goes on with its count"
    trials.stop(now, "t")  # its keeper looks for the lab's new namespaces, which would wait for the lab's end


@pytest.mark.parametrize("more", [9, pytest.param(49, marks=pytest.mark.slow)])
def test_nothing_of_the_policy_changes_and_nothing_stays(lab: Lab, more: int) -> None:
    """Many trials, one after the other, leave no table and no file, and the policy is in force as it was, untouched."""
    before = {at.netns: policy_of(at.netns) for at in lab.enforced}
    state = labs.state_of(AFTER)
    trials.start(lab, record("t"), state)
    with_one = tables(lab)
    for number in range(more):
        trials.start(lab, record(f"t{number}"), state)
        assert len(tables(lab)) == 2 * len(with_one)
        trials.stop(lab, f"t{number}")
    assert tables(lab) == with_one
    trials.stop(lab, "t")
    assert tables(lab) == []
    assert [path.name for path in trials.folder_of(lab.record.name).path.iterdir()] == ["lock"]
    assert {at.netns: policy_of(at.netns) for at in lab.enforced} == before
    for at in lab.enforced:
        assert is_in_force(at.netns, build(at.desired, lab_settings(lab))), "no commit was taken for another's"


def policy_of(place: str) -> str:
    """The policy's table, without the generation in its stamp and what counters hold."""
    lines = listing(place, TABLE).splitlines()
    return "\n".join(line for line in lines if "packets" not in line and "0x00000005 :" not in line)


def lab_settings(lab: Lab) -> Settings:
    request = manage.EnforceRequest("", lab.enforced[0].desired, None, 1.0, 1, "revoke")
    return request.settings


@pytest.mark.placement("instance")  # which is all the same to this
def test_a_trial_ends_with_its_time_though_nobody_asks(lab: Lab) -> None:
    trials.start(lab, record("t", seconds=2), labs.state_of(AFTER))
    assert tables(lab)
    wait_until(lambda: tables(lab) == [])
    assert trials.records(lab) == ()


@pytest.mark.placement("instance")  # which is all the same to this
def test_a_trial_that_cannot_be_read_ends_and_keeps_no_other_from_anything(lab: Lab, opener: Opener) -> None:
    """Its record is damaged, and it is the first one by name."""
    for name in ("bad", "t", "u"):
        trials.start(lab, record(name, seconds=8 if name == "u" else 3600), labs.state_of(AFTER))
    folder = trials.folder_of(lab.record.name)
    damaged = folder.path / "bad.json"
    damaged.write_text("{")
    assert "record can't be read" in trials.read(lab, "bad").paused
    assert [found.name for found in trials.records(lab)] == ["bad", "t", "u"]
    now = manage.apply(lab.record.name, labs.state_of(TRUE), enforce_policy)
    opener.send(20)
    assert counts(trials.read(now, "t")) == {OPENS: opener.sent[OPENS]}, "the others follow"
    wait_until(lambda: folder.names() == ("bad", "t"))  # and end
    os.utime(damaged, times=(time.time() - MAX_S,) * 2)
    wait_until(lambda: folder.names() == ("t",))
    folder.note("t", {})
    (folder.path / "t.yaml").write_text("{")
    trials.stop(now, "t")
    assert (folder.names(), tables(now)) == ((), [])


def test_where_somebody_else_listens_that_is_said_and_tried_again(lab: Lab, opener: Opener) -> None:
    place = next(at.netns for at in lab.enforced if "eni-b" in at.desired.interfaces)
    with netns.inside(place):
        theirs = Nflog(TRIAL_GROUP)
    with closing(theirs):
        trials.start(lab, record("t"), labs.state_of(AFTER))
        wait_until(lambda: trials.read(lab, "t").unsampled != ())
        assert f"counted and not sampled in {place}: nflog group" in sgdp("trial", "show", "--lab", lab.record.name)
    wait_until(lambda: trials.read(lab, "t").unsampled == ())
    opener.send(10)
    wait_until(lambda: ends(trials.read(lab, "t")) == {CLOSES: ("10.0.0.1",), OPENS: ("10.0.0.1",)})


def test_ends_are_sampled_also_in_a_lab(whole_lab: Lab, opener: Opener) -> None:
    """A process listens from the first packet on, also where an apply has made a namespace's table anew."""
    trials.start(whole_lab, record("t"), labs.state_of(AFTER))
    opener.send(10)
    wait_until(lambda: ends(trials.read(whole_lab, "t")) == {CLOSES: ("10.0.0.1",), OPENS: ("10.0.0.1",)})


def ends(report: TrialReport) -> dict[int, tuple[str, ...]]:
    mine = [seen for seen in report.lines if seen.line.change.eni_id == "eni-b" and seen.packets]
    return {ports[0]: seen.ends for seen in mine if (ports := seen.line.change.ranges[-1]) is not None}


@pytest.mark.placement("instance")  # which is all the same to this
def test_what_people_and_gates_see(lab: Lab, opener: Opener, files: dict[str, Path]) -> None:
    where = ("--lab", lab.record.name)
    assert "no trial runs here" in sgdp("trial", "show", *where, code=5)
    assert "counts 4 lines at 2 ENIs" in sgdp("trial", "start", str(files["after"]), "--name", "next", *where)
    assert "there is one of that name" in sgdp("trial", "start", str(files["after"]), "--name", "next", *where, code=5)
    assert "not seen in" in sgdp("trial", "show", *where)
    opener.send(90)
    shown = sgdp("trial", "show", *where, code=1)
    assert f"{opener.sent[CLOSES]:,} that would close, {opener.sent[OPENS]:,} that would open" in shown
    assert "live sessions that the change would end" in shown, "UDP sessions without an answer live for a while"
    sgdp("trial", "show", "next", *where, "--fail-on", "close", code=1)
    document = json.loads(sgdp("trial", "show", *where, "--json", code=1))
    assert_conforms("trial", document)
    assert document["seen"] == {"close": opener.sent[CLOSES], "open": opener.sent[OPENS]}
    assert "| closes | udp | 5000 |" in sgdp("trial", "show", *where, "--markdown", code=1)
    assert "no such trial; running: next" in sgdp("trial", "show", "other", *where, code=5)
    assert sgdp("trial", "list", *where).count("next") == 1
    sgdp("trial", "stop", *where)
    sgdp("trial", "show", "next", *where, code=5)


@pytest.mark.placement("instance")  # which is all the same to this
def test_a_gate_asks_only_for_what_it_names(lab: Lab, files: dict[str, Path]) -> None:
    where = ("--lab", lab.record.name)
    sgdp("trial", "start", str(files["after"]), *where)
    only = Opener(lab.find_node("i-a").netns, "10.0.0.2", (OPENS,), seed=1)
    only.send(3)
    sgdp("trial", "show", *where, "--fail-on", "close")
    sgdp("trial", "show", *where, "--fail-on", "open", code=1)


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "", "x" * 64, "a\nb", "-a", "é", "{", "$(id)"])
def test_a_hostile_name_is_refused(lab_name: str, files: dict[str, Path], name: str) -> None:
    said = sgdp("trial", "start", str(files["after"]), f"--name={name}", "--lab", lab_name, code=2)
    assert "can't be a trial's name" in said


@pytest.mark.placement("instance")  # which is all the same to this
def test_a_refused_state_begins_nothing(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(AFTER.replace("sg-a]", "sg-none]"))
    assert "sg-none" in sgdp("trial", "start", str(path), "--lab", lab.record.name, code=5)
    assert trials.records(lab) == ()


@pytest.mark.placement("instance")  # which is all the same to this
def test_an_eni_alone(lab: Lab, files: dict[str, Path]) -> None:
    where = ("--lab", lab.record.name)
    assert "at 1 ENI" in sgdp("trial", "start", str(files["after"]), "--eni", "eni-b", *where)
    assert {seen.line.change.eni_id for seen in trials.read(lab, "trial1").lines} == {"eni-b"}
