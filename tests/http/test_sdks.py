"""The cloud's official clients, as their users have them, against the API: each signs, is understood, and raises its
own exception with the cloud's code and the request's id.

`make sdks` installs them. Each runs the same session as a process of its own; clients/ has the scripts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.http.tokenbuckets import TokenBuckets
from tests.http.conftest import Serve, Served
from tests.http.signing import KEY, SECRET
from tests.support.servers.sdks import command_of

# Each client, and what its own exception is called.
KINDS = {
    "today.py": "ClientException",
    "yesterday.py": "ServerException",
    "today.cjs": "ClientError",
    "pop.cjs": "Error",
}


def run(client: str, served: Served) -> Mapping[str, Any]:
    """What the client's session found."""
    command, environment = command_of(client)
    arguments = (urlsplit(served.url).netloc, KEY, SECRET)
    process = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    found: Mapping[str, Any] = json.loads(process.stdout)
    return found


@pytest.mark.parametrize("client", KINDS)
def test_an_official_client_is_understood_and_understands(served: Served, client: str) -> None:
    found = run(client, served)
    assert found["created"] == "sg-1"
    assert found["found"] == ["web \u202e\n"]
    assert found.get("revision", "1") == "1"
    create, authorize, describe = served.engine.calls[:3]
    assert create.parameters["SecurityGroupName"] == "web + é/~*"
    assert create.parameters["Tag"] == [{"Key": "a", "Value": "b"}]
    assert authorize.parameters["Permissions"] == [
        {"IpProtocol": "TCP", "PortRange": "443/443", "SourceCidrIp": "0.0.0.0/0", "Priority": "1"},
        {"IpProtocol": "TCP", "PortRange": "22/22", "SourceGroupId": "sg-2", "Description": "from bastion +1"},
    ]
    assert (describe.parameters["MaxResults"], describe.parameters["DryRun"]) == (10, False)


@pytest.mark.parametrize("client", KINDS)
def test_an_official_client_raises_its_own_exception(served: Served, client: str) -> None:
    found = run(client, served)
    absent, guessed = found["absent"], found["guessed"]
    assert absent["code"] == "InvalidSecurityGroupId.NotFound"
    assert absent["request_id"] == served.engine.calls[-1].request_id
    assert "does not exist" in absent["message"]
    assert absent.get("status", 404) == 404
    assert guessed["code"] in ("SignatureDoesNotMatch", "InvalidAccessKeySecret")
    assert {absent["kind"], guessed["kind"]} == {KINDS[client]}


@pytest.mark.parametrize(("client", "kind"), [("today.py", "ThrottlingException"), ("today.cjs", "ThrottlingError")])
def test_an_official_client_sees_when_it_may_come_again(serve: Serve, client: str, kind: str) -> None:
    assert run(client, serve())["again"] == {}
    again = run(client, serve(buckets=TokenBuckets(rate=0.001, burst=1)))["again"]
    assert (again["kind"], again["code"]) == (kind, "Throttling.User")
    assert 1000 < again["wait"] <= 1_000_000
