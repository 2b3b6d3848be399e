"""`sgdp api --dev`: one command from nothing to an API that clients can use, over TLS, as a process."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sgdataplane.cli import apiserve
from sgdataplane.cli.apidev import Development, read_hostname
from sgdataplane.cli.apiserve import make_unlimited_buckets
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.config import ApiConfig
from sgdataplane.control.http.client import ApiClient, RefusedError
from sgdataplane.control.http.development import FILE, ServedEndpoint, default_folder, read_endpoint
from sgdataplane.control.http.server import ListenAt
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.store.opening import open_store
from tests.support.servers.sdks import driver

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "sgdataplane", "api")


@contextmanager
def serving(folder: Path, *more: str, cwd: Path = ROOT) -> Iterator[tuple[Mapping[str, Any], subprocess.Popen[str]]]:
    """What the API says of itself on its first line, and its process."""
    command = (*COMMAND, "--dev", str(folder), "--listen", ":0", *more)
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
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


def test_an_instance_needs_no_group(said: Mapping[str, Any]) -> None:
    client = client_of(said)
    vpc = client.ask("CreateVpc", CidrBlock="10.0.0.0/16")["VpcId"]
    switch = client.ask("CreateVSwitch", VpcId=vpc, CidrBlock="10.0.0.0/24", ZoneId="cn-hangzhou-h")["VSwitchId"]
    client.ask("RunInstances", VSwitchId=switch, Amount=2)
    (group,) = client.ask("DescribeSecurityGroups", VpcId=vpc)["SecurityGroups"]["SecurityGroup"]
    assert group["EcsCount"] == 2


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


def test_an_old_account_has_a_classic_network(tmp_path: Path) -> None:
    with serving(tmp_path, "--classic") as (old, _):
        client = client_of(old)
        group = client.ask("CreateSecurityGroup")["SecurityGroupId"]
        assert client.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)["VpcId"] == ""


def test_a_reset_takes_everything_but_the_key(said: Mapping[str, Any]) -> None:
    client = client_of(said)
    client.ask("CreateSecurityGroup")
    before = client.ask("DescribeVpcs", IsDefault=True)["Vpcs"]["Vpc"][0]["VpcId"]
    made = client.ask("SgdpReset")["VpcId"]
    assert client.ask("DescribeSecurityGroups")["TotalCount"] == 0
    assert [one["VpcId"] for one in client.ask("DescribeVpcs")["Vpcs"]["Vpc"]] == [made]
    assert made != before


def test_nothing_is_throttled() -> None:
    """At one instant, in which an API that isn't for development takes 200 calls of an action."""
    buckets, control = make_unlimited_buckets(), TokenBuckets()
    for number in range(50_000):
        buckets.take("key", "DescribeRegions", 0.0)
        if number < 200:
            control.take("key", "DescribeRegions", 0.0)
    with pytest.raises(ApiError, match="Throttling"):
        control.take("key", "DescribeRegions", 0.0)


@pytest.mark.parametrize("is_dev", [True, False])
def test_only_an_api_for_development_has_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dev: bool
) -> None:
    """What `sgdp api` hands to those who admit calls, without serving."""
    given: list[TokenBuckets | None] = []

    class SeenError(Exception): ...

    def admission(*parts: object) -> None:
        given.append(cast("TokenBuckets | None", parts[2]))
        raise SeenError

    monkeypatch.setattr("sgdataplane.control.http.admission.Admission", admission)
    development = Development(tmp_path / "dev") if is_dev else None
    with pytest.raises(SeenError):
        apiserve.run(ApiConfig(store=str(tmp_path / "store")), ListenAt("127.0.0.1", 0), development)
    (buckets,) = given  # None: that of every API
    assert (buckets is not None) == is_dev


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


def refusal(*words: object, cwd: Path = ROOT) -> str:
    """What `sgdp api` says when it refuses these words."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_it_serves_on_loopback_only_unless_a_hostname_is_given(tmp_path: Path, address: str) -> None:
    assert "loopback only" in refusal("--dev", tmp_path / "dev", "--listen", address)
    assert [*tmp_path.iterdir()] == [], "it is refused before anything is made"


def test_clients_reach_it_by_its_hostnames(tmp_path: Path) -> None:
    """Each name and address is in the certificate, which clients check; another name isn't."""
    more = ("--listen", "0.0.0.0:0", "--hostname", "cloud.test", "--hostname", "192.0.2.7")
    with serving(tmp_path / "dev", *more) as (said, _):
        assert said["url"] == f"https://cloud.test:{said['port']}"
        for name in ("cloud.test", "192.0.2.7", "localhost", "127.0.0.1"):
            assert shake_hands(said, name), name
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(said, "other.test")
        endpoint = read_endpoint(tmp_path / "dev")
        assert endpoint is not None
        assert endpoint.environment()["ALIBABA_CLOUD_ENDPOINT_ECS"] == f"cloud.test:{said['port']}"


