"""Runs acceptance tests of Terraform's provider for the cloud against our API, and writes docs/reference/clients.md.

    python -m tools.clients CHECKOUT [--binary FILE] [--jobs N]      (make clients PROVIDER=CHECKOUT)

CHECKOUT is the provider's repository (aliyun/terraform-provider-alicloud, tag v1.246.2), which has all that its build
needs in vendor/. Without --binary, Go builds the test binary: ten minutes of two processors and 5 GB of memory. No test
is changed. Each runs as a process of its own, against an API in which nothing is but a VPC that many of them look for.
Whoever writes the page from the results of several runs says so by --note. Owns the list of tests, the run and the
page. Must not know what a test does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from time import monotonic

from sgdataplane.control.http.client import ApiClient
from sgdataplane.control.http.development import read_endpoint
from sgdataplane.visible import visible
from tools.commands import table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "clients.md"
VERSION = "1.246.2"
PACKAGE = "alicloud"
# What the tests are about, and their files.
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "Security groups": ("resource_alicloud_security_group",),
    "Rules": ("resource_alicloud_security_group_rule",),
    "Prefix lists": ("resource_alicloud_ecs_prefix_list",),
    "Network interfaces": ("resource_alicloud_ecs_network_interface",),
    "Attachments of network interfaces": ("resource_alicloud_ecs_network_interface_attachment",),
    "VPCs": ("resource_alicloud_vpc",),
    "VSwitches": ("resource_alicloud_vswitch",),
    "Data sources": (
        "data_source_alicloud_security_group_rules",
        "data_source_alicloud_security_groups",
        "data_source_alicloud_vpcs",
        "data_source_alicloud_vswitches",
        "data_source_alicloud_instances",
        "data_source_alicloud_ecs_prefix_lists",
        "data_source_alicloud_ecs_network_interfaces",
    ),
    "Instances": ("resource_alicloud_instance",),
}
WANTED_VPC, REGION, VPC_VERSION = "default-NODELETING", "cn-hangzhou", "2016-04-28"
TEST = re.compile(r"^func (TestAcc\w+)\(", re.MULTILINE)
VERDICT = re.compile(r"^--- (PASS|FAIL|SKIP)", re.MULTILINE)
TIMEOUT_S = 300
# Why a test doesn't pass that doesn't say so.
KNOWN: Mapping[str, str] = {
    "TestAccAliCloudVPC_isDefault": "skips itself in each region but cn-chengdu",
    "TestAccAliCloudVpcVpc_basic9656": "IP address management (IPAM) isn't there",
    "TestAccAlicloudECSSecurityGroupRulesDataSourceWithNic_Type": "expects one of the two rules that it makes",
    "TestAccAliCloudECSInstanceBasic": "is of the classic network, and skips itself",
    "TestAccAliCloudECSInstance_OperatorType": "`ModifyPrepayInstanceSpec` isn't there",
}
NOT_THERE = re.compile(r"Action: (\w+) of version")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test. `verdict`: PASS, FAIL, SKIP, or "" if it was given up."""

    name: str
    verdict: str
    seconds: float
    text: str

    @property
    def reason(self) -> str:
        """Why it didn't pass, in a few words; "" if it did."""
        if self.verdict == "PASS":
            return ""
        if self.name in KNOWN:
            return KNOWN[self.name]
        if self.verdict == "SKIP":
            return "skips itself"
        absent = NOT_THERE.search(self.text)
        if absent:
            return f"`{absent[1]}` isn't there"
        return _first_error(self.text) if self.verdict else "is given up after 5 minutes"


