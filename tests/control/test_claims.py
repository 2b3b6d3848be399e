"""What hosts claim, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.claims import ACTION, ClaimKeeper, bind, claims
from sgdataplane.control.hosts.status import HostBoard
from sgdataplane.store.audit import local_call
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.hosts import add_host, forget_host, host_of, release_enis, revoke_host
from sgdataplane.store.interface import FullError, Json, Store, Write
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.inputs.summaries import host, summary
from tests.support.probes.flood import wait_until


class Site:
    """A store with the hosts a and b, and four ENIs; the last two are of instances, and tagged, or not."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Engine(store, "seed", counted_ids())
        self.client = Client(self.engine)
        self.board = HostBoard(store)
        self.keeper = ClaimKeeper(self.engine, self.board)
        for name in ("a", "b"):
            add_host(store, local_call("AddHost"), name)
        self.engine.catch_up()
        vpc, switch = self.client.network()
        group = self.client.group(vpc)
        asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": group}
        made = [self.client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked) for _ in range(2)]
        for said in ({"SgdpHost": "b"}, {}):
            self.client.asked("RunInstances", said, **asked)
        enis = self.engine.documents.of_kind[ResourceKind.ENI]
        self.enis = [*made, *sorted(eni for eni in enis if eni not in made)]

    def claim(self, **claimed: Sequence[str]) -> None:
        hosts = {name: host(1, claims=[*enis]) for name, enis in claimed.items()}
        self.store.put_summary("r", summary(self.engine.revision, hosts))

    def bound(self) -> list[str | None]:
        documents = self.engine.documents
        return [host_of(documents, documents.of_kind[ResourceKind.ENI][eni]) for eni in self.enis]


@pytest.fixture
def site(sqlite: SqliteStore) -> Site:
    return Site(sqlite)


def test_what_nobody_has_is_the_claiming_host_s(site: Site) -> None:
    assert site.bound() == [None, None, "b", None]
    before = site.engine.revision
    site.claim(a=[site.enis[0], site.enis[3], "eni-unknown", "", site.enis[0]])
    site.keeper.turn()
    assert site.bound() == ["a", None, "b", "a"]
    assert site.engine.revision == before + 1, "one commit a host"
    record = site.store.events(before)[0].record
    assert (record["action"], record["key"]) == (ACTION, "host/a")
    assert record["changed"] == sorted(f"network_interface/{site.enis[number]}" for number in (0, 3))
    site.keeper.turn()
    assert site.engine.revision == before + 1, "what is bound isn't bound again"


def test_the_later_one_of_two_hosts_loses(site: Site) -> None:
    site.claim(b=site.enis[:1])
    site.keeper.turn()
    site.claim(a=site.enis, b=site.enis[:1])
    site.keeper.turn()
    assert site.bound() == ["b", "a", "b", "a"], "not even what a tag alone binds"


def test_of_two_that_claim_at_once_one_has_it(site: Site) -> None:
    site.claim(b=site.enis[:1], a=site.enis[:1])
    site.keeper.turn()
    assert site.bound()[0] == "a"


def test_a_claim_outlives_what_the_host_says_until_it_is_released(site: Site) -> None:
    """As when it comes back with nothing."""
    site.claim(a=site.enis[:1])
    site.keeper.turn()
    site.claim(a=[], b=site.enis[:1])
    site.keeper.turn()
    assert site.bound()[0] == "a"
    release_enis(site.store, local_call("ForgetHost"), "a", site.enis[:1])
    site.engine.catch_up()
    site.keeper.turn()
    assert site.bound()[0] == "b"


def test_the_only_host_s_claims_are_written_so_that_it_keeps_them(sqlite: SqliteStore) -> None:
    site = Site(sqlite)
    forget_host(site.store, local_call("ForgetHost"), "b")
    site.engine.catch_up()
    assert site.bound() == ["a", "a", "b", "a"]
    site.claim(a=site.enis[:1])
    site.keeper.turn()
    add_host(site.store, local_call("AddHost"), "c")
    site.engine.catch_up()
    assert site.bound() == ["a", None, "b", "a"]


