"""`python -m bench.endtoend`: from a call of the cloud's API to packets, and to "enforced", in a lab of whole hosts.

Owns the account, the calls, and what is told. The lab has etcd, an API, relays, and on each host an agent and a sync.
Each host has an instance in one group that all share, and one host an instance more that sends. Must not know how any
of them works, or what is promised.

A rule that opens a UDP port is authorized, and later revoked. Each number is in ms, from when the call begins:

    call_ms        until it is answered
    packet_ms      until an instance on another host receives a datagram that the new rule lets in; one is sent every
                   half a millisecond
    enforced_ms    until SgdpWait, called as soon as the first call is answered, says that all hosts enforce it
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from bench.costs import begin, tell
from bench.errors import BenchError
from sgdataplane.host import netns
from sgdataplane.lab.hosts.guests import Guest
from sgdataplane.lab.hosts.hostslab import HostsLab, hosts_lab
from sgdataplane.lab.hosts.housekeeping import Housekeeper, LabClient
from sgdataplane.statefile import dump_native
from tests.support.inputs.builders import make_eni, make_group, make_state

GROUP, SENDERS, FIRST_PORT = "sg-all", "sg-senders", 20_000
EVERY_S, MAX_S = 0.0005, 20.0


def eni_id(number: int) -> str:
    return f"eni-{number}"


class Everywhere:
    """The lab with its instances, in force everywhere."""

    def __init__(self, lab: HostsLab, folder: Path) -> None:
        self.lab, self.client = lab, LabClient(lab)
        self._keeper = Housekeeper(lab, self.client)
        enis = [
            make_eni(eni_id(n), f"10.0.0.{10 + n}", GROUP if n else SENDERS, instance_id=f"i-{n}")
            for n in range(len(lab.hosts) + 1)
        ]
        file = folder / "state.yaml"
        state = make_state([make_group(GROUP), make_group(SENDERS)], enis)
        file.write_text(dump_native(state), encoding="utf-8")
        lab.import_state(file)
        deadline = time.monotonic() + 120
        while not self._is_settled(len(enis)):
            if time.monotonic() > deadline:
                raise BenchError("the instances aren't in force in time")
        self._port = FIRST_PORT

    def _is_settled(self, count: int) -> bool:
        """Whether all instances are bound to their hosts, and obey the last revision."""
        self._keeper.turn()
        outcomes = [outcome for host in self.lab.hosts for outcome in host.outcomes().values()]
        answer = self.client.ask("SgdpWait", Timeout=5)
        is_enforced = not (answer["Lagging"] or answer["Failed"] or answer["Unknown"])
        return is_enforced and outcomes == ["in force"] * count

    def measure_once(self) -> dict[str, float]:
        """Open a port, and close it again."""
        self._port += 1
        guests = self._keeper.guests
        sender = guests[eni_id(0)]
        receiver = next(guest for guest in guests.values() if guest.host is not sender.host)
        with received(sender, receiver, self._port) as arrival:
            rule = {"IpProtocol": "udp", "PortRange": f"{self._port}/{self._port}", "SourceCidrIp": "10.0.0.0/24"}
            began = time.monotonic()
            call = self._call("AuthorizeSecurityGroup", rule) - began
            self._wait()
            enforced = time.monotonic() - began
            packet = arrival() - began
        self._call("RevokeSecurityGroup", rule)
        self._wait()
        return {"call_ms": call * 1e3, "packet_ms": packet * 1e3, "enforced_ms": enforced * 1e3}

    def _call(self, action: str, rule: dict[str, str]) -> float:
        """When it was answered."""
        self.client.ask(action, SecurityGroupId=GROUP, Permissions=[rule])
        return time.monotonic()

    def _wait(self) -> None:
        answer = self.client.ask("SgdpWait", Timeout=60)
        if not answer["Enforced"] or answer["Lagging"] or answer["Failed"] or answer["Unknown"]:
            raise BenchError(f"not in force everywhere: {answer}")


@contextmanager
def received(sender: Guest, receiver: Guest, port: int) -> Iterator[Arrival]:
    """Send datagrams to a port while the block runs."""
    arrival = Arrival(sender, receiver, port)
    arrival.start()
    try:
        yield arrival
    finally:
        arrival.end()


class Arrival:
    """Datagrams on their way. Calling it waits for the first one that arrives, and returns when that was."""

    def __init__(self, sender: Guest, receiver: Guest, port: int) -> None:
        self._to = str(receiver.plug.addresses[0]).partition("/")[0], port
        with netns.inside(sender.netns):
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with netns.inside(receiver.netns):
            self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind(("", port))
        self._receiver.settimeout(MAX_S)
        self._is_over = threading.Event()
        self._at: float | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    def __call__(self) -> float:
        self._threads[1].join()
        if self._at is None:
            raise BenchError(f"no datagram arrived in {MAX_S:.0f} s")
        return self._at

    def _send(self) -> None:
        for _ in range(int(MAX_S / EVERY_S)):
            if self._is_over.wait(EVERY_S) or self._at is not None:
                return
            self._sender.sendto(b"x", self._to)

    def _receive(self) -> None:
        try:
            self._receiver.recv(16)
        except TimeoutError:
            return
        self._at = time.monotonic()


def show(samples: dict[str, list[float]]) -> None:
    for name, found in samples.items():
        cut = quantiles(found, n=100, method="inclusive") if len(found) > 1 else found * 99
        print(f"{name}: p50 {cut[49]:.0f}, p90 {cut[89]:.0f}, p99 {cut[98]:.0f}, max {max(found):.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.endtoend", description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=3, help="hosts of the lab (default 3)")
    parser.add_argument("--relays", type=int, default=1, help="relays (default 1)")
    parser.add_argument("--times", type=int, default=50, help="calls (default 50)")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, hosts_lab(options.hosts, apis=1, relays=options.relays) as lab:
        scene = Everywhere(lab, Path(folder))
        if options.json:
            begin("call_ms", "packet_ms", "enforced_ms")
        found = [scene.measure_once() for _ in range(options.times + 1)][1:]  # the first one fills caches
    samples = {name: [one[name] for one in found] for name in found[0]}
    if options.json:
        tell(**samples)
    else:
        show(samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
