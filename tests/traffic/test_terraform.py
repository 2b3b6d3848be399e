"""Terraform drives real packets: the module of docs/terraform.md, from `init` to `destroy`, at an API with a lab."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.control.http.client import ApiClient
from sgdataplane.control.http.development import read_endpoint
from sgdataplane.lab import manage, matrix
from sgdataplane.lab.expectations import one_probe
from sgdataplane.lab.manage import down
from tests.support.servers.terraform import Terraform

pytestmark = [pytest.mark.traffic, pytest.mark.optional, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "examples" / "terraform" / "main.tf"
RULE = re.compile(r'resource "alicloud_security_group_rule" .*?^}\n', re.DOTALL | re.MULTILINE)


@contextmanager
def serving(folder: Path, lab: str) -> Iterator[ApiClient]:
    """`sgdp api --dev --lab`, as the page has it."""
    command = (sys.executable, "-m", "sgdataplane", "api", "--dev", str(folder), "--lab", lab, "--listen", ":0")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as api:
        assert api.stdout is not None
        line = api.stdout.readline()
        assert line, f"it ended with {api.wait(60)}"
        said = json.loads(line)
        try:
            yield ApiClient(said["url"], said["access_key_id"], said["access_key_secret"], Path(said["authority"]))
        finally:
            api.terminate()


class Shop:
    """The module's instances in a lab."""

    def __init__(self, lab: str, client: ApiClient) -> None:
        self._lab, self._client = lab, client

    def settle(self) -> None:
        """Wait until what was applied is in force."""
        answer = self._client.ask("SgdpWait", Timeout=30)
        assert (answer["Lagging"], answer["Failed"], answer["Unknown"]) == ([], [], []), answer
        assert answer["Enforced"] == [f"lab {self._lab}"]

    def instances(self) -> list[str]:
        """The names of those that are there."""
        with manage.watch(self._lab) as lab:
            return sorted(node.alias for node in lab.topology.nodes if node.is_instance)

    def packets(self) -> tuple[str, str]:
        """What packets show from web1 to db1 and back, which is also what the policy says."""
        with manage.watch(self._lab) as lab:
            probes = [one_probe(lab, *ends, "tcp/5432") for ends in (("web1", "db1"), ("db1", "web1"))]
            results = matrix.probe_all(lab, probes)
        assert [one.observed.verdict for one in results] == [one.expected.verdict for one in results], results
        there, back = (str(one.observed.verdict) for one in results)
        return there, back


def test_packets_obey_what_terraform_applies(make_lab_name: Callable[[], str], tmp_path: Path) -> None:
    lab, module = make_lab_name(), tmp_path / "terraform"
    shutil.copytree(MODULE.parent, module)
    text = MODULE.read_text("utf-8")
    try:
        with serving(tmp_path / "dev", lab) as client:
            endpoint = read_endpoint(tmp_path / "dev")
            assert endpoint is not None
            terraform, shop = Terraform(module, tmp_path, endpoint.environment()), Shop(lab, client)

            def apply(configuration: str) -> tuple[str, str]:
                (module / MODULE.name).write_text(configuration, "utf-8")
                terraform("apply", "-auto-approve")
                terraform("plan", "-detailed-exitcode")  # its exit code is 2 unless the plan is empty
                shop.settle()
                return shop.packets()

            terraform.init()
            assert apply(text) == ("accept", "drop")
            assert shop.instances() == ["db1", "web1"]
            assert apply(RULE.sub("", text)) == ("drop", "drop")
            assert apply(text) == ("accept", "drop")
            terraform("destroy", "-auto-approve")
            shop.settle()
            assert shop.instances() == []
            assert client.ask("DescribeSecurityGroups")["TotalCount"] == 0
    finally:
        down(lab)
