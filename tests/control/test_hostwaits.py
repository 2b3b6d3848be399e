"""SgdpWait and SgdpDescribeHosts over hosts that relays serve."""

from __future__ import annotations

import threading
import time

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts import status, waits
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.hosts.status import HostBoard
from sgdataplane.control.service import dispatch
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.store.audit import local_call
from sgdataplane.store.hosts import add_host, forget_host, revoke_host
from sgdataplane.store.interface import Body, Json, UnavailableError
from tests.control.test_service import Bench, Somewhere
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.inputs.summaries import host, summary
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.memorystore import MemoryStore


class ManyHosts(Bench):
    """A store with the hosts a and b, a VPC for each, and no place in this process. `enis`: of the hosts."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.engine = Engine(self.store, "seed", counted_ids())
        self.client = Client(self.engine)
        self.following = Following(self.engine, [])
        self.at = [time.time()]
        self.board = HostBoard(self.store, lambda: self.at[0])
        self.service = ApiService(
            self.engine, self.store, self.following, board=self.board, heavy=HeavyAnswers(self.engine.profile)
        )
        self.vpcs = {}
        for name in ("a", "b"):
            add_host(self.store, local_call("AddHost"), name)
        self.engine.catch_up()
        for number, name in enumerate(("a", "b")):
            self.vpcs[name], switch = self.client.network(f"10.{number}.0.0/16")
            asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": self.client.group(self.vpcs[name])}
            self.client.asked("RunInstances", {"SgdpHost": name}, **asked)

    def say(self, **hosts: dict[str, Json]) -> None:
        """Of two relays, each with its own hosts."""
        for name, said in hosts.items():
            self.store.put_summary(f"r-{name}", summary(self.engine.revision, {name: said}, time=self.at[0]))

    def result(self, **asked: Json) -> dict[str, list[str]]:
        answer = self.ask("SgdpWait", **{"Timeout": 0, **asked})
        failed = [one["Host"] for one in answer["Failed"]]
        return {
            name: found
            for name in ("Enforced", "Lagging", "Failed", "Unknown")
            if (found := failed if name == "Failed" else answer[name])
        }


@pytest.fixture
def many() -> ManyHosts:
    return ManyHosts()


def test_a_host_is_done_once_it_says_so(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last), b=host(last - 1, needed=last))
    assert many.result() == {"Enforced": ["a"], "Lagging": ["b"]}
    many.say(b=host(last, needed=last))
    assert many.result() == {"Enforced": ["a", "b"]}


def test_what_another_server_has_committed_is_waited_for(many: ManyHosts) -> None:
    """A client asks several in turn, and its own last change is what it means."""
    last = many.engine.revision
    many.say(a=host(last), b=host(last))
    assert many.result() == {"Enforced": ["a", "b"]}
    Client(Engine(many.store, "seed", counted_ids())).group(many.vpcs["a"])
    assert many.engine.revision == last
    assert many.result() == {"Lagging": ["a", "b"]}


def test_a_wait_ends_when_the_last_host_says_so(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last), b=host(last - 1, needed=last))
    timer = threading.Timer(0.5, lambda: many.say(b=host(last)))
    timer.start()
    began = time.monotonic()
    assert many.result(Timeout=300) == {"Enforced": ["a", "b"]}
    assert 0.4 < time.monotonic() - began < 300
    timer.join()


def test_a_wait_looks_again_as_soon_as_that_costs_little(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when it looks whether the service stops."""
    monkeypatch.setattr(dispatch, "STEP_S", 3_600.0)
    last = many.engine.revision
    many.say(a=host(last), b=host(last - 1, needed=last))
    ended = threading.Thread(target=lambda: many.result(Timeout=3_600), daemon=True)
    ended.start()
    wait_until(lambda: many.board.known["b"].needed == last)
    many.say(b=host(last))
    ended.join(DEADLINE)
    assert not ended.is_alive()