def _first_error(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    found = next((line for line in lines if " error: " in line), "fails")
    return visible(found.partition(": ")[2] if found.startswith("testing.go") else found)[:150].replace("|", "\\|")


def tests_of(checkout: Path, files: tuple[str, ...]) -> list[str]:
    """The names of the tests in these files."""
    texts = ((checkout / PACKAGE / f"{name}_test.go").read_text("utf-8") for name in files)
    return [name for text in texts for name in TEST.findall(text)]


def build(checkout: Path, binary: Path) -> None:
    """Build the provider's test binary."""
    flags = ("-p", "2", "-gcflags=all=-l", "-ldflags=-s -w", "-vet=off", "-c", "-o", str(binary), f"./{PACKAGE}")
    environment = os.environ | {"GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local"}
    subprocess.run(["go", "test", *flags], cwd=checkout, env=environment, check=True)


@dataclass(frozen=True, slots=True)
class EmptyApi:
    """An API that can be emptied. `variables`: by which the provider finds it."""

    client: ApiClient
    variables: Mapping[str, str]

    def empty(self) -> None:
        """Leave nothing but what many tests look for."""
        self.client.ask("SgdpReset")
        vpcs = replace(self.client, version=VPC_VERSION)
        made = vpcs.ask("CreateVpc", VpcName=WANTED_VPC, CidrBlock="192.168.0.0/16", EnableIpv6=True)["VpcId"]
        zone = self.client.ask("DescribeZones", RegionId=REGION)["Zones"]["Zone"][0]["ZoneId"]
        vpcs.ask("CreateVSwitch", VpcId=made, CidrBlock="192.168.64.0/24", ZoneId=zone, Ipv6CidrBlock=64)


@contextmanager
def serving(folder: Path) -> Iterator[EmptyApi]:
    """An API that serves from that folder."""
    command = (sys.executable, "-m", "sgdataplane", "api", "--dev", str(folder), "--listen", ":0")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        client = ApiClient(said["url"], said["access_key_id"], said["access_key_secret"], Path(said["authority"]))
        endpoint = read_endpoint(folder)
        assert endpoint is not None
        try:
            yield EmptyApi(client, endpoint.environment())
        finally:
            process.terminate()


def run(binary: Path, checkout: Path, free: Queue[EmptyApi], name: str) -> Outcome:
    """Run one test against the next API that is free."""
    api = free.get()
    try:
        api.empty()
        return _run(binary, checkout, api.variables, name)
    finally:
        free.put(api)


def _run(binary: Path, checkout: Path, variables: Mapping[str, str], name: str) -> Outcome:
    began = monotonic()
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TF_ACC": "1", **variables}
    command = (str(binary), "-test.v", "-test.run", f"^{name}$")
    try:
        done = subprocess.run(
            command,
            cwd=checkout / PACKAGE,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        text = done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        text = str(error.stdout or "")
    found = VERDICT.search(text)
    outcome = Outcome(name, found[1] if found else "", monotonic() - began, text)
    print(f"{outcome.verdict or 'GIVEN UP':8} {outcome.seconds:4.0f} s  {name}  {outcome.reason}", flush=True)
    return outcome


def page(outcomes: Mapping[str, Outcome], checkout: Path, note: str) -> str:
    """The page about all of them."""
    passed = sum(one.verdict == "PASS" for one in outcomes.values())
    by_subject = {subject: tests_of(checkout, files) for subject, files in SUBJECTS.items()}
    counts = [
        (subject, str(sum(outcomes[name].verdict == "PASS" for name in names)), str(len(names)))
        for subject, names in by_subject.items()
    ]
    others = [
        (f"`{name}`", outcomes[name].reason)
        for names in by_subject.values()
        for name in names
        if outcomes[name].verdict != "PASS"
    ]
    done = [f"`{name}`" for names in by_subject.values() for name in names if outcomes[name].verdict == "PASS"]
    parts = (
        "# Clients of the API",
        "<!-- `make clients` writes this page. Don't edit it here. -->",
        (
            "Terraform's provider for the cloud has acceptance tests: each applies a configuration, reads it again, "
            f"plans anew, changes, imports and destroys. Of its version {VERSION}, **{passed} of {len(outcomes)}** "
            f"pass against `sgdp api --dev`. No test was changed.{note}"
        ),
        table(("tests of", "pass", "of"), counts),
        "## Those that don't pass",
        table(("test", "why"), others) if others else "All pass.",
        "## Those that pass",
        ", ".join(done) + ".",
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the acceptance tests of Terraform's provider against our API.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--binary", type=Path, help="a test binary that was built before")
    parser.add_argument("--jobs", type=int, default=6, help="tests at a time; they wait more than they compute")
    parser.add_argument("--note", default="", help="sentences on how the binary was built, and on which runs")
    given = parser.parse_args()
    names = [name for files in SUBJECTS.values() for name in tests_of(given.checkout, files)]
    with tempfile.TemporaryDirectory() as folder:
        binary = (given.binary or Path(folder) / f"{PACKAGE}.test").absolute()
        if given.binary is None:
            build(given.checkout, binary)
        with ExitStack() as stack, ThreadPoolExecutor(given.jobs) as pool:
            free = Queue[EmptyApi]()
            for number in range(given.jobs):
                free.put(stack.enter_context(serving(Path(folder) / f"api{number}")))
            found = pool.map(lambda name: run(binary, given.checkout, free, name), names)
            outcomes = {one.name: one for one in found}
    PAGE.write_text(page(outcomes, given.checkout, f" {given.note}" if given.note else ""), "utf-8")


if __name__ == "__main__":
    main()
