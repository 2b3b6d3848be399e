"""Three hosts that follow one control plane, with an instance on each: what tests of many hosts begin with.

Owns where the instances are, and how a test looks at packets between them. Must not know what is expected.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.lab.hosts.hostslab import Host, HostsLab
from tests.support.probes.streams import Route
from tests.support.probes.witness import PROTECTED, Watch, Witness
from tests.support.scenes.hostscloud import IFNAME, Cloud

CONNECT_S = 0.5
UNREACHED = (errno.ENETUNREACH, errno.EHOSTUNREACH)
PLACES = {"web": 0, "db": 1, "far": 2}  # name -> its host's index


@dataclass
class Scene:
    """Three hosts, with an instance on each. `groups`: of each instance, its own."""

    lab: HostsLab
    cloud: Cloud
    groups: dict[str, str]

    def host(self, name: str) -> Host:
        return self.lab.hosts[PLACES[name]]

    def generation(self, name: str) -> str:
        """What that instance's host has."""
        return (self.host(name).folder / "current").readlink().name

    def sync_log(self, name: str) -> str:
        sync = self.host(name).sync
        assert sync is not None
        return sync.log.read_text("utf-8", "replace")

    def witness(self, name: str, watches: Sequence[Watch]) -> Witness:
        """Counters around the policy of that instance."""
        guest, placement = self.cloud.workloads[name], self.lab.placement
        at = (guest.router, guest.port) if placement.is_outside else (guest.netns, IFNAME)
        found = Witness(at[0], PROTECTED[placement.value], tuple(watches), at[1])
        found.load()
        return found

    def route(self, port: int) -> Route:
        """From the web to the database, which are on two hosts."""
        return Route(self.cloud.netns("web"), self.cloud.netns("db"), self.cloud.address("db"), port)

    def reaches(self, sender: str, receiver: str, port: int) -> bool:
        """Whether a TCP connection comes about; the listener is up. A router that knows no way says so."""
        at = self.cloud.address(receiver), port
        with netns.inside(self.cloud.netns(receiver)):
            listener = socket.create_server(at)
        with listener, netns.inside(self.cloud.netns(sender)):
            try:
                socket.create_connection(at, timeout=CONNECT_S).close()
            except OSError as error:
                if error.errno not in UNREACHED and not isinstance(error, TimeoutError):
                    raise
                return False
        return True
