"""The loop that keeps a lab of hosts equal to its API while it is up, and starts again what has ended.

An ENI of an instance appears as a workload on a host. Owns which host an instance is on where the API leaves that open,
and what is made or ended for a change. It asks the API, as anybody does. Must not know how a workload is made.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sgdataplane.control.http.client import ApiClient, RefusedError
from sgdataplane.errors import EndpointError, HostError
from sgdataplane.host import netns
from sgdataplane.lab.hosts import guests, routers, wires
from sgdataplane.lab.hosts.guests import Guest
from sgdataplane.lab.hosts.hostslab import Host, HostsLab
from sgdataplane.lab.hosts.wires import Plug
from sgdataplane.net.values import Address

PAGE = 100


class LabClient:
    """A client that calls the lab's APIs in turn."""

    def __init__(self, lab: HostsLab) -> None:
        self._namespace = lab.sandbox.namespace.netns
        self._clients = itertools.cycle([ApiClient(url, *lab.key, lab.authority_file) for url in lab.api_urls])

    def ask(self, action: str, **parameters: object) -> dict[str, Any]:
        """Return one API's answer.

        Raises:
            RefusedError: The API refuses the call.
            EndpointError: It doesn't answer; the next call asks the other one.
        """
        with netns.inside(self._namespace):
            return next(self._clients).ask(action, **parameters)

    def all_of(self, action: str, section: str, entry: str, **parameters: object) -> Iterator[dict[str, Any]]:
        """Yield everything that an action describes, page by page. Errors as in `ask`."""
        token = ""
        while True:
            answer = self.ask(action, MaxResults=PAGE, NextToken=token, **parameters)
            yield from answer[section][entry]
            token = answer.get("NextToken", "")
            if not token:
                return


@dataclass
class Housekeeper:
    """The workloads that exist now, and where."""

    lab: HostsLab
    client: LabClient
    guests: dict[str, Guest] = field(default_factory=dict)
    """The workloads, by ENI."""
    where: dict[str, Host] = field(default_factory=dict)
    """The host of each instance."""
    _segments: dict[str, int] = field(default_factory=dict)

    def turn(self) -> tuple[list[Guest], list[Guest]]:
        """Make the workloads equal to what the API has now; return which came, and which went.

        Nothing changes if no API answers.

        Raises:
            HostError: The workloads can't be made; the next turn tries again.
        """
        for component in self.lab.components:
            component.start()
        try:
            wanted = self._list_wanted()
        except (EndpointError, RefusedError):
            return [], []
        gone = [guest for eni, guest in self.guests.items() if wanted.get(eni) != guest]
        for guest in gone:
            guests.end(self.lab.sandbox, guest)
            del self.guests[guest.eni_id]
        come = [guest for eni, guest in wanted.items() if eni not in self.guests]
        try:
            guests.start_all(self.lab.sandbox, come)
        except HostError:
            for guest in come:
                guests.discard(self.lab.sandbox, guest)
            raise
        self.guests |= {guest.eni_id: guest for guest in come}
        routers.join_all(self.lab.fabric, self.guests.values())
        return come, gone

    def _list_wanted(self) -> dict[str, Guest]:
        """Return the workloads that the API has now, by ENI. Errors as in LabClient.ask."""
        bound = {
            eni: host["HostName"]
            for host in self.client.all_of("SgdpDescribeHosts", "Hosts", "Host")
            for eni in host["NetworkInterfaceIds"]["NetworkInterfaceId"]
        }
        described = self.client.all_of("DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet")
        of_instance: dict[str, list[dict[str, Any]]] = {}
        for eni in described:
            if eni.get("InstanceId"):
                of_instance.setdefault(eni["InstanceId"], []).append(eni)
        self.where = {
            instance: self._host_of(instance, [bound.get(eni["NetworkInterfaceId"], "") for eni in enis])
            for instance, enis in of_instance.items()
        }
        found = (guest for instance, enis in of_instance.items() for guest in self._guests_of(instance, enis))
        return {guest.eni_id: guest for guest in found}

    def _host_of(self, instance: str, bound: list[str]) -> Host:
        """Return the host that an instance is on.

        That is where its ENIs are bound; else where it is already; else the host with the fewest instances.
        """
        named = [host for host in self.lab.hosts if host.name in bound]
        if named:
            return named[0]
        if instance in self.where:
            return self.where[instance]
        used = Counter(host.name for host in self.where.values())
        self.where[instance] = min(self.lab.hosts, key=lambda host: used[host.name])
        return self.where[instance]

    def _guests_of(self, instance: str, enis: list[dict[str, Any]]) -> Iterator[Guest]:
        """Yield an instance's workloads: the primary ENI is eth0; each other one keeps the number that it got."""
        known = {eni: guest.plug.index for eni, guest in self.guests.items() if guest.name == instance}
        free = (number for number in itertools.count() if number not in known.values())
        for eni in sorted(enis, key=lambda eni: (eni["Type"] != "Primary", eni["NetworkInterfaceId"])):
            index = known[eni["NetworkInterfaceId"]] if eni["NetworkInterfaceId"] in known else next(free)
            yield guest_of(eni, instance, self.where[instance], index, self._segment(eni["VpcId"]))

    def _segment(self, vpc_id: str) -> int:
        """Return the number of a VPC, which is joined on all hosts when it is first seen."""
        if vpc_id not in self._segments:
            number = len(self._segments) + 1
            for host in () if self.lab.placement.is_outside else self.lab.hosts:
                wires.join_segment(self.lab.fabric, host.namespace, host.number, number)
            self._segments[vpc_id] = number
        return self._segments[vpc_id]


def guest_of(eni: dict[str, Any], name: str, host: Host, index: int = 0, segment: int = 1) -> Guest:
    """Return an ENI, as DescribeNetworkInterfaces describes it, as a workload on that host."""
    texts = [one["PrivateIpAddress"] for one in eni["PrivateIpSets"]["PrivateIpSet"]]
    texts += [one["Ipv6Address"] for one in eni.get("Ipv6Sets", {}).get("Ipv6Set", ())]
    plug = Plug(index, eni["MacAddress"], tuple(map(Address.parse, texts)))
    return Guest(name, host, eni["NetworkInterfaceId"], plug, eni["VpcId"], segment)