@pytest.mark.parametrize("why", ["revoked", "never added", "silent"])
def test_who_isn_t_heard_claims_nothing(site: Site, why: str) -> None:
    name = "c" if why == "never added" else "a"
    if why == "revoked":
        revoke_host(site.store, local_call("RevokeHost"), "a")
        site.engine.catch_up()
    said = {name: host(1, claims=[site.enis[0]]), "b": host(1, claims=[site.enis[1]])}
    if why == "silent":
        said["a"] |= {"connected": False, "age": 20.0}
    site.store.put_summary("r", summary(1, said))
    site.keeper.turn()
    assert site.bound()[:2] == [None, "b"]  # the second one is a control


def test_what_was_bound_or_revoked_meanwhile_is_left_alone(site: Site) -> None:
    site.engine.change(lambda scope: bind(scope, "b", site.enis[:1]), local_call(ACTION))
    before = site.engine.revision
    site.engine.change(lambda scope: bind(scope, "a", site.enis[:1]), local_call(ACTION))
    revoke_host(site.store, local_call("RevokeHost"), "a")
    site.engine.catch_up()
    site.engine.change(lambda scope: bind(scope, "a", site.enis), local_call(ACTION))
    assert site.engine.revision == before + 1, "that is the revocation"
    assert site.bound() == ["b", None, "b", None]


def test_many_claims_are_bound_in_commits_of_200(site: Site) -> None:
    vpc, switch = site.client.network("10.1.0.0/16")
    group = site.client.group(vpc)
    asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": group}
    made = [site.client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked) for _ in range(210)]
    before = site.engine.revision
    site.claim(a=made)
    site.keeper.turn()
    assert [len(record.record["changed"]) for record in site.store.events(before)] == [200, 10]  # type: ignore[arg-type]
    assert not claims(site.engine.documents, site.board.look(), time.time())


def test_a_thread_binds_them_within_seconds(site: Site) -> None:
    with site.keeper:
        site.claim(a=site.enis[:1])
        wait_until(lambda: site.bound()[0] == "a")


def test_a_thread_goes_on_after_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [ApiError("ServiceUnavailable", "no"), ValueError("a bug")]
    change = Engine.change

    def refuse(*arguments: object) -> object:
        if refusals:
            raise refusals.pop(0)
        return change(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "change", refuse)
    site.claim(a=site.enis[:1])
    with site.keeper:
        wait_until(lambda: site.bound()[0] == "a")
    assert not refusals


def test_two_servers_of_one_store_bind_the_same_claim_once(store: Store) -> None:
    site = Site(store)
    other = Engine(site.store, "seed", counted_ids())
    keepers = [site.keeper, ClaimKeeper(other, HostBoard(site.store))]
    before = site.engine.revision
    site.claim(a=site.enis)
    threads = [threading.Thread(target=keeper.turn) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.engine.catch_up()
    assert site.bound() == ["a", "a", "b", "a"]
    assert site.engine.revision == before + 1


def test_a_full_store_is_told_once_and_claims_count_once_there_is_space(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Write) -> int:
        raise FullError("store: database or disk is full")

    site.claim(a=site.enis[:1], b=site.enis[1:2])
    with monkeypatch.context() as patched:
        patched.setattr(site.store, "commit", full)
        for _ in range(3):
            site.keeper.turn()
        (line,) = caplog.messages
        assert line.startswith("ENIs aren't bound to the hosts that claim them: ServiceUnavailable: The store is full")
    site.keeper.turn()
    assert caplog.messages[1:] == ["ENIs are bound to hosts that claim them again"]
    assert site.bound()[:2] == ["a", "b"]
    site.keeper.turn()
    assert len(caplog.messages) == 2
