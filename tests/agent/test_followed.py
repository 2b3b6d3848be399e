"""The real agent follows the API's folder, and says so: what is called enforced is what packets obey."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError, SilentError
from sgdataplane.handover.agentplace import AgentPlace, Enforcement, number_of_cycle
from sgdataplane.handover.publishing import Publisher, name_of_generation
from sgdataplane.store.history import Version
from tests.support.run.users import ALICE, BOB, as_user
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session

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
    publisher.publish(Version(0, 1), {"version": 1, "vpcs": [{"vpc_id": "vpc-none"}]})
    agent.start()
    for revision, state, asked, other in ((2, state_of(WEB), web, dns), (3, state_of(DNS), dns, web)):
        place.put(Version(0, revision), state)
        assert not other.passes(beside=asked)
    assert publisher.version() == Version(0, 3)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where others may go, unlike tmp_path."""
    found = Path(tempfile.mkdtemp(prefix="sgdp-followed-"))
    found.chmod(0o711)
    yield found
    shutil.rmtree(found)


def test_who_owns_the_state_is_told_without_being_root(
    bench: Bench, agent: AgentBench, folder: Path, web: Session, dns: Session
) -> None:
    """As the package lays it out: Alice's folder, which root's group may enter, and root's, which hers may."""
    for name, owner, group in (("state", ALICE, 0), ("door", 0, ALICE)):
        (folder / name).mkdir()
        os.chown(folder / name, owner, group)
        (folder / name).chmod(0o2750)
    publisher, door = Publisher(folder / "state"), folder / "door" / "agent.sock"
    bench.attach()
    agent.state = publisher.current
    agent.configure(status_socket=str(door))
    agent.start()
    with as_user(ALICE):
        AgentPlace(publisher, door).put(Version(0, 2), state_of(WEB))
    assert not dns.passes(beside=web)
    found = (publisher.current / "00.json").stat()
    assert (found.st_uid, found.st_gid) == (ALICE, 0), "root's group may read it"
    with as_user(ALICE):
        told = ask(door, Request.STATUS)
        with pytest.raises(HostError, match="only the status"):
            ask(door, Request.RELOAD)
        with pytest.raises(HostError, match="ermission"):
            ask(agent.socket, Request.STATUS)
    assert told["status"] == {
        "state": {
            "path": str(publisher.current),
            "generation": name_of_generation(Version(0, 2)),
            "refused": None,
            "error": None,
        },
        "cycle": {"number": agent.status()["cycle"]["number"], "error": None},
        "enis": [{"eni": "eni-a", "outcome": "in force", "error": None}],
        "trials": [],
    }
    with as_user(BOB), pytest.raises(HostError, match="ermission"):
        ask(door, Request.STATUS)
    with as_user(BOB, ALICE), pytest.raises(HostError, match="the owner of the state may ask"):
        ask(door, Request.STATUS)


def test_a_folder_that_others_can_write_is_not_followed(
    bench: Bench, agent: AgentBench, publisher: Publisher, web: Session, dns: Session
) -> None:
    bench.attach()
    place = AgentPlace(publisher, agent.socket)
    publisher.publish(Version(0, 1), {"version": 1, "vpcs": [{"vpc_id": "vpc-none"}]})
    agent.start()
    place.put(Version(0, 2), state_of(WEB))
    publisher.folder.chmod(0o777)
    with pytest.raises(HostError, match=r"InvalidSource\.Writable"):
        place.put(Version(0, 3), state_of(DNS))
    assert not dns.passes(beside=web), "the policy before stays"
    publisher.folder.chmod(0o755)
    place.put(Version(0, 4), state_of(DNS))
    assert not web.passes(beside=dns)


def test_what_nobody_says_is_not_called_enforced(
    bench: Bench, agent: AgentBench, publisher: Publisher, tmp_path: Path
) -> None:
    bench.attach()
    with pytest.raises(SilentError, match="no agent"):
        AgentPlace(publisher, agent.socket).put(Version(0, 1), state_of(WEB))
    agent.start()
    with pytest.raises(HostError, match="reads"):
        AgentPlace(Publisher(tmp_path / "other"), agent.socket).put(Version(0, 1), state_of(WEB))
    AgentPlace(publisher, agent.socket).put(Version(0, 2), state_of(DNS))
    assert agent.outcomes() == {"eni-a": "in force"}


def test_generations_share_what_has_not_changed_and_old_ones_go(publisher: Publisher) -> None:
    for revision in range(1, 8):
        instances = [{"instance_id": f"i-{number}"} for number in range(revision)]
        publisher.publish(Version(0, revision), {"version": 1, "vpcs": [{"vpc_id": "vpc-a"}], "instances": instances})
    names = sorted(entry.name for entry in (publisher.folder / "generations").iterdir())
    assert names == [f"{revision:012}" for revision in (5, 6, 7)]
    first, last = (publisher.folder / "generations" / names[at] for at in (0, -1))
    shared = {path.name for path in first.iterdir() if path.stat().st_ino == (last / path.name).stat().st_ino}
    assert any(name.startswith("vpcs-") for name in shared)


