"""What fails in a lab of hosts, and a thread that says whether packets do what the API says meanwhile.

Owns how a part fails and comes back. Must not know what is expected then.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab.hosts import wires
from sgdataplane.lab.hosts.components import Component
from sgdataplane.lab.hosts.hostslab import FIRST_MEMBER, PEER_PORT, HostsLab
from sgdataplane.lab.hosts.sandbox import SHARED
from tests.support.scenes.hostscloud import Cloud, rule

SIDE, ARRIVAL_S = 7000, 0.5
SEED, PACKETS = 71, 20


@contextmanager
def cut_off(lab: HostsLab, number: int) -> Iterator[None]:
    """The room with that number is off the management network."""
    with Links(lab.sandbox.namespace.netns) as links:
        links.set_down(wires.management_port(number))
        try:
            yield
        finally:
            links.set_up(wires.management_port(number))


@contextmanager
def stopped(components: Sequence[Component]) -> Iterator[None]:
    """They are there, and do nothing."""
    processes = [component.process for component in components if component.process]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def kill_each_second(lab: HostsLab, seconds: float) -> Counter[str]:
    """One of the components, which is started again at once. How often each kind was."""
    chooser, killed = random.Random(SEED), Counter[str]()
    began = time.monotonic()
    while (past := time.monotonic() - began) < seconds:
        component = chooser.choice(lab.components)
        component.kill()
        component.start()
        killed[component.name] += 1
        threading.Event().wait(max(0.0, killed.total() - past))
    return killed


@dataclass
class Turning:
    """A thread that lets a UDP session between two hosts in and out, in turn. `shown`: how often each was in force by
    the API's word, and then by packets; `wrong`: when packets said something else; `made`: names of groups that it has
    made by the way, which all begin with `prefix`."""

    cloud: Cloud
    group: str
    host: str
    shown: Counter[str] = field(default_factory=lambda: Counter(open=0, shut=0))
    wrong: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    prefix: str = field(default_factory=lambda: f"made-{os.urandom(4).hex()}-")

    def __enter__(self) -> Self:
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with netns.inside(self.cloud.netns("web")):
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with netns.inside(self.cloud.netns("db")):
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender, receiver:
                receiver.bind((self.cloud.address("db"), SIDE))
                while not self._is_ending.is_set():
                    self._turn("open", sender, receiver)
                    self._turn("shut", sender, receiver)
                    self.made.append(f"{self.prefix}{len(self.made)}")
                    self.cloud.ask("CreateSecurityGroup", VpcId=self.cloud.vpc, SecurityGroupName=self.made[-1])
        except Exception as error:  # noqa: BLE001  # the test says so
            self.wrong.append(repr(error))

    def __str__(self) -> str:
        return f"turned {dict(self.shown)}, made {len(self.made)} groups"

    def _turn(self, way: str, sender: socket.socket, receiver: socket.socket) -> None:
        revision = (self.cloud.open if way == "open" else self.cloud.shut)(self.group, rule(SIDE, "UDP"))
        for _ in range(10):
            if self.host in self.cloud.ask("SgdpWait", Revision=revision, Timeout=3)["Enforced"]:
                break
        else:
            return
        count = arrived(sender, receiver)
        self.shown[way] += 1
        if count != (PACKETS if way == "open" else 0):
            self.wrong.append(f"{way} since revision {revision}, but {count} of {PACKETS} packets arrived")


def arrived(sender: socket.socket, receiver: socket.socket) -> int:
    """How many of some packets. What was sent earlier has arrived already, or never will."""
    receiver.settimeout(ARRIVAL_S)
    token = os.urandom(8)
    for _ in range(PACKETS):
        sender.sendto(token, receiver.getsockname())
    count = 0
    try:
        while count < PACKETS:
            count += receiver.recv(64) == token
    except TimeoutError:
        pass
    return count


def saved(lab: HostsLab) -> str:
    """A copy of the store, as etcd makes it; its path in there."""
    copy = str(SHARED / "copy")
    lab.run_etcdctl("snapshot", "save", copy)
    return copy


def restored(lab: HostsLab, copy: str) -> None:
    """All members begin with that copy. They are down."""
    peers = {
        member.name: f"https://{wires.management_address(number)}:{PEER_PORT}"
        for number, member in enumerate(lab.members, FIRST_MEMBER)
    }
    cluster = ",".join(f"{name}={url}" for name, url in peers.items())
    for name, url in peers.items():
        data = str(SHARED / name)
        lab.sandbox.run(["rm", "-r", data])
        where = ("--name", name, "--initial-cluster", cluster, "--initial-advertise-peer-urls", url)
        lab.sandbox.run(["etcdctl", "snapshot", "restore", copy, "--data-dir", data, *where])