def shake_hands(said: Mapping[str, Any], name: str) -> bool:
    """Whether a client that knows it by that name trusts it, by nothing but its first line."""
    context = ssl.create_default_context(cadata=said["authority_pem"])
    with (
        socket.create_connection(("127.0.0.1", said["port"]), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        return secured.version() is not None


@pytest.mark.parametrize(
    ("listening", "hostnames", "url"),
    [
        ("https://127.0.0.1:7", (), "https://127.0.0.1:7"),
        ("https://[::1]:7", ("cloud",), "https://cloud:7"),
        ("https://0.0.0.0:7", ("2001:db8::7", "cloud"), "https://[2001:db8::7]:7"),
        ("https://[::]:7", ("192.0.2.7",), "https://192.0.2.7:7"),
    ],
)
def test_it_says_how_it_is_reached_and_whether_by_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listening: str, hostnames: tuple[str, ...], url: str
) -> None:
    development = Development(tmp_path / "dev", hostnames)
    with closing(open_store(development.store)) as store:
        development.tell(listening, store)
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["url"] == url
    assert said["authority_pem"] == Path(said["authority"]).read_text("ascii")
    assert ("other machines can reach it" in err) == (listening in ("https://0.0.0.0:7", "https://[::]:7"))


@pytest.mark.parametrize("name", ["cloud", "localhost", "my_service", "a.b-c.example", "192.0.2.7", "2001:db8::7"])
def test_a_hostname_is_a_name_or_an_address(name: str) -> None:
    assert read_hostname(name) == name


@pytest.mark.parametrize("name", ["a b", "https://a", "a:1", "*.a", "", "-a", "a-", "a..b", "a" * 64, "a.\n"])
def test_a_hostname_is_nothing_else(name: str) -> None:
    with pytest.raises(ValueError, match="not a host's name or IP address"):
        read_hostname(name)


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "fe80::1%lo"])
def test_an_address_at_which_only_servers_listen_is_no_hostname(name: str) -> None:
    with pytest.raises(ValueError, match="--listen takes it"):
        read_hostname(name)


def test_a_hostname_is_for_development_only(tmp_path: Path) -> None:
    assert "--hostname needs --dev" in refusal("--store", tmp_path / "store", "--hostname", "cloud.test")
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "notes").touch()
    folder.chmod(0o777)
    assert "other users can use it" in refusal("--dev", folder)
    assert sorted(one.name for one in folder.iterdir()) == ["notes"]


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = Path("/")
    if os.geteuid() == 0:
        folder = tmp_path / "theirs"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    assert "belongs to user" in refusal("--dev", folder)
    if os.geteuid() == 0:
        assert [*folder.iterdir()] == []


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert "a link" in refusal("--dev", tmp_path / "link")


def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (tmp_path / FILE).write_text("{}")
    os.chown(tmp_path / FILE, 65534, 65534)
    assert "belongs to user 65534" in refusal("env", tmp_path)


def test_the_folder_that_one_is_in_can_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with serving(Path(), cwd=folder) as (found, _):
        assert Path(found["authority"]).parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_private_files_are_replaced_and_never_written_through(tmp_path: Path) -> None:
    """A file of before, which others may read, or a link: neither gets a secret."""
    outside = tmp_path / "outside"
    outside.write_text("kept")
    folder = tmp_path / "dev"
    folder.mkdir(0o700)
    for name, mode in ((FILE, 0o644), ("api.key", 0o666)):
        (folder / name).touch(mode)
        (folder / name).chmod(mode)
    (folder / "authority.pem").symlink_to(outside)
    held = os.open(folder / "api.key", os.O_RDONLY)
    with serving(folder):
        for name in (FILE, "api.key"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert os.read(held, 10) == b"", "whoever had it open before reads nothing"
    os.close(held)
    assert outside.read_text() == "kept"


def test_a_folder_that_no_api_has_served_from_is_told(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "env", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "sgdp api --dev" in done.stderr


def test_the_folder_of_a_user_follows_the_xdg_rules() -> None:
    assert default_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/sgdataplane/dev")
    assert default_folder({"HOME": "/h"}) == Path("/h/.local/state/sgdataplane/dev")


def test_an_endpoint_names_itself_for_each_product() -> None:
    found = ServedEndpoint("https://127.0.0.1:7", "k", "s", "/a", "/t").environment()
    served = ("ECS", "VPC", "STS", "LOCATION", "RESOURCEMANAGER", "BSSOPENAPI")
    absent = ("RAM", "KMS", "SLB", "CMS", "ALIDNS")  # the provider asks them, and mustn't ask the cloud's
    assert {found[f"ALIBABA_CLOUD_ENDPOINT_{name}"] for name in served + absent} == {"127.0.0.1:7"}
    assert found["ALIBABA_CLOUD_ENDPOINT"] == "127.0.0.1:7", "the command line reads it for all products"
    assert {found[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "ALIBABA_CLOUD_CA_BUNDLE")} == {"/t"}


def test_what_the_provider_asks_of_other_products_is_refused_here(said: Mapping[str, Any]) -> None:
    for version, action in (("2015-05-01", "CreateRole"), ("2016-01-20", "CreateKey")):
        client = replace(client_of(said), version=version)
        with pytest.raises(RefusedError, match=r"InvalidAction\.NotFound"):
            client.ask(action)
