"""A restart with everything in force needs no build, and notices all that a build would have noticed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.report import DEFAULT_MANNER
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.cycle import CycleReport, Reconciler
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood
from tests.support.inputs.statefiles import StateFiles
from tests.support.kernel.nft import listing, nft
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.daemon
Cycle = Callable[..., CycleReport]


@pytest.fixture
def reconcilers() -> list[Reconciler]:
    """The last one that was started."""
    return []


@pytest.fixture
def restarted(bench: Bench, agent: AgentBench, reconcilers: list[Reconciler]) -> Cycle:
    """A cycle of a new agent, in this process, after the real one has enforced the state and ended."""
    bench.attach()
    agent.start()
    agent.end()

    def cycle(cause: Cause = Cause.START) -> CycleReport:
        if cause is Cause.START:
            reconcilers[:] = [Reconciler(bench.registry, LastGood(agent.var), proven_file=ProvenFile(agent.var))]
        report = reconcilers[0].run({cause}, StateFiles(agent.folder / "state.yaml"), DEFAULT_MANNER, BindRule())
        assert report.host is not None
        reconcilers[0].remember()
        assert [eni.outcome.value for eni in report.host.enis] == ["in force"]
        return report

    return cycle


def applied(report: CycleReport) -> tuple[bool, bool]:
    """Whether anything was changed, and whether all was written anew."""
    assert report.host is not None
    (entry,) = report.host.namespaces
    assert entry.applied is not None
    return entry.applied.changed, entry.applied.is_full_resync


def test_it_builds_nothing_until_something_changes(
    bench: Bench, agent: AgentBench, restarted: Cycle, builds: list[object], *, web: Session, dns: Session
) -> None:
    before = listing(bench.place, TABLE)
    assert applied(restarted()) == (False, False)
    assert (builds, listing(bench.place, TABLE)) == ([], before)
    assert not dns.passes(beside=web)
    agent.write(state_of(WEB, DNS))
    assert applied(restarted(Cause.STATE)) == (True, False)
    assert len(builds) == 2, "what was in force, and what comes"
    assert dns.passes(beside=web)
    agent.write(state_of(WEB))
    assert applied(restarted(Cause.STATE)) == (True, False)
    assert not dns.passes(beside=web)


def test_what_is_in_force_is_built_when_there_is_time(
    agent: AgentBench, restarted: Cycle, reconcilers: list[Reconciler], builds: list[object]
) -> None:
    restarted()
    (reconciler,) = reconcilers
    assert reconciler.is_ahead
    reconciler.build_one()
    assert (len(builds), reconciler.is_ahead) == (1, False)
    agent.write(state_of(WEB, DNS))
    restarted(Cause.STATE)
    assert (len(builds), reconciler.is_ahead) == (2, False)


def test_it_notices_a_state_that_changed_meanwhile(
    agent: AgentBench, restarted: Cycle, builds: list[object], web: Session, dns: Session
) -> None:
    agent.write(state_of(WEB, DNS))
    assert applied(restarted()) == (True, True)
    assert len(builds) == 1
    assert dns.passes(beside=web)


@pytest.mark.parametrize(
    "drift", [f"flush table inet {TABLE}", f"delete table inet {TABLE}", f"insert rule inet {TABLE} ingress accept"]
)
def test_it_notices_what_others_did_meanwhile(
    bench: Bench, restarted: Cycle, builds: list[object], drift: str, *, web: Session, dns: Session
) -> None:
    nft(bench.place, drift)
    assert applied(restarted())[0]
    assert len(builds) == 1
    assert not dns.passes(beside=web)


def test_it_notices_a_missing_fence(bench: Bench, restarted: Cycle, builds: list[object]) -> None:
    nft(bench.place, f"delete table netdev {TABLE}")
    assert applied(restarted())[0]
    assert len(builds) == 1
    assert "hook egress" in listing(bench.place, TABLE, "netdev")


@pytest.mark.parametrize("way", ["another program's", "damaged", "missing"])
def test_without_a_file_of_this_program_it_builds(
    agent: AgentBench, restarted: Cycle, builds: list[object], way: str
) -> None:
    path = ProvenFile(agent.var).path
    if way == "missing":
        path.unlink()
    elif way == "damaged":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        path.write_text(json.dumps({**json.loads(path.read_text("ascii")), "program": "0" * 64}), "ascii")
    assert applied(restarted()) == (False, False)
    assert len(builds) == 1
    assert applied(restarted()) == (False, False)
    assert len(builds) == 1, "the file was written again"


def test_what_an_earlier_process_made_otherwise_is_built_again(
    bench: Bench, agent: AgentBench, restarted: Cycle, web: Session, dns: Session
) -> None:
    """As if it had made another table of the same state. That shows when the table is needed."""
    path = ProvenFile(agent.var).path
    document = json.loads(path.read_text("ascii"))
    document["tables"] = {inputs: ["0" * 32, *rest] for inputs, (_, *rest) in document["tables"].items()}
    path.write_text(json.dumps(document), "ascii")
    with pytest.raises(AssertionError, match="refused"):
        restarted()
    assert not dns.passes(beside=web)
    before = listing(bench.place, TABLE)
    assert applied(restarted(Cause.RETRY)) == (False, False)
    assert listing(bench.place, TABLE) == before
    assert not dns.passes(beside=web)