def test_who_waits_pauses_in_proportion_to_what_a_look_costs(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    many.say(a=host(0), b=host(0))
    for _ in range(2):
        many.board.look()
    assert many.board.pause_s < status.LONGEST_S
    monkeypatch.setattr(status, "REST", 1e9)
    assert many.board.pause_s == status.LONGEST_S


def test_a_store_that_is_away_is_asked_no_more_often_than_one_that_answers(
    many: ManyHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    many.say(b=host(7))
    asked = list[int]()

    def fail(_mark: object) -> dict[str, Json]:
        asked.append(1)
        raise UnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(many.store, "new_summaries", fail)
        for _ in range(100):
            assert many.board.look(3_600.0) == {}
    assert len(asked) == 1
    assert many.board.look()["b"].enforced.revision == 7, "it is read once it can be"


def test_a_relay_that_has_nothing_new_is_neither_read_again_nor_forgotten(
    many: ManyHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()
    read_status = status._read_status

    def note(relay: str, summary: Body, said: Body) -> status.HostStatus:
        read.append(relay)
        return read_status(relay, summary, said)

    monkeypatch.setattr(status, "_read_status", note)
    many.say(a=host(1), b=host(1))
    first = many.board.look()
    assert many.board.look() is first, "who has looked needn't look again"
    many.say(b=host(2))
    words = many.board.look()
    assert (words["a"].enforced.revision, words["b"].enforced.revision) == (1, 2)
    assert words["b"].enforced.revision == 2
    assert read == ["r-a", "r-b"], "what is said of a host is read once, when somebody asks"


def test_a_relay_becomes_silent_although_nothing_is_read(many: ManyHosts) -> None:
    many.say(a=host(1))
    assert many.board.look()["a"].is_connected
    many.at[0] += 16
    assert not many.board.look()["a"].is_connected
    many.say(a=host(1))
    assert many.board.look()["a"].is_connected


def test_a_host_that_has_changed_relays_is_where_it_came_last(many: ManyHosts) -> None:
    """The second relay says nothing new when the first one says that the host has gone."""

    def put(relay: str, since: float, *, connected: bool = True) -> None:
        said = host(1, since=since, connected=connected)
        many.store.put_summary(relay, summary(1, {"a": said}, time=many.at[0]))

    put("r1", many.at[0] + 10)  # its clock is ahead
    put("r2", many.at[0])
    assert many.board.look()["a"].relay == "r1"
    put("r1", many.at[0] + 10, connected=False)
    word = many.board.look()["a"]
    assert (word.relay, word.is_connected) == ("r2", True)


def test_the_reports_that_are_kept_are_bounded(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_RELAYS", 3)
    for number in range(5):
        many.store.put_summary(f"r{number}", summary(1, {f"h{number}": host(1)}, time=many.at[0]))
        many.board.look()
    assert many.board.relays() == 3
    monkeypatch.setattr(status, "MAX_WORDS", 2)
    many.store.put_summary("r0", summary(1, {"h0": host(1)}, time=many.at[0]))
    assert "h0" in many.board.look()
    assert many.board.relays() == 2


def test_a_silent_host_is_unknown_and_nobody_waits_for_it(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last), b=host(last))
    assert many.result(Timeout=30) == {"Enforced": ["a", "b"]}  # control
    many.at[0] += 16
    many.say(a=host(last))
    began = time.monotonic()
    assert many.result(Timeout=300) == {"Enforced": ["a"], "Unknown": ["b"]}
    many.say(b=host(last, connected=False, age=16.0))
    assert many.result(Timeout=300) == {"Enforced": ["a"], "Unknown": ["b"]}
    assert time.monotonic() - began < 300


def test_a_host_that_fails_is_waited_for_a_moment(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says may be of the revision before."""
    monkeypatch.setattr(waits, "FAILED_S", 0.6)
    last = many.engine.revision
    failing = host(last - 1, needed=last, error="no space left")
    many.say(a=host(last), b=failing)
    answer = many.ask("SgdpWait", Timeout=30)
    assert answer["Failed"] == [{"Host": "b", "Message": "no space left"}]
    timer = threading.Timer(0.3, lambda: many.say(b=host(last)))
    timer.start()
    assert many.result(Timeout=30) == {"Enforced": ["a", "b"]}
    timer.join()


def test_with_a_vpc_only_hosts_with_its_enis_count(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last))
    assert many.result() == {"Enforced": ["a"], "Unknown": ["b"]}
    assert many.result(VpcId=many.vpcs["a"]) == {"Enforced": ["a"]}
    assert many.result(VpcId=many.vpcs["b"]) == {"Unknown": ["b"]}


def test_a_revoked_host_counts_as_long_as_something_is_bound_to_it(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last))
    revoke_host(many.store, local_call("RevokeHost"), "b")
    add_host(many.store, local_call("AddHost"), "c")
    revoke_host(many.store, local_call("RevokeHost"), "c")
    many.engine.catch_up()
    many.say(a=host(last))
    assert many.result() == {"Enforced": ["a"], "Unknown": ["b"]}


def test_places_and_hosts_are_in_one_answer(many: ManyHosts) -> None:
    place = Somewhere()
    many.following = Following(many.engine, [place])
    many.service = ApiService(many.engine, many.store, many.following, heavy=HeavyAnswers(many.engine.profile))
    last = many.engine.revision
    with many.following:
        many.say(a=host(last), b=host(last - 1, needed=last))
        assert many.result() == {"Enforced": ["a"], "Lagging": ["somewhere", "b"]}
        place.may_go_on.set()
        wait_until(lambda: many.result()["Enforced"] == ["somewhere", "a"])
        many.say(b=host(last))
        assert many.result(Timeout=30) == {"Enforced": ["somewhere", "a", "b"]}


def test_hosts_are_described(many: ManyHosts) -> None:
    last = many.engine.revision
    many.say(a=host(last, failed=[{"eni": "eni-1", "why": "refused"}], age=2.0))
    answer = many.ask("SgdpDescribeHosts")
    first, second = answer["Hosts"]["Host"]
    assert answer["TotalCount"] == 2
    assert {key: first[key] for key in ("HostName", "Status", "Connected", "Relay", "Revision", "AgeSeconds")} == {
        "HostName": "a",
        "Status": "Failed",
        "Connected": True,
        "Relay": "r-a",
        "Revision": last,
        "AgeSeconds": 2.0,
    }
    assert first["Failures"]["Failure"] == [{"NetworkInterfaceId": "eni-1", "Message": "refused"}]
    assert len(first["NetworkInterfaceIds"]["NetworkInterfaceId"]) == 1
    assert (second["Status"], second["AgeSeconds"], second["Connected"]) == ("Unknown", -1, False)
    for asked in ({"HostName": ["b"]}, {"VpcId": many.vpcs["b"]}, {"PageSize": 1, "PageNumber": 2}):
        assert [one["HostName"] for one in many.ask("SgdpDescribeHosts", **asked)["Hosts"]["Host"]] == ["b"]


def test_a_host_that_was_never_added_is_described_if_something_is_bound_to_it(many: ManyHosts) -> None:
    forget_host(many.store, local_call("ForgetHost"), "b")
    many.engine.catch_up()
    found = {one["HostName"]: one["CreationTime"] for one in many.ask("SgdpDescribeHosts")["Hosts"]["Host"]}
    assert found["b"] == ""  # the tag names it
    assert found["a"] != ""
    assert many.result() == {"Unknown": ["a", "b"]}
