"""`sgdp api` as a process with a store and keys: who may call it, what its end leaves, and what the audit tells."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.http.signing import Reply, Signed, acs3, send
from tests.support.probes.flood import wait_until
from tests.support.run.processes import is_running, list_running_children
from tests.support.run.warmprocess import command, start_program, warm_programs

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "sgdataplane", "api")
SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))
LONGEST_LIFE_S = 0.3
WRITERS = 8
DEADLINE_S = 60


class Service:
    """The API on a store; it can be killed and started again. `key_file`: if it can't be beside the store. `keys`: what
    is there, or policies for which to make some."""

    def __init__(
        self,
        store: Path | str,
        key_file: Path | None = None,
        keys: dict[str, Any] | tuple[str, ...] = ("full", "read-only"),
    ) -> None:
        self.store, self.key_file = str(store), str(key_file)
        self._sealed = () if key_file is None else ("--key-file", str(key_file))
        create = ("keys", "create", *self._sealed, "--policy")
        self.keys = keys if isinstance(keys, dict) else {policy: self.command(*create, policy) for policy in keys}
        self.start()

    def start(self) -> None:
        """Returns once it serves."""
        self.process = start_program("api", "--store", self.store, *self._sealed, "--listen", "127.0.0.1:0")
        assert self.process.stderr is not None
        line = next(line for line in self.process.stderr if "serving at" in line)
        self.url = line.split()[2].rstrip(";")

    def stop(self, *, kill: bool = False) -> None:
        (self.process.kill if kill else self.process.terminate)()
        with self.process:
            pass

    def command(self, *words: str) -> Any:  # noqa: ANN401  # a document
        """What `sgdp api ... --json` prints."""
        done = subprocess.run(
            command("api", *words, "--store", self.store, "--json"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout) if words != ("audit",) else list(map(json.loads, done.stdout.splitlines()))

    def signed(self, action: str, *, policy: str = "full", **parameters: str) -> Signed:
        key = self.keys[policy]
        return acs3(action, parameters, key=key["access_key_id"], secret=key["access_key_secret"])

    def ask(self, action: str, *, policy: str = "full", **parameters: str) -> Reply:
        return send(self.url, self.signed(action, policy=policy, **parameters))


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The API forks from a process that has imported everything."""
    with warm_programs(tmp_path_factory.mktemp("warm")):
        yield


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "store")
    yield made
    made.stop(kill=True)


def test_a_key_may_do_what_its_policy_says(service: Service) -> None:
    made = service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert made.status == 200
    assert int(made.headers["x-sgdp-revision"]) == 3
    refused = service.ask("CreateVpc", CidrBlock="10.0.0.0/8", policy="read-only")
    assert (refused.status, refused.code) == (403, "Forbidden.RAM")
    seen = service.ask("DescribeVpcs", policy="read-only")
    assert [vpc["VpcId"] for vpc in seen.body["Vpcs"]["Vpc"]] == [made.body["VpcId"]]


def test_keys_that_others_make_and_revoke_count_at_once(service: Service) -> None:
    assert service.ask("DescribeVpcs").status == 200
    service.command("keys", "revoke", service.keys["full"]["access_key_id"])
    refused = service.ask("DescribeVpcs")
    assert (refused.status, refused.code) == (400, "InvalidAccessKeyId.Inactive")
    service.keys["full"] = service.command("keys", "create")
    assert service.ask("DescribeVpcs").status == 200


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_recorded_request_is_refused_after_a_restart(service: Service, kill: bool) -> None:
    """Beside a new one, which is answered."""
    recorded = service.signed("CreateVpc", CidrBlock="10.0.0.0/8"), service.signed("DescribeVpcs")
    assert [send(service.url, one).status for one in recorded] == [200, 200]
    service.stop(kill=kill)
    service.start()
    assert [send(service.url, one).code for one in recorded] == ["SignatureNonceUsed"] * 2
    assert len(service.ask("DescribeVpcs").body["Vpcs"]["Vpc"]) == 1


