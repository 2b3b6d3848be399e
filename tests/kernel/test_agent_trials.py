"""The agent's trials in real namespaces: beside history, beside others who commit, and where something has gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.attach.modes import HostModes
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, Key, NamespaceReport
from sgdataplane.contract.counters import TRIAL_GROUP
from sgdataplane.contract.tables import TRIALS
from sgdataplane.daemon import trialplans
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.trials import BUSY, Trials
from sgdataplane.enforce import ApplyReport, Desired, build
from sgdataplane.history import file
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.place import RecordedPlace
from sgdataplane.history.read import open_history
from sgdataplane.history.recorder import Recorder
from sgdataplane.history.rows import Fate
from sgdataplane.host import netns
from sgdataplane.host.files import Survives
from sgdataplane.host.identity import Identity
from sgdataplane.host.nflog import Nflog
from sgdataplane.model.modes import until_text
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.trial.record import MAX_S, TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.pair import HERE, Pair, Session, desired_at, made_pair

pytestmark = pytest.mark.kernel
OPEN, OTHER, THIRD = 5000, 5001, 5002


def state_of(*ports: int) -> CloudState:
    rules = [make_rule(f"ingress udp {port}/{port} from {HERE['peer'][0]}/32", f"sgr-{port}") for port in ports]
    return make_state([make_group("sg-a", rules)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")])


class Trying:
    """Trials of an agent that enforces at some namespaces, each of which is named as a router is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.registry = TrialFolder(folder / "trials", Survives.THE_WRITER), Registry(folder / "attached")
        self.beats = 0
        self.ahead = 0.0  # seconds that its clock is
        self.trials = Trials(self.folder, self.registry, self.beat, now=lambda: time.time() + self.ahead)

    def beat(self) -> None:
        self.beats += 1

    def cycle(self, state: CloudState, *keys: Key, modes: HostModes = HostModes()) -> None:  # noqa: B008
        """A cycle that enforces this state in these namespaces."""
        proven = build(Desired(state, {"eni-a": "eth0"}))
        binding = Binding("eni-a", "eth0", "w", "/run/netns/none", Identity(1, 2))
        enis, applied = (EniReport(binding, EniOutcome.IN_FORCE),), ApplyReport(1, 0, 0, 0, 0.1)
        host = HostReport(tuple(NamespaceReport(key, enis, proven, applied) for key in keys))
        policy = Policy(state, Origin.STATE)
        self.trials.note_cycle(CycleReport(frozenset({Cause.STATE}), policy, host, "", "", 0.1, modes=modes))

    def keep(self, *ports: int, seconds: float = 3600.0) -> None:
        """As `sgdp trial start` writes it."""
        now = time.time()
        self.folder.add(TrialRecord("t", "after.yaml", (), now, now + seconds), state_of(*ports))

    def begin(self, *ports: int) -> None:
        self.keep(*ports)
        self.trials.begin("t")
        self.wait_until(lambda: self.report().paused == "")

    def report(self) -> TrialReport:
        found = self.trials.report("t")
        assert found is not None
        return found

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        def served() -> bool:
            self.trials.serve()
            return is_so()

        wait_until(served)

    def lines(self) -> set[tuple[bool, int]]:
        """Whether each opens, and its first port."""
        changes = [seen.line.change for seen in self.report().lines]
        return {(change.is_opening, change.ranges[-1][0]) for change in changes if change.ranges[-1] is not None}


@pytest.fixture
def trying(tmp_path: Path) -> Iterator[Trying]:
    found = Trying(tmp_path)
    with closing(found.trials):
        yield found


def tables(place: str) -> list[str]:
    return [line for line in nft(place, "list tables").splitlines() if TRIALS in line]


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name, "instance") as pair:
        enforce(pair["policy"], desired_at(pair, state_of(OPEN)))
        yield pair


