"""Several processes of `sgdp api` with one store in etcd: tokens, keys, their end, and etcd's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.control.test_served import Service, Writers
from tests.support.servers.etcdserver import Members, running, until, within

CALLS = 20


@pytest.fixture(scope="module")
def pair(etcd: Members, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    """Two of them."""
    store, key_file = f"{etcd.store}/served", tmp_path_factory.mktemp("served") / "key"
    one = Service(store, key_file, ("full",))
    other = Service(store, key_file, one.keys)
    yield one, other
    for service in (one, other):
        service.stop(kill=True)


def made_vpc(service: Service) -> str:
    made = service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert made.status == 200, made.body
    return str(made.body["VpcId"])


def knows(service: Service, vpc_id: str) -> bool:
    return bool(service.ask("DescribeVpcs", VpcId=vpc_id).body["Vpcs"]["Vpc"])


def test_one_sees_what_the_other_does(pair: tuple[Service, Service]) -> None:
    one, other = pair
    vpc_id = made_vpc(one)
    until(partial(knows, other, vpc_id), "the other one to follow")
    assert other.ask("DeleteVpc", VpcId=vpc_id).status == 200
    until(lambda: not knows(one, vpc_id), "the first one to follow")


def test_a_key_that_is_made_or_revoked_counts_at_once_for_both(pair: tuple[Service, Service]) -> None:
    pair[0].keys["third"] = pair[0].command("keys", "create", "--key-file", pair[0].key_file)
    assert [service.ask("DescribeVpcs", policy="third").status for service in pair] == [200, 200]
    pair[0].command("keys", "revoke", pair[0].keys["third"]["access_key_id"])
    refused = [service.ask("DescribeVpcs", policy="third").code for service in pair]
    assert refused == ["InvalidAccessKeyId.Inactive"] * 2


def test_a_token_that_both_are_given_at_once_makes_a_call_happen_once(pair: tuple[Service, Service]) -> None:
    """All calls are in one VPC, so they compete for its guard as well."""
    vpc_id = made_vpc(pair[0])
    until(partial(knows, pair[1], vpc_id), "the other one to follow")
    writers = [Writers(service, vpc_id) for service in pair]

    def ask(number: int) -> str:
        return writers[number % 2].create(f"token-{number // 2}")

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ask, range(2 * CALLS)))
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == CALLS
    until(lambda: len(writers[1].there()) == CALLS, "the other one to follow")
    assert {name: len(found) for name, found in writers[1].there().items()} == dict.fromkeys(
        (f"token-{number}" for number in range(CALLS)), 1
    )
    records = pair[0].command("audit")
    assert [record["revision"] for record in records] == list(range(1, len(records) + 1))
    assert [record["action"] for record in records[-CALLS:]] == ["CreateSecurityGroup"] * CALLS


def test_what_a_killed_one_answered_is_there_once_and_the_other_tells_the_rest(pair: tuple[Service, Service]) -> None:
    one, other = pair
    vpc_id = made_vpc(one)
    until(partial(knows, other, vpc_id), "the other one to follow")
    writers = Writers(one, vpc_id)
    writers.live(0, 0.5)
    writers.service = other
    answered = {token: made for token, made in writers.asked.items() if made}
    assert answered, "a control: it was killed too early"
    assert {token: writers.create(token) for token in answered} == answered
    for token in writers.asked.keys() - answered.keys():
        assert writers.create(token) == writers.create(token)
    assert {name: len(ids) for name, ids in writers.there().items()} == dict.fromkeys(writers.asked, 1)
    one.start()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Members, Service]]:
    """With an etcd of the test's own."""
    with running(tmp_path / "etcd") as members:
        service = Service(members.store, tmp_path / "key", ("full",))
        yield members, service
        service.stop(kill=True)


def test_without_etcd_calls_are_answered_503_within_3_s_and_go_on_once_it_is_back(own: tuple[Members, Service]) -> None:
    members, service = own
    vpc_id = made_vpc(service)
    members.stop()
    with within(3), ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: service.ask("CreateVpc", CidrBlock="10.0.0.0/8"), range(8)))
    assert {(reply.status, reply.code) for reply in replies} == {(503, "ServiceUnavailable")}
    members.start()
    until(lambda: service.ask("CreateVpc", CidrBlock="10.0.0.0/8").status == 200, "writes to go on")
    assert knows(service, vpc_id)
