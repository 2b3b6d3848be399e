"""A workload that leaves one host of a lab of hosts and goes on at another, and its sessions meanwhile.

Owns how it moves: its namespace goes on with its sockets, as a machine does that is migrated while it runs, and the
kernel's table of sessions stays behind. Must not know what is expected.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sgdataplane.host import conntrack, netns
from sgdataplane.host.links import Links
from sgdataplane.lab.hosts import guests
from sgdataplane.lab.hosts.hostslab import Host
from sgdataplane.lab.hosts.sandbox import sgdp
from sgdataplane.lab.waiting import scale_timeout
from tests.support.scenes.hostscloud import Cloud

SILENCE_S, HEARD_S = 0.7, scale_timeout(30.0)
SAID = 16  # bytes of what is said


def unplug(cloud: Cloud, name: str) -> None:
    """Its interface is gone, and the host where it was has no binding of it any more."""
    guest = cloud.workloads[name]
    with Links(guest.netns) as links:
        links.delete_link(guest.plug.ifname)
    cloud.lab.sandbox.run(sgdp("detach", "--eni", guest.eni_id), guest.host.namespace)
    with netns.inside(guest.netns):
        conntrack.end_tracked(lambda _: True)


def bring(cloud: Cloud, name: str, host: Host) -> None:
    """The namespace of a workload that was unplugged is also one of that host; `cloud.start` plugs it in there."""
    guest, sandbox = cloud.workloads[name], cloud.lab.sandbox
    inside = f"/run/netns/{guest.name}"
    keeper = sandbox.start(["nsenter", f"--net={inside}", "sleep", "infinity"], guest.host.namespace)
    try:
        there = Path(f"/proc/{keeper.pid}")
        own = Path(guest.netns).stat().st_ino
        deadline = time.monotonic() + HEARD_S
        while (there / "ns" / "net").stat().st_ino != own:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (line,) = (line for line in (there / "status").read_text("ascii").splitlines() if line.startswith("NSpid:"))
        sandbox.run(["ip", "netns", "attach", guest.name, line.split()[-1]], host.namespace)
    finally:
        keeper.kill()
        keeper.wait()
    sandbox.run(["ip", "netns", "delete", guest.name], guest.host.namespace)
    cloud.workloads[name] = replace(guest, host=host)


@dataclass
class Talk:
    """A session between two workloads. `near`: the socket of the one that has opened it."""

    near: socket.socket
    far: socket.socket

    def is_heard(self, *, back: bool = False, seconds: float = HEARD_S) -> bool:
        """Whether something that is said now arrives at the other end in time; `back`: said by the far one. What TCP
        couldn't send earlier arrives before it; of UDP it is said again and again."""
        sender, receiver = (self.far, self.near) if back else (self.near, self.far)
        said, deadline, found = os.urandom(SAID), time.monotonic() + seconds, b""
        sender.setblocking(False)
        receiver.settimeout(0.05)
        is_said = False
        while time.monotonic() < deadline:
            if not is_said or sender.type is socket.SOCK_DGRAM:
                with suppress(PermissionError):  # so an egress rule says no
                    sender.send(said)
                is_said = True
            with suppress(TimeoutError):
                found = found[-SAID:] + receiver.recv(1 << 12)
            if said in found:
                return True
        return False

    def is_silent(self, *, back: bool = False) -> bool:
        """Nothing of it arrives for a while."""
        return not self.is_heard(back=back, seconds=SILENCE_S)


@contextmanager
def talk(cloud: Cloud, opener: str, answerer: str, port: int, kind: socket.SocketKind) -> Iterator[Talk]:
    """A session that has begun: both have heard each other."""
    at = cloud.address(answerer), port
    with netns.inside(cloud.netns(answerer)):
        far = socket.socket(socket.AF_INET, kind)
    with netns.inside(cloud.netns(opener)):
        near = socket.socket(socket.AF_INET, kind)
    with near, far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        far.bind(at)
        near.settimeout(HEARD_S)
        if kind is socket.SOCK_DGRAM:
            near.bind((cloud.address(opener), 0))
            near.connect(at)
            far.connect(near.getsockname())
            made = Talk(near, far)
        else:
            far.listen()
            near.connect(at)
            made = Talk(near, far.accept()[0])
            far.close()  # so that the next one can have the port
        with made.far:
            assert made.is_heard()
            assert made.is_heard(back=True)
            yield made


def plugged_in(cloud: Cloud, name: str) -> None:
    """Make it where `bring` or `place` has said."""
    guests.start_all(cloud.lab.sandbox, [cloud.workloads[name]])