def test_a_temporary_key_calls_with_its_token_alone(service: Service) -> None:
    made = service.command("keys", "create", "--sts")

    def ask(**headers: str) -> Reply:
        key, secret = made["access_key_id"], made["access_key_secret"]
        return send(service.url, acs3("DescribeVpcs", {}, key=key, secret=secret, headers=headers))

    token = {"x-acs-security-token": made["security_token"]}
    assert ask(**token).status == 200
    assert (ask().status, ask().code) == (400, "MissingParameter")
    assert ask(**{"x-acs-security-token": "other"}).code == "InvalidSecurityToken.MismatchWithAccessKey"
    service.command("keys", "revoke", made["access_key_id"])
    assert ask(**token).code == "InvalidAccessKeyId.Inactive"


def test_a_recorded_request_is_refused_by_another_process(service: Service) -> None:
    recorded = service.signed("DescribeVpcs")
    assert send(service.url, recorded).status == 200
    former = service.process
    service.start()
    try:
        assert send(service.url, recorded).code == "SignatureNonceUsed"
        assert service.ask("DescribeVpcs").status == 200
    finally:
        former.kill()
        with former:
            pass


def test_the_audit_has_what_calls_and_commands_changed(service: Service) -> None:
    made = service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    service.ask("DescribeVpcs")
    service.ask("DeleteVpc", VpcId="vpc-none")
    records = service.command("audit")
    assert [record["action"] for record in records] == ["CreateAccessKey", "CreateAccessKey", "CreateVpc"]
    assert records[2]["request_id"] == made.body["RequestId"]
    assert records[2]["key"] == service.keys["full"]["access_key_id"]
    assert records[2]["source"] == "127.0.0.1"
    assert records[2]["changed"] == [f"vpc/{made.body['VpcId']}"]


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_heavy_answers_come_from_a_process_that_ends_with_it(service: Service, kill: bool) -> None:
    vpc = service.ask("CreateVpc", CidrBlock="10.0.0.0/8").body["VpcId"]
    group = service.ask("CreateSecurityGroup", VpcId=vpc).body["SecurityGroupId"]
    assert list_running_children(service.process.pid) == []
    rule = {"IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0"}
    asked = {f"Permissions.1.{name}": value for name, value in rule.items()}
    told = service.ask("SgdpDiff", policy="read-only", SecurityGroupId=group, **asked)
    assert (told.status, told.body["WouldOpenToInternetTotalCount"]) == (200, 1)
    (beside,) = list_running_children(service.process.pid)
    service.stop(kill=kill)
    wait_until(lambda: not is_running(beside))