def test_a_recorder_and_a_trial_in_one_namespace_both_get_their_samples(
    trying: Trying, pair: Pair, tmp_path: Path
) -> None:
    """Whichever comes first: each has an nflog group of its own."""
    place, peer = pair["policy"], HERE["peer"][0]
    recorder = Recorder(tmp_path / file.NAME, HistoryLimits(86400, 16 << 20), "boot")
    with closing(recorder):
        recorder.set_state(state_of(OPEN), DEFAULTS)
        recorder.set_places([RecordedPlace(place, "", "w", "eni-a", {"eni-a": "eth0"}, Placement.INSTANCE)])
        wait_until(lambda: run(recorder) and recorder.status.places == 1)
        trying.cycle(state_of(OPEN), place)
        trying.begin(OTHER)
        with Session(pair, OPEN) as session:
            session.must_pass()
        trying.wait_until(lambda: any(seen.ends == (peer,) for seen in trying.report().lines))
        wait_until(lambda: run(recorder) and ends(tmp_path / file.NAME) == [(peer, OPEN)])
        assert trying.report().unsampled == ()
        assert recorder.status.silent == {}


def run(recorder: Recorder) -> bool:
    recorder.round()
    return True


def ends(path: Path) -> list[tuple[str, int | None]]:
    with open_history(path) as history:
        return [(row.key.end, row.key.port) for row in history.flows() if row.key.fate is Fate.ACCEPT]


