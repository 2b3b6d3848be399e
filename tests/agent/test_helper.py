"""A second process helps where many namespaces need a visit: at a start, after a change, and when all are looked at.
Whatever becomes of it, everything is in force, nothing of it is left, and its commits aren't taken for others'."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sgdataplane.attach import helper, reconcile
from sgdataplane.attach.agenda import NOTHING_HEARD, Heard
from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.reconcile import is_as_reported
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import DEFAULT_MANNER, HostReport
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.cycle import Beside, Reconciler
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood
from sgdataplane.enforce import Desired, build, enforce
from sgdataplane.host import netns
from sgdataplane.host.events import Subscription, number_of
from sgdataplane.host.identity import hold_namespace, identity_of
from sgdataplane.host.links import Links
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.model.state import CloudState
from sgdataplane.nft.commits import EVENT_GROUP, Commit, CommitReader
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.statefile import dump_native
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.statefiles import StateFiles
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.run.processes import list_children
from tests.support.scenes.agentbench import agent_in

pytestmark = pytest.mark.kernel
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number}", f"sg-{number % 2}") for number in range(1, 17)]
RULES = [make_rule(f"ingress tcp {n + 1}/{n + 1} from 0.0.0.0/0", f"sgr-{n}") for n in (0, 1)]
STATE = make_state([make_group(f"sg-{n}", [rule]) for n, rule in enumerate(RULES)], ENIS)
MANY_TIMES = 20
FEW = 5
OWN = round(FEW * reconcile.OWN_SHARE)


@pytest.fixture
def places(lab_name: str, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """A namespace for each of the first ENIs: for FEW, or as many as the test asks for."""
    made = [f"{lab_name}{number}" for number in range(getattr(request, "param", FEW))]
    for place, eni in zip(made, ENIS, strict=False):
        netns.create(place)
        with Links(place) as links:
            links.add_veth("far0", place, "eth0", eni.mac_address)
            links.set_up("far0")
            links.set_up("eth0")
    yield made
    for place in made:
        netns.remove(place)


class Host:
    """Cycles of agents. `ended`: the numbers of the processes that have helped."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry, self._folder = registry, folder
        self.state, self.ended = folder / "state.yaml", list[int]()
        self.write(STATE)

    def write(self, state: CloudState) -> None:
        self.state.write_text(dump_native(state), "utf-8")

    def start(self) -> HostReport:
        """A new agent's first cycle."""
        files = LastGood(self._folder / "var"), ProvenFile(self._folder / "var")
        self.agent = Reconciler(self._registry, *files, Beside(helped=self.ended.append))
        found = self.cycle(Cause.START)
        self.agent.remember()
        return found

    def change(self, state: CloudState) -> HostReport:
        """That agent's next cycle, in which only the state is another one."""
        self.write(state)
        return self.cycle(Cause.STATE, Heard(frozenset(self.last.by_key)))

    def cycle(self, cause: Cause, heard: Heard = NOTHING_HEARD) -> HostReport:
        report = self.agent.run({cause}, StateFiles(self.state), DEFAULT_MANNER, BindRule(), heard)
        assert (report.error, report.policy.refusal) == ("", "")
        assert report.host is not None
        assert {eni.outcome.value for eni in report.host.enis} == {"in force"}
        self.last = report.host
        return self.last


@pytest.fixture
def registry(places: list[str], tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "attached")
    with made.lock():
        made.store(_binding(place, eni.network_interface_id) for place, eni in zip(places, ENIS, strict=False))
    return made