def test_what_is_older_than_the_folder_is_refused_and_a_new_epoch_followed(publisher: Publisher) -> None:
    """An older store has no say until somebody says that it's meant."""
    document = {"version": 1, "vpcs": [{"vpc_id": "vpc-a"}]}
    for version in (Version(0, 7), Version(0, 7), Version(5, 3), Version(5, 4)):
        publisher.publish(version, document)
        assert publisher.version() == version
    for older in (Version(0, 8), Version(4, 9), Version(5, 3)):
        with pytest.raises(HostError, match=r"revision 4 of epoch 5, and the store .*sgdp api restored"):
            publisher.publish(older, {"version": 1})
    assert publisher.version() == Version(5, 4)
    names = [name_of_generation(version) for version in (Version(0, 7), Version(5, 3), Version(5, 4))]
    assert {entry.name for entry in (publisher.folder / "generations").iterdir()} == set(names)


def test_an_operator_may_go_back_and_what_was_later_is_gone(publisher: Publisher) -> None:
    """Also to a version whose folder is still there, and to the very one that is current."""
    for revision in (5, 6, 7):
        publisher.publish(Version(0, revision), {"version": 1, "vpcs": [{"vpc_id": f"vpc-{revision}"}]})
    for version, text in ((Version(0, 6), "vpc-back"), (Version(0, 6), "vpc-again"), (Version(0, 2), "vpc-two")):
        publisher.publish(version, {"version": 1, "vpcs": [{"vpc_id": text}]}, always=True)
        assert publisher.version() == version
        assert any(text in file.read_text("utf-8") for file in publisher.current.iterdir())
        names = [entry.name for entry in (publisher.folder / "generations").iterdir()]
        assert max(names) == name_of_generation(version)


def test_attached_enis_are_told_whatever_is_in_force(bench: Bench, agent: AgentBench, publisher: Publisher) -> None:
    bench.attach()
    place = AgentPlace(publisher, agent.socket)
    publisher.publish(Version(0, 1), {"version": 1})
    agent.start()
    status = asyncio.run(place.hear(0))
    assert place.judge(status, Version(0, 1)) == Enforcement(True, (), ("eni-a",)), "closed: the state doesn't have it"
    assert place.judge(status, Version(0, 2)) == Enforcement(attached=("eni-a",)), "the agent has not come to it"
    publisher.publish(Version(0, 3), {"version": 1, "vpcs": [{"vpc_id": 7}]})
    found = place.judge(asyncio.run(place.hear(number_of_cycle(status))), Version(0, 3))
    assert (bool(found.error), found.attached) == (True, ("eni-a",)), "it is told after the next cycle"


def test_who_waits_for_an_agent_that_ends_is_told(bench: Bench, agent: AgentBench, publisher: Publisher) -> None:
    bench.attach()
    publisher.publish(Version(0, 1), {"version": 1})
    agent.start()
    place = AgentPlace(publisher, agent.socket)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(asyncio.run, place.hear(agent.cycles))
        agent.end()
        with pytest.raises(SilentError):
            told.result()


def test_what_was_refused_before_says_nothing_of_what_was_published_since(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = name_of_generation(Version(0, 1))
    state = {"path": str(publisher.current), "generation": None, "refused": refused, "error": "bad"}
    told = {"status": {"state": state, "cycle": {"number": 1, "error": None}}}
    monkeypatch.setattr("sgdataplane.handover.agentplace.ask", lambda *_, **__: told)
    place = AgentPlace(publisher, Path("agent.sock"), timeout=0)
    with pytest.raises(HostError, match="bad"):
        place.put(Version(0, 1), state_of(WEB))
    with pytest.raises(SilentError):
        place.put(Version(0, 2), state_of(WEB))


@pytest.mark.parametrize("error", ["", "the registry is locked"])
def test_what_a_failed_cycle_leaves_is_not_called_enforced(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """If a cycle could do nothing, the status has the new generation and what was in force of ENIs before."""
    enis = [{"eni": "eni-a", "outcome": "in force", "error": None}]
    generation = name_of_generation(Version(0, 1))
    state = {"path": str(publisher.current), "generation": generation, "refused": None, "error": None}
    told = {"status": {"state": state, "cycle": {"number": 1, "error": error or None}, "enis": enis}}
    monkeypatch.setattr("sgdataplane.handover.agentplace.ask", lambda *_, **__: told)
    place = AgentPlace(publisher, Path("agent.sock"))
    if error:
        with pytest.raises(HostError, match=error):
            place.put(Version(0, 1), state_of(WEB))
    else:
        place.put(Version(0, 1), state_of(WEB))
