"""What tests ask a lab of hosts for: calls to its APIs, and workloads for the ENIs that these make.

Owns the calls, which are sent again to the other API until one answers, and what is placed where. Must not know what is
expected.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sgdataplane.control.http.client import RefusedError
from sgdataplane.errors import EndpointError
from sgdataplane.lab.hosts import guests, routers, wires
from sgdataplane.lab.hosts.guests import Guest
from sgdataplane.lab.hosts.hostslab import Host, HostsLab
from sgdataplane.lab.hosts.housekeeping import LabClient, guest_of
from sgdataplane.lab.waiting import scale_timeout
from tests.support.probes.flood import wait_until
from tests.support.servers.sdks import Driver

ASK_S, PAUSE_S = scale_timeout(60.0), 0.1
AGAIN = ("ServiceUnavailable", "InternalError", "Throttling")  # what a client sends a call again for
BLOCK, IFNAME, HOST_TAG = "10.0.0.0/16", "eth0", "sgdp:host"


class Cloud:
    """One VPC with one VSwitch. `asked`: how many calls were answered; `sent_again`: how many requests were
    sent again."""

    def __init__(self, lab: HostsLab) -> None:
        self.lab, self.asked, self._again = lab, 0, 0
        self._sdk: Driver | None = None
        self.ask_once = LabClient(lab).ask
        self._call: Callable[..., dict[str, Any]] = self.ask_once
        self.workloads: dict[str, Guest] = {}
        for host in () if lab.placement.is_outside else lab.hosts:
            wires.join_segment(lab.fabric, host.namespace, host.number, 1)
        self.vpc = str(self.ask("CreateVpc", CidrBlock=BLOCK)["VpcId"])
        switch = self.ask("CreateVSwitch", VpcId=self.vpc, CidrBlock=BLOCK, ZoneId="cn-hangzhou-a")
        self.switch = str(switch["VSwitchId"])

    @contextmanager
    def through(self, sdk: Driver) -> Iterator[None]:
        """Meanwhile, calls are made by a cloud's SDK, which itself sends again what wasn't answered."""
        self._sdk, self._call = sdk, sdk
        try:
            yield
        finally:
            self._sdk, self._call = None, self.ask_once

    @property
    def sent_again(self) -> int:
        return self._again + (self._sdk.again if self._sdk else 0)

    def ask(self, action: str, **parameters: object) -> dict[str, Any]:
        """Any API's answer. A call that wasn't answered is sent again, with the same token."""
        is_write = not action.startswith(("Describe", "Sgdp"))
        said = parameters | ({"ClientToken": secrets.token_hex(16)} if is_write else {})
        deadline = time.monotonic() + ASK_S
        while True:
            try:
                answer = self._call(action, **said)
            except (EndpointError, RefusedError) as error:
                is_final = isinstance(error, RefusedError) and not error.code.startswith(AGAIN)
                if is_final or time.monotonic() > deadline:
                    raise
                self._again += 1
                time.sleep(PAUSE_S)
            else:
                self.asked += 1
                return answer

    def group(self, *rules: dict[str, object]) -> str:
        """A new group with these rules of ingress."""
        made = self.ask("CreateSecurityGroup", VpcId=self.vpc)
        group = str(made["SecurityGroupId"])
        if rules:
            self.open(group, *rules)
        return group

    def instance(self, name: str, group: str, host: Host, *, is_tagged: bool = True) -> str:
        """A new instance that is to run on that host, which its tag names, in that group; its primary ENI."""
        tags = [{"Key": HOST_TAG, "Value": host.name}] if is_tagged else []
        made = self.ask("RunInstances", VSwitchId=self.switch, SecurityGroupId=group, InstanceName=name, Tag=tags)
        (instance,) = made["InstanceIdSets"]["InstanceIdSet"]
        eni = self.eni(InstanceId=instance)
        self.place(name, eni, host)
        return str(eni["NetworkInterfaceId"])

    def eni(self, **asked: object) -> dict[str, Any]:
        """The only one of which this is so. The API that is asked may see it a moment later than the one that made
        it."""
        found: list[dict[str, Any]] = []

        def is_seen() -> bool:
            answer = self.ask("DescribeNetworkInterfaces", **asked)["NetworkInterfaceSets"]
            found.extend(answer["NetworkInterfaceSet"])
            return bool(found)

        wait_until(is_seen)
        (eni,) = found
        return eni

    def place(self, name: str, eni: dict[str, Any], host: Host) -> Guest:
        """What is to run on that host with this ENI; `start` makes it."""
        self.workloads[name] = guest_of(eni, name, host)
        return self.workloads[name]

    def start(self, names: Iterable[str] = ()) -> None:
        """Make these workloads, or all."""
        guests.start_all(self.lab.sandbox, [self.workloads[name] for name in names or self.workloads])

    def open(self, group: str, *rules: dict[str, object]) -> int:
        """The revision that has these rules."""
        return int(self.ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=list(rules))["revision"])

    def shut(self, group: str, *rules: dict[str, object]) -> int:
        """The revision that hasn't."""
        return int(self.ask("RevokeSecurityGroup", SecurityGroupId=group, Permissions=list(rules))["revision"])

    def netns(self, name: str) -> str:
        return self.workloads[name].netns

    def address(self, name: str) -> str:
        return str(self.workloads[name].plug.addresses[0])

    def settle(self) -> dict[str, Any]:
        """Until the API says that everything asked for is in force on all hosts. One that was silent is unknown for a
        while."""
        deadline = time.monotonic() + ASK_S
        while True:
            answer = self.ask("SgdpWait", Timeout=5)
            if not (answer["Lagging"] or answer["Failed"] or answer["Unknown"]):
                routers.join_all(self.lab.fabric, self.workloads.values())
                return answer
            if time.monotonic() > deadline:
                said = "\n".join(f"{one.name}: {one.log_tail()}" for one in self.lab.components)
                raise AssertionError(f"{answer}\n{said}")


def rule(ports: int | str, protocol: str = "TCP") -> dict[str, object]:
    """It lets a port, or FIRST/LAST, in from everywhere."""
    said = f"{ports}/{ports}" if isinstance(ports, int) else ports
    return {"IpProtocol": protocol, "PortRange": said, "SourceCidrIp": "0.0.0.0/0", "Policy": "Accept"}
