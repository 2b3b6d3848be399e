"""The API as a container (containers/sgdp-api.containerfile): a real docker builds it, and the cloud's SDK calls it.

No registry is asked: the image's base is made of this machine's files.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.servers.docker import NEEDED, Docker, docker_in
from tests.support.servers.engines import needs
from tests.support.servers.pythonimage import pack_python_image
from tests.support.servers.sdks import driver

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.slow,
    pytest.mark.optional,  # the SDK isn't there without a network (`make sdks`)
    pytest.mark.usefixtures("engines"),
    needs(*NEEDED),
]
ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "containers" / "sgdp-api.containerfile"
BUILD_S = 1800
FOLDER = "/var/lib/sgdp-api"
NOBODY = "65532"


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Docker]:
    """With the image `sgdp-api`."""
    folder = tmp_path_factory.mktemp("docker")
    with docker_in(folder, make_lab_name(), {}) as docker:
        subprocess.run(["ip", "-n", docker.place, "link", "set", "lo", "up"], check=True)
        docker("import", str(pack_python_image(folder / "python.tar", locked())), "python", timeout_s=BUILD_S)
        build = ("build", "--network", "none", "--build-arg", "BASE=python", "--file", str(FILE), "--tag", "sgdp-api")
        docker(*build, str(ROOT), timeout_s=BUILD_S)
        yield docker


def locked() -> list[str]:
    """What the image installs."""
    return re.findall(r"^\S+==\S+", (ROOT / "requirements-api.lock").read_text("utf-8"), re.MULTILINE)


def run(docker: Docker, name: str, *words: str) -> None:
    """As the page shows it."""
    docker("run", "--detach", "--name", name, "--cap-drop", "all", *words)


def first_line(docker: Docker, name: str) -> Mapping[str, Any]:
    """What the container says of itself once it serves."""
    said = ""

    def has_said() -> bool:
        nonlocal said
        said = docker("logs", name)
        return said != "" or docker.pid(name) == 0

    wait_until(has_said)
    assert said, "it has ended"
    found: Mapping[str, Any] = json.loads(said.splitlines()[0])
    return found


def test_a_client_outside_finds_it_by_its_first_line(docker: Docker, tmp_path: Path) -> None:
    run(docker, "cloud", "--publish", "127.0.0.1:8080:8080", "sgdp-api")
    said = first_line(docker, "cloud")
    assert said["url"] == "https://localhost:8080"
    authority = tmp_path / "authority.pem"
    authority.write_text(said["authority_pem"], "ascii")
    outside = ("nsenter", f"--net={netns.path_of(docker.place)}")
    key, secret = said["access_key_id"], said["access_key_secret"]
    with driver("drive_today.py", "localhost:8080", key, secret, authority, prefix=outside) as ask:
        made = ask("CreateSecurityGroup")["SecurityGroupId"]
        groups = ask("DescribeSecurityGroups")["SecurityGroups"]["SecurityGroup"]
        assert [group["SecurityGroupId"] for group in groups] == [made]
        ask("SgdpReset")
        assert ask("DescribeSecurityGroups")["TotalCount"] == 0
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{docker.pid('cloud')}/status").read_text("utf-8").splitlines()
    )
    assert set(status["Uid"].split()) == {NOBODY}
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    wait_until(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", "cloud") == "healthy")
    variables = docker("exec", "cloud", "sgdp", "api", "env", FOLDER)
    assert "export SGDP_API=https://localhost:8080\n" in variables
    docker.remove("cloud")


def test_each_container_has_a_key_of_its_own_and_the_image_none(docker: Docker) -> None:
    list_folder = ("--rm", "--entrypoint", "/bin/busybox", "sgdp-api", "ls", "-A", FOLDER)
    assert docker("run", *list_folder) == ""
    names = ("first", "second")
    for name in names:
        run(docker, name, "--network", "none", "sgdp-api", "--hostname", name)
    first, second = (first_line(docker, name) for name in names)
    assert (first["url"], second["url"]) == ("https://first:8080", "https://second:8080")
    for field in ("access_key_id", "access_key_secret", "authority_pem"):
        assert first[field] != second[field], field
    docker.remove(*names)
