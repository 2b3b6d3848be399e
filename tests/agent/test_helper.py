"""A second process helps at a start. Whatever becomes of it, everything is in force, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.attach import helper, reconcile
from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.reconcile import is_as_reported
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import DEFAULT_MANNER
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.cycle import CycleReport, Reconciler
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood
from sgdataplane.enforce import Cache, enforce
from sgdataplane.host import netns
from sgdataplane.host.identity import held, identity_of
from sgdataplane.host.links import Links
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.statefile import dump_native
from tests.support.builders import make_eni, make_group, make_rule, make_state
from tests.support.nft import nft
from tests.support.statefiles import StateFiles

pytestmark = pytest.mark.kernel
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number}", f"sg-{number % 2}") for number in range(1, 6)]
RULES = [make_rule(f"ingress tcp {n + 1}/{n + 1} from 0.0.0.0/0", f"sgr-{n}") for n in (0, 1)]
STATE = make_state([make_group(f"sg-{n}", [rule]) for n, rule in enumerate(RULES)], ENIS)
Start = Callable[[], CycleReport]
MANY_TIMES = 20


def children() -> set[str]:
    """The processes that this one has begun and not waited for; servers of other tests may be among them."""
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


@pytest.fixture
def places(lab_name: str) -> Iterator[list[str]]:
    made = [f"{lab_name}{number}" for number in range(len(ENIS))]
    for place, eni in zip(made, ENIS, strict=True):
        netns.create(place)
        with Links(place) as links:
            links.add_veth("far0", place, "eth0", eni.mac_address)
            links.set_up("far0")
            links.set_up("eth0")
    yield made
    for place in made:
        netns.remove(place)


@pytest.fixture
def start(places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A new agent's first cycle; nothing of a helper is left after it."""
    monkeypatch.setattr(helper, "MANY", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    registry = Registry(tmp_path / "attached")
    with registry.locked():
        registry.store(_binding(place, eni.network_interface_id) for place, eni in zip(places, ENIS, strict=True))
    state = tmp_path / "state.yaml"
    state.write_text(dump_native(STATE), "utf-8")

    def run() -> CycleReport:
        made = Reconciler(registry, LastGood(tmp_path / "var"), proven_file=ProvenFile(tmp_path / "var"))
        report = made.run({Cause.START}, StateFiles(state), DEFAULT_MANNER, BindRule())
        made.remember()
        assert (report.error, report.policy.refusal) == ("", "")
        assert report.host is not None
        assert {eni.outcome.value for eni in report.host.enis} == {"in force"}
        return report

    before = children()
    yield run
    assert children() == before
    for place in places:
        assert f"table inet {TABLE}" in nft(place, "list tables")
        assert f"table netdev {TABLE}" in nft(place, "list tables")


def _binding(place: str, eni_id: str) -> Binding:
    path = str(netns.path_of(place))
    with held(path) as there:
        return Binding(eni_id, "eth0", f"netns {place}", path, identity_of(there))


def changed(report: CycleReport) -> list[bool]:
    assert report.host is not None
    return [entry.applied is not None and entry.applied.changed for entry in report.host.namespaces]


def test_the_helper_does_its_share_and_the_report_has_it(start: Start, builds: list[object]) -> None:
    assert all(changed(start()))
    assert len(builds) == round(len(ENIS) * reconcile.OWN_SHARE)
    assert not any(changed(start()))
    assert len(builds) == round(len(ENIS) * reconcile.OWN_SHARE), "and a restart builds nothing"


def test_a_restart_has_help_too_and_sees_what_differs(start: Start, places: list[str], builds: list[object]) -> None:
    start()
    for place in places:
        nft(place, f"flush chain inet {TABLE} ingress")
    builds.clear()
    assert all(changed(start()))
    assert len(builds) == round(len(ENIS) * reconcile.OWN_SHARE), "the helper has repaired the others"


def test_what_others_do_after_the_helper_was_there_is_noticed(start: Start, places: list[str]) -> None:
    start()
    host = start().host
    assert host is not None
    for place in places:
        nft(place, f"flush chain inet {TABLE} ingress")
    assert not any(is_as_reported(report) for report in host.namespaces)


def test_a_few_namespaces_need_no_helper(start: Start, builds: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "MANY", len(ENIS) + 1)
    assert all(changed(start()))
    assert len(builds) == len(ENIS)


def test_without_room_for_a_process_all_is_done_here(
    start: Start, builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError

    before = len(os.listdir("/proc/self/fd"))
    with helper.helper({}, Cache(), lambda: None):
        pass
    monkeypatch.setattr(os, "fork", refuse)
    for _ in range(MANY_TIMES):
        with helper.helper({}, Cache(), lambda: None) as handed:
            pass
        assert handed == helper.Handed()
    # fewer, if sockets of an earlier test have been closed meanwhile
    assert len(os.listdir("/proc/self/fd")) < before + MANY_TIMES, "each time something stays open"
    assert all(changed(start()))
    assert len(builds) == len(ENIS)


@pytest.mark.parametrize("commits", range(0, 12, 3))
def test_a_helper_that_is_killed_somewhere_leaves_its_work_to_us(
    start: Start, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    parent, commit, left = os.getpid(), NetlinkKernel.run, [commits]

    def dying(kernel: object, *transactions: object) -> None:
        if os.getpid() != parent:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        commit(kernel, *transactions)  # type: ignore[arg-type]

    monkeypatch.setattr(NetlinkKernel, "run", dying)
    start()


def test_a_helper_that_hangs_is_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PATIENCE_S", 0.0)
    parent, commit = os.getpid(), NetlinkKernel.run

    def hanging(kernel: object, *transactions: object) -> None:
        if os.getpid() != parent:
            time.sleep(600)
        commit(kernel, *transactions)  # type: ignore[arg-type]

    monkeypatch.setattr(NetlinkKernel, "run", hanging)
    assert all(changed(start()))


def test_a_helper_that_fails_in_one_namespace_hands_back_the_others(
    start: Start, builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, real, left = os.getpid(), enforce, [1]

    def failing(*arguments: object) -> object:
        if os.getpid() != parent and left[0]:
            left[0] -= 1
            raise ValueError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reconcile, "enforce", failing)
    assert all(changed(start()))
    assert len(builds) == round(len(ENIS) * reconcile.OWN_SHARE) + 1