def test_a_backup_is_made_while_it_serves_and_restored_when_it_does_not(service: Service, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    kept = service.ask("CreateVpc", CidrBlock="10.0.0.0/8").body["VpcId"]
    assert service.command("backup", copy)["revision"] == 3
    service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    with pytest.raises(subprocess.CalledProcessError) as raised:
        service.command("restore", copy)
    assert "stop `sgdp api` first" in raised.value.stderr
    service.stop()
    restored = service.command("restore", copy)
    assert (restored["revision"], restored["epoch"] > 0) == (4, True)
    service.start()
    seen = service.ask("DescribeVpcs").body["Vpcs"]["Vpc"]
    assert [vpc["VpcId"] for vpc in seen] == [kept]
    made = service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert (made.headers["x-sgdp-revision"], made.headers["x-sgdp-epoch"]) == ("5", str(restored["epoch"]))
    refused = service.ask("SgdpWait", Revision="5", Epoch="0", Timeout="0")
    assert (refused.status, refused.code) == (404, "InvalidRevision.NotFound")


def test_the_audit_is_pruned_while_it_serves(service: Service) -> None:
    """What went is told to people and programs, and by the next record."""
    for _ in range(3):
        service.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    before = service.command("audit")
    pruned = service.command("audit", "--prune-before", "3")
    lines = "".join(f"{json.dumps(record, ensure_ascii=False, separators=(', ', ': '))}\n" for record in before[:2])
    assert pruned == {"pruned": 2, "up_to": 2, "sha256": sha256(lines.encode()).hexdigest(), "revision": 6}
    after = service.command("audit")
    assert after[:-1] == before[2:]
    assert (after[-1]["action"], after[-1]["pruned"]["sha256"]) == ("PruneAudit", pruned["sha256"])
    events = service.ask("SgdpDescribeEvents").body
    assert ([event["Revision"] for event in events["Events"]], events["PrunedUpTo"]) == ([3, 4, 5, 6], 2)
    assert service.ask("CreateVpc", CidrBlock="10.0.0.0/8").headers["x-sgdp-revision"] == "7"


class Writers:
    """Threads that create groups, each with a ClientToken, until nobody answers. `asked`: token -> id that was
    answered, or None."""

    def __init__(self, service: Service, vpc_id: str) -> None:
        self.service, self.vpc_id = service, vpc_id
        self.asked: dict[str, str | None] = {}

    def ask(self, token: str) -> Reply:
        return self.service.ask("CreateSecurityGroup", VpcId=self.vpc_id, SecurityGroupName=token, ClientToken=token)

    def create(self, token: str) -> str:
        return self.made(self.ask(token))

    def made(self, reply: Reply) -> str:
        assert reply.status == 200, reply.body
        return str(reply.body["SecurityGroupId"])

    def write(self, name: str) -> None:
        for number in range(10_000):
            token = f"{name}-{number}"
            self.asked[token] = None
            try:
                reply = self.ask(token)
            except (OSError, http.client.HTTPException):
                return
            if reply.status == 503:  # it stops, and says that it did nothing
                return
            self.asked[token] = self.made(reply)

    def live(self, turn: int, seconds: float, *, kill: bool = True) -> None:
        """They write until the API is killed, or stopped, after some time."""
        with ThreadPoolExecutor(WRITERS) as pool:
            done = [pool.submit(self.write, f"t{turn}-{number}") for number in range(WRITERS)]
            with suppress(subprocess.TimeoutExpired):
                self.service.process.wait(seconds)
            self.service.stop(kill=kill)
            for one in done:
                one.result(DEADLINE_S)

    def there(self) -> dict[str, list[str]]:
        """name -> the ids of the groups that have it."""
        found: dict[str, list[str]] = {}
        page = {"VpcId": self.vpc_id, "MaxResults": "100", "NextToken": ""}
        while True:
            body = self.service.ask("DescribeSecurityGroups", **page).body
            for group in body["SecurityGroups"]["SecurityGroup"]:
                found.setdefault(group["SecurityGroupName"], []).append(group["SecurityGroupId"])
            page["NextToken"] = body.get("NextToken", "")
            if not page["NextToken"]:
                return found


@pytest.mark.parametrize("turns", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_what_a_killed_api_answered_is_there_once_and_a_token_tells_the_rest(service: Service, turns: int) -> None:
    chance, count = random.Random(SEED), 0
    for turn in range(turns):
        writers = Writers(service, service.ask("CreateVpc", CidrBlock="10.0.0.0/8").body["VpcId"])
        writers.live(turn, chance.uniform(0.05, LONGEST_LIFE_S))
        service.start()
        there = writers.there()
        answered = {token: [made] for token, made in writers.asked.items() if made}
        unanswered = writers.asked.keys() - answered.keys()
        count += len(answered)
        assert {token: there.get(token) for token in answered} == answered
        assert there.keys() <= writers.asked.keys()
        assert len(unanswered) <= WRITERS
        for token in unanswered:
            again = writers.create(token)
            assert there.get(token, [again]) == [again] == [writers.create(token)]
        assert {token: len(ids) for token, ids in writers.there().items()} == dict.fromkeys(writers.asked, 1)
    assert count > turns, "they wrote too little to tell anything"
    records = service.command("audit")
    assert [record["revision"] for record in records] == list(range(1, len(records) + 1))
    assert len({record["request_id"] for record in records}) == len(records)


@pytest.mark.parametrize("turns", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_a_stopped_api_has_answered_all_that_it_stored(service: Service, turns: int) -> None:
    """SIGTERM under writers: who gets no answer has written nothing."""
    chance, count = random.Random(SEED), 0
    for turn in range(turns):
        writers = Writers(service, service.ask("CreateVpc", CidrBlock="10.0.0.0/8").body["VpcId"])
        writers.live(turn, chance.uniform(0.05, LONGEST_LIFE_S), kill=False)
        assert service.process.returncode == 0
        service.start()
        answered = {token: [made] for token, made in writers.asked.items() if made}
        count += len(answered)
        assert writers.there() == answered
    assert count > turns, "they wrote too little to tell anything"
