"""`sgdp hosts` and `sgdp wait`, as people and programs see them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts import waits
from sgdataplane.store.documents import Documents
from sgdataplane.store.hosts import hosts_in
from sgdataplane.store.interface import Json
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.inputs.summaries import host, summary


class Site:
    """Commands on a store that others use meanwhile."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self._capsys = file, capsys
        self.store = SqliteStore(file)
        self.client = Client(Engine(self.store, "seed", counted_ids()))

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        try:
            found = main([*words, "--store", str(self.file)])
        except SystemExit as error:  # wrong usage
            found = int(str(error.code or 0))
        out, err = self._capsys.readouterr()
        assert found == code, out + err
        return out, err

    def json(self, *words: str, code: int = 0) -> Any:  # noqa: ANN401  # a document
        document = json.loads(self(*words, "--json", code=code)[0])
        assert_conforms("-".join(words[: 2 if words[0] == "hosts" else 1]), document)
        return document

    @property
    def revision(self) -> int:
        return self.store.snapshot().revision

    def instance(self, at: str, block: str = "10.0.0.0/16") -> str:
        """The VPC of a new one, at a host."""
        self.client.engine.catch_up()
        vpc_id, switch = self.client.network(block)
        asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": self.client.group(vpc_id)}
        self.client.asked("RunInstances", {"SgdpHost": at}, **asked)
        return vpc_id

    def say(self, hosts: Mapping[str, dict[str, Json]], **more: Json) -> None:
        self.store.put_summary("relay-1", summary(self.revision, hosts, **more))


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    made = Site(tmp_path / "store", capsys)
    with closing(made.store):
        yield made


# hosts


def test_a_host_is_added_listed_revoked_and_forgotten(site: Site) -> None:
    assert site("hosts")[0] == "no host yet; run `sgdp hosts add` to add one\n"
    assert "common name is web1" in site("hosts", "add", "web1")[0]
    assert site.json("hosts", "add", "web2") == {"host": "web2", "revoked": False}
    out = site("hosts")[0].splitlines()
    assert out[0].split() == ["HOST", "STATUS", "ENFORCED", "AGE", "RELAY", "ENIS", "WHAT", "IS", "WRONG"]
    assert out[1].split() == ["web1", "unknown", "-", "never", "-", "0", "-"]
    assert "its ENIs stay bound to it" in site("hosts", "revoke", "web1")[0]
    assert "revoked" in site("hosts")[0]
    assert site("hosts", "forget", "web1")[0] == "web1 is forgotten, and 0 ENIs released\n"
    assert [*hosts_in(Documents.of(site.store.snapshot()))] == ["web2"]
    assert [record.record["action"] for record in site.store.events()] == [
        "AddHost",
        "AddHost",
        "RevokeHost",
        "ForgetHost",
    ]


def test_one_certificate_of_a_host_is_revoked(site: Site) -> None:
    site("hosts", "add", "web1")
    assert "with that certificate" in site("hosts", "revoke", "web1", "--serial", "0a:1b")[0]
    found = site.json("hosts", "revoke", "web1", "--serial", "2C")
    assert found == {"host": "web1", "revoked": False, "refused_serials": ["0A1B", "2C"]}


def test_what_hosts_do_is_listed(site: Site) -> None:
    for name in ("web1", "web2", "web3"):
        site("hosts", "add", name)
    site.instance("web1")
    last = site.revision
    failed: list[Json] = [{"eni": "eni-1", "why": "refused: no such\n\x1b[31m device"}]
    site.say({"web1": host(last), "web2": host(last - 1, needed=last, failed=failed, age=2.0)})
    out = site("hosts")[0]
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}
    assert lines["web1"].split() == ["enforced", "revision", str(last), "0", "s", "relay-1", "1", "-"]
    assert lines["web2"].startswith("failed ")
    assert "\x1b" not in out
    assert lines["web3"].startswith("unknown ")
    one, two, _ = site.json("hosts")["hosts"]
    assert (one["status"], one["enforced"], len(one["enis"])) == ("enforced", {"epoch": 0, "revision": last}, 1)
    assert (two["failed"], two["relay"], two["age"] >= 2) == (failed, "relay-1", True)


def test_a_host_that_was_never_added_is_listed_if_something_is_bound_to_it(site: Site) -> None:
    site("hosts", "add", "web1")
    site.instance("web1")
    out, err = site("hosts", "forget", "web1")
    assert out == "web1 is forgotten, and 0 ENIs released\n"
    assert "the tag sgdp:host of i-4 still names it" in err
    assert "never added" in site("hosts")[0]
    assert site.json("hosts")["hosts"][0]["created"] is None