@pytest.fixture
def host(registry: Registry, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Nothing is in force yet. No helper is left behind."""
    monkeypatch.setattr(helper, "MANY", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    before = set(list_children(os.getpid()))
    yield Host(registry, tmp_path)
    assert set(list_children(os.getpid())) == before
    for place in places:
        assert f"table inet {TABLE}" in nft(place, "list tables")
        assert f"table netdev {TABLE}" in nft(place, "list tables")


def _binding(place: str, eni_id: str) -> Binding:
    path = str(netns.path_of(place))
    with hold_namespace(path) as there:
        return Binding(eni_id, "eth0", f"netns {place}", path, identity_of(there))


def changed(report: HostReport) -> list[bool]:
    return [entry.applied is not None and entry.applied.changed for entry in report.namespaces]


def opening(*ports: int) -> CloudState:
    """STATE with these ports in the rules of both groups, too."""
    more = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in ports]
    return make_state([make_group(f"sg-{n}", [rule, *more]) for n, rule in enumerate(RULES)], ENIS)


def test_the_helper_does_its_share_and_the_report_has_it(host: Host, builds: list[object]) -> None:
    assert all(changed(host.start()))
    assert len(builds) == OWN
    assert not any(changed(host.start()))
    assert len(builds) == OWN, "and a restart builds nothing"
    assert len(host.ended) == len(set(host.ended)) == 2


def test_a_restart_has_help_too_and_sees_what_differs(host: Host, places: list[str], builds: list[object]) -> None:
    host.start()
    for place in places:
        nft(place, f"flush chain inet {TABLE} ingress")
    builds.clear()
    assert all(changed(host.start()))
    assert len(builds) == OWN, "the helper has repaired the others"


def test_what_others_do_after_the_helper_was_there_is_noticed(host: Host, places: list[str]) -> None:
    host.start()
    reports = host.start().namespaces
    assert all(map(is_as_reported, reports))
    for place in places:
        nft(place, f"flush chain inet {TABLE} ingress")
    assert not any(map(is_as_reported, reports))


def test_a_change_has_help_and_so_has_the_next_one(host: Host, builds: list[object]) -> None:
    """Of its share, the agent builds nothing before it has time; the next change doesn't wait for that."""
    host.start()
    for ports in ((80,), (80, 81), (81,)):
        builds.clear()
        assert all(changed(host.change(opening(*ports))))
        assert len(builds) == OWN
        assert all(map(is_as_reported, host.last.namespaces))
    builds.clear()
    while host.agent.is_ahead:
        host.agent.build_one()
    assert len(builds) == FEW - OWN
    for entry in host.last.namespaces:
        interfaces = {eni.binding.eni_id: "eth0" for eni in entry.enis}
        assert entry.proven is not None
        assert entry.proven.table == build(Desired(opening(81), interfaces, DEFAULT_MANNER.options)).table
    assert len(host.ended) == 4


def test_both_processes_begin_with_what_narrows(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """sg-0 narrows and sg-1 widens. By groups alone, the agent would have those of one, and the helper of the other."""
    host.start()
    shares, narrowing = (
        list[list[str]](),
        {eni.network_interface_id for eni in ENIS if "sg-0" in eni.security_group_ids},
    )

    @contextmanager
    def noted(work: helper.Work, *_: object) -> Iterator[helper.Handed]:
        ids = {entry.key: entry.enis[0].binding.eni_id for entry in host.last.namespaces}
        shares[:] = [[ids[key] for key in ids if key not in work], [ids[key] for key in work]]
        yield helper.Handed()

    monkeypatch.setattr(reconcile, "helper", noted)
    more = [[], [RULES[1], make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-80")]]
    host.change(make_state([make_group(f"sg-{n}", rules) for n, rules in enumerate(more)], ENIS))
    own, theirs = shares
    assert own
    assert all(narrowing.intersection(share) for share in shares)
    assert [eni in narrowing for eni in theirs] == sorted((eni in narrowing for eni in theirs), reverse=True)


def test_what_does_not_change_and_what_something_was_heard_of_is_not_the_helpers(host: Host) -> None:
    host.start()
    (first, *others), state = host.last.by_key, opening(80)
    host.ended.clear()
    host.change(STATE)
    host.write(state)
    host.cycle(Cause.STATE, Heard(frozenset([first]), order=others))
    assert not host.ended
    assert all(map(is_as_reported, host.last.namespaces))


def test_who_looks_at_everything_has_help(host: Host, builds: list[object]) -> None:
    host.start()
    while host.agent.is_ahead:
        host.agent.build_one()
    builds.clear()
    for cause, is_changing in ((Cause.TIMER, False), (Cause.RESYNC, True)):
        host.ended.clear()
        assert set(changed(host.cycle(cause))) == {is_changing}
        assert (len(host.ended), len(builds)) == (1, 0)
        assert all(map(is_as_reported, host.last.namespaces))


@dataclass
class Ear:
    """Hears who commits what to our tables there. `numbers`: of the namespaces."""

    numbers: set[int]
    told: Subscription
    _reader: CommitReader = field(default_factory=lambda: CommitReader(TABLE))
    commits: list[Commit] = field(default_factory=list)

    def listen(self) -> None:
        messages, is_lossy = self.told.read()
        assert not is_lossy
        there = [m for m in messages if m.number in self.numbers]
        self.commits += [c for m in there for c in self._reader.read(m.number or 0, m.kind, m.payload)]

    def has_heard_of_all(self) -> bool:
        """Whether each of the namespaces has another policy."""
        self.listen()
        stamped = {c.number for c in self.commits if any(what.endswith(f": {STAMP_MAP}") for what, _ in c.changes)}
        return stamped == self.numbers


@pytest.mark.daemon
@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("places", [helper.MANY], indirect=True)
def test_an_agent_takes_a_helpers_commits_for_its_own(places: list[str], tmp_path: Path) -> None:
    with agent_in(tmp_path) as agent, closing(Subscription(NETLINK_NETFILTER, (EVENT_GROUP,))) as told:
        agent.write(STATE)
        agent.start()
        ear = Ear({number_of(place) for place in places}, told)
        assert len(ear.numbers) >= helper.MANY
        for ports in ((80,), (80, 81), (81,)):
            agent.reload()
            ear.listen()
            ear.commits.clear()
            agent.write(opening(*ports))
            wait_until(ear.has_heard_of_all)
            assert len({commit.process for commit in ear.commits}) == min(2, len(os.sched_getaffinity(0)))
        agent.reload()
        assert agent.events("drift") == []
        nft(places[0], f"flush chain inet {TABLE} ingress")
        agent.wait_for_event("drift", 1)
        assert len(agent.events("drift")) == 1


def test_a_few_namespaces_need_no_helper(host: Host, builds: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "MANY", FEW + 1)
    assert all(changed(host.start()))
    assert len(builds) == FEW


def test_without_room_for_a_process_all_is_done_here(
    host: Host, builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError

    ended = list[int]()
    before = len(os.listdir("/proc/self/fd"))
    with helper.helper({}, lambda: None, ended.append):
        pass
    monkeypatch.setattr(os, "fork", refuse)
    for _ in range(MANY_TIMES):
        with helper.helper({}, lambda: None, ended.append) as handed:
            pass
        assert handed == helper.Handed()
    # fewer, if sockets of an earlier test have been closed meanwhile
    assert len(os.listdir("/proc/self/fd")) < before + MANY_TIMES, "each time something stays open"
    assert all(changed(host.start()))
    assert len(builds) == FEW


@pytest.mark.parametrize("commits", range(0, 12, 3))
def test_a_helper_that_is_killed_somewhere_leaves_its_work_to_us(
    host: Host, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    parent, commit, left = os.getpid(), NetlinkKernel.run, [commits]

    def dying(kernel: object, *transactions: object) -> None:
        if os.getpid() != parent:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        commit(kernel, *transactions)  # type: ignore[arg-type]

    monkeypatch.setattr(NetlinkKernel, "run", dying)
    host.start()


def test_a_helper_that_hangs_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "MARGIN_S", 0.0)
    parent, commit = os.getpid(), NetlinkKernel.run

    def hanging(kernel: object, *transactions: object) -> None:
        if os.getpid() != parent:
            time.sleep(600)
        commit(kernel, *transactions)  # type: ignore[arg-type]

    monkeypatch.setattr(NetlinkKernel, "run", hanging)
    assert all(changed(host.start()))


def test_a_helper_that_fails_in_one_namespace_hands_back_the_others(
    host: Host, builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, real, left = os.getpid(), enforce, [1]

    def failing(*arguments: object) -> object:
        if os.getpid() != parent and left[0]:
            left[0] -= 1
            raise ValueError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reconcile, "enforce", failing)
    assert all(changed(host.start()))
    assert len(builds) == OWN + 1
