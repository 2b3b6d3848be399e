"""Hosts: what they are called, and which of them an ENI is bound to."""

from __future__ import annotations

import pytest

from sgdataplane.control.documents import Documents
from sgdataplane.control.hosts import StoredHost, host_of, hosts_in, is_host_name
from sgdataplane.control.store import Body, Path, Snapshot

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
