"""A process that has CAP_NET_ADMIN alone, in a workload's namespace that belongs to the machine's own user namespace.

Owns what such a process can do to its router by rtnetlink: it finds the router's number at its own interface, and puts
devices over the router's interfaces. Must not know what a test expects.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sgdataplane.host import netns
from tests.fence.bench import set_mark, try_to_send
from tests.fence.hostbench import HostBench, Send
from tests.fence.reach import NAME
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in

ONLY_ADMIN = ("setpriv", "--bounding-set", "-all,+net_admin")  # root in name only: nothing else is left after exec


@dataclass(frozen=True)
class Intruder:
    """It sits in the namespace `place`, where the router has this number."""

    place: str
    number: int

    @classmethod
    def at(cls, bench: HostBench) -> Intruder:
        (own,) = json.loads(run_in(bench.instance.netns, "ip", "-j", "link", "show", "eth0"))
        return cls(bench.instance.netns, int(own["link_netnsid"]))

    def run(self, *command: str) -> str:
        """With no other capability."""
        return run_in(self.place, *ONLY_ADMIN, *command)

    def reach(self, *arguments: str) -> str:
        """Into the router (reach.py)."""
        return self.run(sys.executable, "-m", "tests.fence.reach", str(self.number), *arguments)

    def links(self) -> dict[str, int]:
        """The router's interfaces: name -> index."""
        found: dict[str, int] = json.loads(self.reach())
        return found

    @contextmanager
    def over(self, link: int, kind: str, mode: str = "", mark: int = 0) -> Iterator[Send]:
        """What sends frames, with that mark, from a device of that kind over the router's interface. `link` 0: from one
        that sends by the router's routes. A refusal is no error here: what is asked is what came out."""
        self.reach(str(link), kind, mode)
        try:
            self.run("ip", "link", "set", NAME, "up")
            wait_until(lambda: "LOWER_UP" in run_in(self.place, "ip", "link", "show", NAME))
            with netns.inside(self.place), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                set_mark(sender, mark)
                sender.bind((NAME, 0))
                yield lambda frame: try_to_send(sender, frame, (NAME, 0))
        finally:
            self.run("ip", "link", "delete", NAME)
