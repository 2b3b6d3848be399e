"""`sgdp api --dev`: one command from nothing to an API that clients can use, over TLS, as a process."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.control.http.client import ApiClient, RefusedError
from sgdataplane.control.http.development import FILE, ServedEndpoint, default_folder, read_endpoint
from tests.support.sdks import driver

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "sgdataplane", "api")


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[Mapping[str, Any], subprocess.Popen[str]]]:
    """What the API says of itself on its first line, and its process."""
    command = (*COMMAND, "--dev", str(folder), "--listen", ":0", *more)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        try:
            yield json.loads(line), process
        finally:
            process.terminate()


def client_of(said: Mapping[str, Any]) -> ApiClient:
    return ApiClient(said["url"], said["access_key_id"], said["access_key_secret"], Path(said["authority"]))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    with serving(tmp_path_factory.mktemp("dev") / "folder") as (found, _):
        yield found


def test_its_first_line_says_all_that_a_client_needs(said: Mapping[str, Any]) -> None:
    assert said["url"] == f"https://127.0.0.1:{said['port']}"
    (vpc,) = client_of(said).ask("DescribeVpcs", IsDefault=True)["Vpcs"]["Vpc"]
    group = client_of(said).ask("CreateSecurityGroup")["SecurityGroupId"]
    found = client_of(said).ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)
    assert found["VpcId"] == vpc["VpcId"]


def test_the_cloud_s_own_sdk_finds_it(said: Mapping[str, Any]) -> None:
    endpoint = said["url"].removeprefix("https://")
    authority = Path(said["authority"])
    with driver("drive_today.py", endpoint, said["access_key_id"], said["access_key_secret"], authority) as ask:
        made = ask("CreateSecurityGroup")["SecurityGroupId"]
        rule = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceCidrIp": "10.1.2.3/8"}
        ask("AuthorizeSecurityGroup", SecurityGroupId=made, Permissions=[rule])
        (found,) = ask("DescribeSecurityGroupAttribute", SecurityGroupId=made)["Permissions"]["Permission"]
        assert found["SourceCidrIp"] == "10.1.2.3/8"


def test_a_shell_gets_what_clients_read(said: Mapping[str, Any]) -> None:
    folder = Path(said["authority"]).parent
    text = subprocess.run([*COMMAND, "env", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    script = f"{text}exec {sys.executable} -m sgdataplane group list --json"
    plain = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ALICLOUD_ACCESS_KEY" in text
    assert f"ALIBABA_CLOUD_ENDPOINT_VPC=127.0.0.1:{said['port']}" in text


def test_a_reset_takes_everything_but_the_key(said: Mapping[str, Any]) -> None:
    client = client_of(said)
    client.ask("CreateSecurityGroup")
    before = client.ask("DescribeVpcs", IsDefault=True)["Vpcs"]["Vpc"][0]["VpcId"]
    made = client.ask("SgdpReset")["VpcId"]
    assert client.ask("DescribeSecurityGroups")["TotalCount"] == 0
    assert [one["VpcId"] for one in client.ask("DescribeVpcs")["Vpcs"]["Vpc"]] == [made]
    assert made != before


def test_nothing_is_throttled(said: Mapping[str, Any]) -> None:
    client = client_of(said)
    for _ in range(250):  # 200 at once are let through elsewhere
        client.ask("DescribeRegions")


def test_it_starts_again_with_what_it_had_and_says_only_what_is_not_there(tmp_path: Path) -> None:
    with serving(tmp_path) as (first, _):
        group = client_of(first).ask("CreateSecurityGroup")["SecurityGroupId"]
    with serving(tmp_path) as (second, process):
        assert second["access_key_id"] == first["access_key_id"]
        groups = client_of(second).ask("DescribeSecurityGroups")["SecurityGroups"]["SecurityGroup"]
        assert [one["SecurityGroupId"] for one in groups] == [group]
        with pytest.raises(RefusedError, match="NotFound"):
            client_of(second).ask("FormatDisks")
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [(line["action"], line["code"]) for line in lines] == [("FormatDisks", "InvalidAction.NotFound")]


def test_its_secrets_are_for_the_owner_alone(said: Mapping[str, Any]) -> None:
    folder = Path(said["authority"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in (FILE, "api.key", "store.db.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize(
    ("text", "words"), [("[]", "object"), ("{", "Expecting"), ('{"url": 1}', "object"), ('{"url": "u"}', "missing")]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_endpoint(tmp_path)


@pytest.mark.parametrize(
    ("more", "word"), [(("--store", "x"), "--store"), (("--tls-cert", "x", "--tls-key", "y"), "--tls-cert, --tls-key")]
)
def test_what_it_makes_itself_can_not_be_named(tmp_path: Path, more: tuple[str, ...], word: str) -> None:
    done = subprocess.run([*COMMAND, "--dev", tmp_path, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_folder_that_no_api_has_served_from_is_told(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "env", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "sgdp api --dev" in done.stderr


def test_the_folder_of_a_user_follows_the_xdg_rules() -> None:
    assert default_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/sgdataplane/dev")
    assert default_folder({"HOME": "/h"}) == Path("/h/.local/state/sgdataplane/dev")


def test_an_endpoint_names_itself_for_each_product() -> None:
    found = ServedEndpoint("https://127.0.0.1:7", "k", "s", "/a", "/t").environment()
    names = ("ECS", "VPC", "STS", "LOCATION", "RESOURCEMANAGER", "BSSOPENAPI")
    assert {found[f"ALIBABA_CLOUD_ENDPOINT_{name}"] for name in names} == {"127.0.0.1:7"}
