"""`python -m bench.apicost`: what calls of the API take beside few, some and many groups.

Owns the three stores, and the order in which their APIs take turns. The account is that of fleet.py, with as many ENIs
as groups. Must not know what is promised.

Each kind of call goes to the API with many groups, to the one with some and to the one with few, in turn, over plain
HTTP, signed, with a connection of its own. `<kind>_ms` is its time at many groups, `<kind>_some_ms` at some, and
`<kind>_times` the first of these divided by the time at few. A call that is refused ends the run.

    by_id, first_page, by_name     DescribeSecurityGroups
    of_instance                    DescribeNetworkInterfaces of one instance
    explain, diff                  SgdpExplain at one ENI, SgdpDiff of one group
    create, authorize              CreateSecurityGroup, AuthorizeSecurityGroup
    start_s, mb                    of the API with many groups: until it serves; its memory after all calls
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.agentscale import shown, told
from bench.costs import begin
from bench.fleet import GROUPS_A_VPC, Fleet, eni_id, group_id, vpc_id
from bench.isolation import isolate
from bench.scaleplant import HERE, Started, fill
from sgdataplane.control.http.client import ApiClient
from sgdataplane.host import netns
from sgdataplane.host.links import Links

FEW, SOME, MANY = 500, 1_000, 50_000  # groups
RULES, HOSTS, ENIS = 5, 5, 2  # of each group; of each VPC; of each host, which has one instance
START_S = 300.0
KINDS = ("by_id", "first_page", "create", "by_name", "of_instance", "authorize", "explain", "diff")


@dataclass
class Account:
    """An account of so many groups, and the API that serves it."""

    groups: int
    folder: Path
    api: Started
    client: ApiClient
    start_s: float
    made: int = 0
    """How many groups calls have made."""

    def ask(self, kind: str) -> float:
        """Make one call of this kind, and return its ms. The numbers in it differ from those of the last one."""
        action, parameters = self._call(kind)
        began = time.perf_counter()
        self.client.ask(action, **parameters)
        return (time.perf_counter() - began) * 1000

    def _call(self, kind: str) -> tuple[str, Mapping[str, object]]:
        self.made += 1
        vpc = self.made * 7 % (self.groups // GROUPS_A_VPC)
        group, eni = group_id(vpc, self.made % GROUPS_A_VPC), eni_id(vpc, 0, ENIS)
        rule = {"IpProtocol": "tcp", "PortRange": "7/7", "SourceCidrIp": f"198.51.100.{self.made % 250}/32"}
        calls: Mapping[str, tuple[str, Mapping[str, object]]] = {
            "by_id": ("DescribeSecurityGroups", {"SecurityGroupId": group}),
            "first_page": ("DescribeSecurityGroups", {"MaxResults": 50}),
            "by_name": ("DescribeSecurityGroups", {"SecurityGroupName": "new-1", "MaxResults": 50}),
            "of_instance": ("DescribeNetworkInterfaces", {"InstanceId": f"i-{vpc:017x}"}),
            "explain": ("SgdpExplain", {"NetworkInterfaceId": eni, "SourceIp": "10.1.2.3", "Port": 8001}),
            "diff": ("SgdpDiff", {"SecurityGroupId": group, "Permissions": [rule]}),
            "create": ("CreateSecurityGroup", {"VpcId": vpc_id(vpc), "SecurityGroupName": f"new-{self.made}"}),
            "authorize": ("AuthorizeSecurityGroup", {"SecurityGroupId": group, "Permissions": [rule]}),
        }
        return calls[kind]


def serve(stack: ExitStack, folder: Path, groups: int) -> Account:
    """Fill a store with so many groups, and start an API on it."""
    folder.mkdir()
    store = f"{folder}/store.db"
    fill(store, Fleet(groups // GROUPS_A_VPC * HOSTS, ENIS, RULES, HOSTS)).close()
    sgdp = [sys.executable, "-m", "sgdataplane", "api"]
    made = subprocess.run([*sgdp, "keys", "create", "--json", "--store", store], capture_output=True, check=True)
    key = json.loads(made.stdout)
    began = time.monotonic()
    api = Started.of([*sgdp, "--store", store, "--listen", f"{HERE}:0"], reads_errors=True)
    stack.callback(api.end)
    url = api.wait_for(r"serving at (http://[^;\s]+)", START_S)[1]
    client = ApiClient(url, key["access_key_id"], key["access_key_secret"])
    return Account(groups, folder, api, client, time.monotonic() - began)


def measure(folder: Path, counts: tuple[int, int, int], times: int, *, is_json: bool) -> None:
    say = told if is_json else shown
    with ExitStack() as stack:
        few, some, many = (serve(stack, folder / str(count), count) for count in counts)
        for kind in KINDS:
            if is_json:
                begin(f"{kind}_ms", f"{kind}_some_ms", f"{kind}_times")
            rounds = [tuple(account.ask(kind) for account in (many, some, few)) for _ in range(times + 1)]
            del rounds[0]  # the first call fills what later ones find
            at_many, at_some, at_few = zip(*rounds, strict=True)
            ratios = [slow / quick for slow, quick in zip(at_many, at_few, strict=True)]
            say(kind, ms=[*at_many], some_ms=[*at_some], times=ratios)
        say("api", start_s=many.start_s, mb=many.api.memory_mb())


def main() -> int:
    counts = f"few, some, many (default {FEW} {SOME} {MANY})"
    parser = argparse.ArgumentParser(prog="bench.apicost", description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", type=int, nargs=3, default=(FEW, SOME, MANY), metavar="N", help=counts)
    parser.add_argument("--times", type=int, default=30, help="each kind of call (default 30)")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    isolate("bench.apicost")
    with Links(str(netns.OWN_NETNS)) as links:
        links.set_up("lo")
    with TemporaryDirectory() as folder:
        measure(Path(folder), tuple(options.groups), options.times, is_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