def test_where_somebody_else_listens_that_is_said_and_tried_again(
    trying: Trying, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    place = pair["policy"]
    with netns.inside(place):
        theirs = Nflog(TRIAL_GROUP)
    with closing(theirs):
        trying.cycle(state_of(OPEN), place)
        trying.begin(OTHER)
        (said,) = trying.report().unsampled
        assert place in said
        assert "another process listens already" in said
        assert caplog.text.count("trial-not-sampled") == 1
        assert TrialReport.of(trying.report().as_plain()) == trying.report()
    assert trying.report().unsampled == ()
    with Session(pair, OPEN) as session:
        session.must_pass()
    trying.wait_until(lambda: any(seen.ends for seen in trying.report().lines))


@pytest.mark.parametrize("key", ["router", Identity(1, 2)], ids=["router", "workload"])
def test_a_namespace_that_ended_is_lost_alone(
    trying: Trying, pair: Pair, make_lab_name: Callable[[], str], key: Key
) -> None:
    """Between a cycle and the moment when a trial follows it."""
    place, other = pair["policy"], key if isinstance(key, Identity) else make_lab_name()
    if isinstance(other, str):
        netns.create(other)
    trying.cycle(state_of(OPEN), other, place)
    if isinstance(other, str):
        netns.remove(other)
    trying.begin(OTHER)
    assert len(tables(place)) == 1
    assert trying.lines() == {(False, OPEN), (True, OTHER)}
    trying.cycle(state_of(OPEN, THIRD), other, place)
    trying.wait_until(lambda: (False, THIRD) in trying.lines())
    assert trying.report().paused == ""
    trying.trials.stop("t")
    assert tables(place) == []


def test_while_another_process_of_ours_commits_a_trial_waits(trying: Trying, pair: Pair) -> None:
    place = pair["policy"]
    trying.cycle(state_of(OPEN), place)
    trying.keep(OTHER)
    with trying.registry.lock():
        trying.trials.begin("t")
        trying.wait_until(lambda: trying.report().paused == BUSY)
        assert tables(place) == []
    trying.wait_until(lambda: len(tables(place)) == 1)
    assert trying.report().paused == ""
    with trying.registry.lock():
        trying.trials.stop("t")
        assert len(tables(place)) == 1
    trying.wait_until(lambda: tables(place) == [])


def test_the_heart_beats_between_namespaces(trying: Trying, make_lab_name: Callable[[], str]) -> None:
    places = [make_lab_name() for _ in range(5)]
    for place in places:
        netns.create(place)
    try:
        trying.cycle(state_of(OPEN), *places)
        trying.begin(OTHER)
        assert trying.beats >= 2 * len(places)  # it looked for old tables, and made new ones
        before = trying.beats
        trying.report()
        assert trying.beats == before + len(places)
        trying.trials.stop("t")
        assert trying.beats >= before + 2 * len(places)
    finally:
        for place in places:
            netns.remove(place)


def test_a_plan_of_a_trial_that_was_stopped_is_not_taken_for_the_next_one_of_its_name(
    trying: Trying, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is made when the trial is stopped and another one begins."""
    trying.cycle(state_of(OPEN), pair["policy"])
    made = list[str]()

    def fill(wanted: trialplans.PlannedTrial, *more: object) -> trialplans.PlannedTrial:
        found = original(wanted, *more)  # type: ignore[arg-type]
        made.append(wanted.name)
        return found

    original = trialplans._fill
    monkeypatch.setattr(trialplans, "_fill", fill)
    trying.keep(OTHER)
    trying.trials.begin("t")
    wait_until(lambda: made == ["t"])  # and nobody has heard of it
    trying.trials.stop("t")
    trying.keep(THIRD)
    trying.trials.serve()
    assert trying.report().lines == ()
    trying.trials.begin("t")
    trying.wait_until(lambda: trying.report().paused == "")
    assert trying.lines() == {(False, OPEN), (True, THIRD)}


def test_a_trial_whose_record_cannot_be_read_ends_with_its_time(trying: Trying, pair: Pair) -> None:
    """Whether it runs, or has never been read."""
    place, path = pair["policy"], trying.folder.path / "t.json"
    trying.cycle(state_of(OPEN), place)
    trying.begin(OTHER)
    path.write_text("{")
    assert (trying.report().paused, len(tables(place))) == ("", 1), "it is known"
    trying.ahead = 3601
    trying.wait_until(lambda: trying.folder.names() == ())
    assert tables(place) == []
    path.write_text("{")
    trying.trials.begin("t")
    trying.wait_until(lambda: "record can't be read" in trying.report().paused)
    assert [record["name"] for record in trying.trials.records_as_json()] == ["t"]
    trying.wait_until(lambda: trying.folder.names() == ("t",))
    trying.ahead = MAX_S + 1
    trying.wait_until(lambda: trying.folder.names() == ())


def test_a_trial_whose_record_cannot_be_read_can_be_stopped(trying: Trying, pair: Pair) -> None:
    trying.cycle(state_of(OPEN), pair["policy"])
    trying.keep(OTHER)
    (trying.folder.path / "t.json").write_text("{")
    trying.trials.begin("t")
    trying.wait_until(lambda: "record can't be read" in trying.report().paused)
    assert trying.trials.stop("t") is not None
    assert trying.folder.names() == ()


def test_the_state_on_trial_is_judged_as_this_host_would_obey_it(trying: Trying, pair: Pair) -> None:
    """An ENI that this host audits would be audited after the change, too; until that ends."""
    place, ends_at = pair["policy"], time.time() + 5
    audited = HostModes({"eni-a": until_text(ends_at)})
    now_in_force, _ = audited.apply(state_of(OPEN), ends_at - 5)
    trying.cycle(now_in_force, place, modes=audited)
    trying.begin(OTHER)
    assert trying.lines() == set(), "nothing is refused, before or after"
    trying.cycle(state_of(OPEN), place, modes=HostModes())
    trying.wait_until(lambda: trying.lines() == {(False, OPEN), (True, OTHER)})
    trying.cycle(now_in_force, place, modes=audited)
    trying.wait_until(lambda: trying.lines() == set())
    trying.ahead = 6  # the state on trial is enforced now, and what is in force isn't yet
    trying.wait_until(lambda: trying.lines() not in (set(), {(False, OPEN), (True, OTHER)}))
    assert {is_opening for is_opening, _ in trying.lines()} == {False}