def test_what_the_only_host_claims_stays_with_it(site: Site) -> None:
    """Also if nobody has bound it yet."""
    site("hosts", "add", "web1")
    site.client.engine.catch_up()
    vpc_id, switch = site.client.network()
    group = site.client.group(vpc_id)
    eni = site.client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
    site.say({"web1": host(1, claims=[eni])})
    site("hosts", "add", "web2")
    assert [one["enis"] for one in site.json("hosts")["hosts"]] == [[eni], []]
    found = site.json("hosts", "forget", "web1", eni)
    assert found == {"host": "web1", "released": [eni], "instances": []}
    assert site("hosts", "forget", "web1", eni, code=5)[1].startswith("error: InvalidHost.Eni: not an ENI of this host")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["add", "Web 1"], 5, "InvalidHost.Malformed"),
        (["revoke", "web9"], 5, "InvalidHost.NotFound"),
        (["revoke", "web1", "--serial", "xyz"], 5, "InvalidHost.Serial"),
        (["forget", "web9"], 5, "InvalidHost.NotFound"),
        (["add"], 2, "HOST"),
    ],
)
def test_what_is_wrong_is_refused(site: Site, words: list[str], code: int, message: str) -> None:
    site("hosts", "add", "web1")
    assert message in site("hosts", *words, code=code)[1]
    assert site.revision == 1


def test_a_store_that_isn_t_there_is_not_made_to_list_it(tmp_path: Path, site: Site) -> None:
    site.file = tmp_path / "other"
    for words in (["hosts"], ["wait"], ["hosts", "revoke", "web1"], ["hosts", "forget", "web1"]):
        assert "InvalidStore.NotFound" in site(*words, code=5)[1]
    assert not site.file.exists()
    site("hosts", "add", "web1")
    assert site.file.exists()


# wait


@pytest.fixture
def pair(site: Site) -> Site:
    """With the hosts web1 and web2, and an instance at each."""
    for name in ("web1", "web2"):
        site("hosts", "add", name)
    return site


def test_a_wait_ends_when_all_hosts_have_it(pair: Site) -> None:
    pair.instance("web1")
    last = pair.revision
    pair.say({"web1": host(last - 1, needed=last), "web2": host(last)})
    timer = threading.Timer(0.4, lambda: pair.say({"web1": host(last), "web2": host(last)}))
    timer.start()
    assert pair("wait", "--timeout", "30")[0] == f"revision {last} is in force at 2 hosts\n"
    timer.join()
    assert pair.json("wait") == {
        "revision": last,
        "epoch": 0,
        "enforced": ["web1", "web2"],
        "lagging": [],
        "failed": [],
        "unknown": [],
    }


def test_a_wait_says_where_it_isn_t_in_force(pair: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "FAILED_S", 0.0)
    pair("hosts", "add", "web3")
    pair("hosts", "add", "web4")
    last = pair.revision
    failing = host(last - 1, needed=last, error="no space left")
    pair.say({"web1": host(last), "web2": host(last - 1, needed=last), "web3": failing})
    assert pair("wait", "--timeout", "0", code=1)[0].splitlines() == [
        f"revision {last} is in force at 1 of 4 hosts",
        "not yet at web2",
        "failed at web3: no space left",
        "unknown at web4: no report for 15 s",
    ]
    found = pair.json("wait", "--timeout", "0", code=1)
    assert (found["failed"], found["unknown"]) == ([{"host": "web3", "why": "no space left"}], ["web4"])


def test_a_wait_for_an_earlier_revision(pair: Site) -> None:
    pair.say({name: host(1, needed=2) for name in ("web1", "web2")})
    assert pair.json("wait", "--revision", "1")["enforced"] == ["web1", "web2"]
    assert pair.json("wait", "--revision", "2", "--timeout", "0", code=1)["lagging"] == ["web1", "web2"]


def test_a_wait_for_a_vpc_is_about_the_hosts_with_its_enis(pair: Site) -> None:
    first, second = pair.instance("web1"), pair.instance("web2", "10.1.0.0/16")
    empty = pair.client.network("10.2.0.0/16")[0]
    pair.say({"web1": host(pair.revision)})
    assert pair.json("wait", "--vpc", first)["enforced"] == ["web1"]
    assert pair.json("wait", "--vpc", second, code=1)["unknown"] == ["web2"]
    assert pair("wait", "--vpc", empty)[0] == f"no host has an ENI of {empty}\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--revision", "99"], 5, "InvalidRevision.NotFound"),
        (["--epoch", "3"], 5, "InvalidRevision.NotFound"),
        (["--vpc", "vpc-9"], 5, "InvalidVpcId.NotFound"),
        (["--timeout", "3601"], 2, "--timeout is 0 to 3600 seconds"),
        (["--revision", "-1"], 2, "--revision"),
    ],
)
def test_what_can_t_be_waited_for(pair: Site, words: list[str], code: int, message: str) -> None:
    """And isn't: to wait takes at least a minute."""
    began = time.monotonic()
    assert message in pair("wait", *words, code=code)[1]
    assert time.monotonic() - began < 60


def test_without_any_host_there_is_nothing_to_wait_for(site: Site) -> None:
    assert "there is no host" in site("wait", code=5)[1]
    site("hosts", "add", "web1")
    site("hosts", "revoke", "web1")
    assert site("wait")[0] == "all hosts are revoked, and have no ENI\n"
