"""Hosts: what they are called, which of them an ENI is bound to, and what operators and calls do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.claims import bind
from sgdataplane.errors import StateFileError
from sgdataplane.store.audit import local_call
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind, Workspace
from sgdataplane.store.hosts import (
    Forgotten,
    StoredHost,
    add_host,
    forget_host,
    host_of,
    hosts_in,
    is_host_name,
    release_enis,
    revoke_host,
    serial_of,
)
from sgdataplane.store.interface import Body, Json, Path, Snapshot, Store, Write
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.run.memorystore import MemoryStore

HOSTS = {f"host/{name}": StoredHost(name, 1.0).body() for name in ("a", "b", "c")}
INSTANCE: Body = {"state": {"instance_id": "i-1"}, "about": {"tags": {"sgdp:host": "b"}}}


def eni(about: Body, instance: str = "i-1") -> Body:
    state: Body = {"vpc_id": "vpc-1", "instance_id": instance, "network_interface_id": "eni-1"}
    return {"state": dict(state), "about": dict(about)}


def documents(*bodies: tuple[Path, Body], hosts: int = 3) -> Documents:
    return Documents.of(Snapshot(1, {**dict(list(HOSTS.items())[:hosts]), **dict(bodies)}, {}))


@pytest.mark.parametrize(
    ("body", "instance", "hosts", "bound"),
    [
        pytest.param(eni({"host": "c"}), INSTANCE, 3, "c", id="what-claims-it-comes-first"),
        pytest.param(eni({}), INSTANCE, 3, "b", id="then-the-instance's-tag"),
        pytest.param(eni({}), INSTANCE, 1, "b", id="also-where-there-is-one-host"),
        pytest.param(eni({}), {"state": {}, "about": {}}, 1, "a", id="then-the-only-host"),
        pytest.param(eni({}), {"state": {}, "about": {}}, 2, None, id="of-two-hosts-none-is-meant"),
        pytest.param(eni({}), {"state": {}, "about": {}}, 0, None, id="there-is-no-host"),
        pytest.param(eni({}, instance=""), INSTANCE, 1, "a", id="an-eni-of-no-instance"),
        pytest.param(eni({}, instance="i-2"), INSTANCE, 3, None, id="another-instance's-tag-says-nothing"),
        pytest.param(eni({"host": ""}), INSTANCE, 3, "b", id="an-empty-text-names-none"),
    ],
)
def test_an_eni_is_bound_to(body: Body, instance: Body, hosts: int, bound: str | None) -> None:
    assert host_of(documents(("instance/i-1", instance), hosts=hosts), body) == bound


def test_a_revoked_host_is_still_the_only_one() -> None:
    known = Documents.of(Snapshot(1, {"host/a": StoredHost("a", 1.0, is_revoked=True).body()}, {}))
    assert host_of(known, eni({})) == "a"


@pytest.mark.parametrize("name", ["a", "web1", "rack-7.example.net", "0", "a" * 63, ".".join(["a" * 60] * 4)])
def test_a_host_has_a_dns_name(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", "a..b", ".a", "a.", "A", "a b", "a\n", "ä", "a/b", "a_b", "a" * 64, ".".join(["a" * 63] * 4)],
)
def test_anything_else_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)


def test_a_host_comes_back_from_its_document() -> None:
    host = StoredHost("a", 5.0, is_revoked=True, refused_serials=("0A", "1B"))
    assert hosts_in(documents((host.path, host.body()), hosts=0)) == {"a": host}


# what an operator does


def put_eni(store: Store, name: str, about: Body, instance: str = "") -> None:
    instances: dict[Path, Body] = {f"instance/{instance}": {"state": {}, "about": {}}} if instance else {}
    store.commit(Write({}, {f"network_interface/{name}": eni(about, instance), **instances}))


def bindings(store: Store) -> dict[str, str | None]:
    documents = Documents.of(store.snapshot())
    enis = documents.of_kind[ResourceKind.ENI]
    return {name: host_of(documents, body) for name, body in enis.items()}


def call(action: str = "AddHost") -> Call:
    return local_call(action)


def test_a_host_is_added_once_and_revoked_and_added_again(store: Store) -> None:
    added = add_host(store, call(), "a")
    assert hosts_in(Documents.of(store.snapshot())) == {"a": added.host}
    add_host(store, call(), "a")
    assert store.snapshot().revision == 1, "nothing was different"
    assert revoke_host(store, call(), "a").host.is_revoked
    assert revoke_host(store, call(), "a").host.is_revoked
    assert store.snapshot().revision == 2
    assert not add_host(store, call(), "a").host.is_revoked
    assert [event.record["action"] for event in store.events()] == ["AddHost"] * 3


def test_a_certificate_is_refused_by_its_serial_number_and_stays_so(sqlite: SqliteStore) -> None:
    add_host(sqlite, call(), "a")
    revoke_host(sqlite, call(), "a", "0x0a:bc:0d")
    revoke_host(sqlite, call(), "a", "abc0e")
    revoke_host(sqlite, call(), "a")
    forget_host(sqlite, call(), "a")
    assert add_host(sqlite, call(), "a").refusal.serials == {"ABC0D", "ABC0E"}


@pytest.mark.parametrize(
    ("text", "serial"),
    [("0", "00"), ("00:01", "01"), ("abc", "0ABC"), ("0xAbCd", "ABCD"), ("1" * 41, None), ("", None), ("g", None)],
)
def test_serial_numbers_are_as_ssl_writes_them(text: str, serial: str | None) -> None:
    assert serial_of(text) == serial


def test_what_the_only_host_has_stays_with_it_when_another_one_comes(sqlite: SqliteStore) -> None:
    add_host(sqlite, call(), "a")
    put_eni(sqlite, "eni-1", {}, "i-1")
    put_eni(sqlite, "eni-2", {})
    put_eni(sqlite, "eni-3", {})
    assert bindings(sqlite) == dict.fromkeys(("eni-1", "eni-2", "eni-3"), "a")
    add_host(sqlite, call(), "b", claimed=["eni-2"])
    assert bindings(sqlite) == {"eni-1": "a", "eni-2": "a", "eni-3": None}  # the last one is nowhere
    before = sqlite.snapshot().revision
    add_host(sqlite, call(), "c")
    assert sqlite.snapshot().revision == before + 1
    assert bindings(sqlite) == {"eni-1": "a", "eni-2": "a", "eni-3": None}


def test_the_first_host_that_is_added_gets_what_is_there(sqlite: SqliteStore) -> None:
    put_eni(sqlite, "eni-1", {}, "i-1")
    assert bindings(sqlite) == {"eni-1": None}
    add_host(sqlite, call(), "a")
    assert bindings(sqlite) == {"eni-1": "a"}


def test_a_host_is_forgotten_with_what_it_has(sqlite: SqliteStore) -> None:
    for name in ("a", "b", "c"):
        add_host(sqlite, call(), name)
    put_eni(sqlite, "eni-1", {"host": "a", "name": "x"}, "i-1")
    put_eni(sqlite, "eni-2", {"host": "b"})
    sqlite.commit(Write({}, {"instance/i-2": INSTANCE, "network_interface/eni-3": eni({}, "i-2")}))
    assert forget_host(sqlite, call(), "a") == Forgotten(("eni-1",), ())
    assert bindings(sqlite) == {"eni-1": None, "eni-2": "b", "eni-3": "b"}
    assert sqlite.snapshot().documents["network_interface/eni-1"]["about"] == {"name": "x"}
    assert forget_host(sqlite, call(), "b") == Forgotten(("eni-2",), ("i-2",))
    assert bindings(sqlite) == {"eni-1": "c", "eni-2": "c", "eni-3": "b"}  # the tag still names it
    assert [*hosts_in(Documents.of(sqlite.snapshot()))] == ["c"]


def test_single_enis_are_released(sqlite: SqliteStore) -> None:
    for name in ("a", "b"):
        add_host(sqlite, call(), name)
    for number, host in enumerate("aab"):
        put_eni(sqlite, f"eni-{number}", {"host": host})
    with pytest.raises(StateFileError, match=r"eni-2[\s\S]*eni-9"):
        release_enis(sqlite, call(), "a", ["eni-0", "eni-2", "eni-9"])
    assert bindings(sqlite)["eni-0"] == "a", "it is refused as a whole"
    assert release_enis(sqlite, call(), "a", ["eni-0", "eni-0"]) == ("eni-0",)
    assert bindings(sqlite) == {"eni-0": None, "eni-1": "a", "eni-2": "b"}


@pytest.mark.parametrize(
    ("work", "code"),
    [
        pytest.param(lambda store: add_host(store, call(), "A b"), "InvalidHost.Malformed", id="a-name"),
        pytest.param(lambda store: revoke_host(store, call(), "b"), "InvalidHost.NotFound", id="revoke"),
        pytest.param(lambda store: revoke_host(store, call(), "a", "x"), "InvalidHost.Serial", id="a-serial-number"),
        pytest.param(lambda store: forget_host(store, call(), "b"), "InvalidHost.NotFound", id="forget"),
    ],
)
def test_what_is_wrong_is_refused(sqlite: SqliteStore, work: Callable[[Store], object], code: str) -> None:
    add_host(sqlite, call(), "a")
    with pytest.raises(StateFileError, match=code):
        work(sqlite)
    assert sqlite.snapshot().revision == 1


def test_hosts_that_are_added_at_once_are_all_there(sqlite: SqliteStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: add_host(sqlite, call(), f"h{number}"), range(16)))
    assert len(hosts_in(Documents.of(sqlite.snapshot()))) == 16
    assert sqlite.snapshot().revision == 16


# what calls say of hosts


@pytest.fixture
def client() -> Client:
    """Of a store with the hosts a and b."""
    store = MemoryStore()
    add_host(store, call(), "a")
    add_host(store, call(), "b")
    return Client(Engine(store, "seed", counted_ids()))


def instance(client: Client, said: Mapping[str, str], **more: Json) -> tuple[str, str]:
    """An instance and its ENI."""
    vpc, switch = client.network()
    group = client.group(vpc)
    answer = client.asked("RunInstances", said, VSwitchId=switch, SecurityGroupId=group, **more)
    instance_id = cast("dict[str, list[str]]", answer["InstanceIdSets"])["InstanceIdSet"][0]
    return instance_id, Workspace(client.engine.documents).enis_of(instance_id)[0]


def host_at(client: Client, eni_id: str) -> str | None:
    documents = client.engine.documents
    return host_of(documents, documents.of_kind[ResourceKind.ENI][eni_id])


TAGGED: dict[str, Json] = {"Tag": [{"Key": "sgdp:host", "Value": "b"}, {"Key": "k", "Value": "v"}]}


@pytest.mark.parametrize(
    ("said", "more", "host"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param({"SgdpHost": "a"}, {}, "a", id="a-parameter"),
        pytest.param({}, TAGGED, "b", id="a-tag"),
        pytest.param({"SgdpHost": "b"}, TAGGED, "b", id="both"),
    ],
)
def test_a_new_instance_is_at_the_host_that_is_named(
    client: Client, said: Mapping[str, str], more: dict[str, Json], host: str | None
) -> None:
    assert host_at(client, instance(client, said, **more)[1]) == host


def test_an_instance_moves_with_its_tag(client: Client) -> None:
    instance_id, eni_id = instance(client, {"SgdpHost": "a"})
    client("TagResources", ResourceType="instance", ResourceId=[instance_id], **TAGGED)
    assert host_at(client, eni_id) == "b"
    client("UntagResources", ResourceType="instance", ResourceId=[instance_id], TagKey=["sgdp:host"])
    assert host_at(client, eni_id) is None
    other: Json = [{"Key": "k", "Value": "v"}]
    client.asked("TagResources", {"SgdpHost": "a"}, ResourceType="instance", ResourceId=[instance_id], Tag=other)
    assert host_at(client, eni_id) == "a"


def secondary(client: Client) -> tuple[str, str]:
    """An instance, and an ENI that is in its VPC and attached to nothing."""
    instance_id, eni_id = instance(client, {})
    about = client.engine.documents.of_kind[ResourceKind.ENI][eni_id]
    state = cast("dict[str, Any]", about["state"])
    switch = str(cast("dict[str, Any]", about["about"])["vswitch_id"])
    made = client("CreateNetworkInterface", VSwitchId=switch, SecurityGroupIds=state["security_group_ids"])
    return instance_id, str(made["NetworkInterfaceId"])


def test_an_eni_moves_by_detach_and_attach(client: Client) -> None:
    instance_id, eni_id = secondary(client)
    asked: dict[str, Json] = {"NetworkInterfaceId": eni_id, "InstanceId": instance_id}
    client.asked("AttachNetworkInterface", {"SgdpHost": "a"}, **asked)
    assert host_at(client, eni_id) == "a"
    client("DetachNetworkInterface", **asked)
    assert host_at(client, eni_id) is None
    client.asked("AttachNetworkInterface", {"SgdpHost": "b"}, **asked)
    assert host_at(client, eni_id) == "b"
    client("DeleteInstances", InstanceId=[instance_id])
    assert host_at(client, eni_id) is None


def test_an_eni_of_any_kind_moves_at_once(client: Client) -> None:
    """Also a primary one, which can't be detached."""
    _, eni_id = instance(client, {"SgdpHost": "a"})
    client.asked("ModifyNetworkInterfaceAttribute", {"SgdpHost": "b"}, NetworkInterfaceId=eni_id)
    assert host_at(client, eni_id) == "b"
    client("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni_id, NetworkInterfaceName="n")
    assert host_at(client, eni_id) == "b"
    client.engine.change(lambda scope: bind(scope, "a", [eni_id]), call("Claim"))
    assert host_at(client, eni_id) == "b", "the old host claims it in vain"


def test_attach_without_a_host_keeps_the_one_that_claimed_it(client: Client) -> None:
    instance_id, eni_id = secondary(client)
    client.engine.change(lambda scope: bind(scope, "a", [eni_id]), call("Claim"))
    client("AttachNetworkInterface", NetworkInterfaceId=eni_id, InstanceId=instance_id)
    assert host_at(client, eni_id) == "a"


def test_attach_to_a_tagged_instance_takes_it_from_the_host_that_claimed_it(client: Client) -> None:
    """As an ENI moves: its old host still has the interface, and claims it as soon as it is detached."""
    instance_id, eni_id = secondary(client)
    client("TagResources", ResourceType="instance", ResourceId=[instance_id], **TAGGED)
    client.engine.change(lambda scope: bind(scope, "a", [eni_id]), call("Claim"))
    assert host_at(client, eni_id) == "a"
    client("AttachNetworkInterface", NetworkInterfaceId=eni_id, InstanceId=instance_id)
    assert host_at(client, eni_id) == "b"
    client.engine.change(lambda scope: bind(scope, "a", [eni_id]), call("Claim"))
    assert host_at(client, eni_id) == "b", "the tag binds it now"


@pytest.mark.parametrize(
    ("said", "more", "code"),
    [
        pytest.param({"SgdpHost": "c"}, {}, "InvalidHost.NotFound", id="an-unknown-host"),
        pytest.param({}, {"Tag": [{"Key": "sgdp:host", "Value": "c"}]}, "InvalidHost.NotFound", id="an-unknown-tag"),
        pytest.param({"SgdpHost": "a"}, TAGGED, "InvalidHost.Mismatch", id="two-hosts"),
    ],
)
def test_a_call_that_names_no_host_of_ours_is_refused(
    client: Client, said: Mapping[str, str], more: dict[str, Json], code: str
) -> None:
    instance_id, eni_id = secondary(client)
    before = client.engine.revision
    calls: list[tuple[str, dict[str, Json]]] = [
        ("RunInstances", {"VSwitchId": "vsw-2", "SecurityGroupId": "sg-3", **more}),
        ("CreateInstance", {"VSwitchId": "vsw-2", "SecurityGroupId": "sg-3", **more}),
        ("TagResources", {"ResourceType": "instance", "ResourceId": [instance_id], **more}),
    ]
    if not more:
        calls.append(("AttachNetworkInterface", {"NetworkInterfaceId": eni_id, "InstanceId": instance_id}))
        calls.append(("ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": eni_id}))
    for action, asked in calls:
        with pytest.raises(ApiError) as raised:
            client.asked(action, said, **asked)
        assert raised.value.code == code, action
    assert client.engine.revision == before


def test_nothing_but_an_instance_has_the_tag_of_a_host(client: Client) -> None:
    _, eni_id = secondary(client)
    code = "InvalidTagKey.NotSupported"
    assert client.refused("TagResources", ResourceType="eni", ResourceId=[eni_id], **TAGGED) == code
    assert client.refused("CreateNetworkInterface", VSwitchId="vsw-2", SecurityGroupId="sg-3", **TAGGED) == code
