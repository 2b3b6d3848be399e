"""Very many sessions: UDP from a neighbour to the protected instance, from many ports to many ports, with real packets.

Owns a sample of them, whose ends can speak: those to the first SAMPLE target ports.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from sgdataplane.host import netns, sysctl
from sgdataplane.model.state import CloudState, ConnectionTracking
from tests.support.probes.flood import wait_until
from tests.support.probes.witness import OUTSIDE, Counts, Watch, Witness, grown
from tests.support.scenes.sessionlab import SessionLab, session_lab

FIRST_SOURCE, FIRST_TARGET, SOURCES = 20000, 10000, 100
SAMPLE = 5


def watch() -> Watch:
    """The sample's packets, to be counted."""
    ports = f"{FIRST_TARGET}-{FIRST_TARGET + SAMPLE - 1}"
    return Watch("sample", (f"udp dport {ports}", f"udp sport {ports}"))


class Crowd:
    """`count` sessions, each begun with one packet; `size` of them are the sample."""

    def __init__(self, lab: SessionLab, stack: ExitStack, count: int) -> None:
        self._address, self._far = lab.near.addresses[0], lab.far.addresses[0]
        self._sources = [opened(stack, lab.far.netns, self._far, FIRST_SOURCE + n) for n in range(min(count, SOURCES))]
        targets = max(1, count // SOURCES)
        self._samples = range(FIRST_TARGET, FIRST_TARGET + min(SAMPLE, targets))
        self._targets = [opened(stack, lab.near.netns, self._address, port) for port in self._samples]
        self.size = len(self._sources) * len(self._samples)
        for port in range(FIRST_TARGET, FIRST_TARGET + targets):
            self._all_to(port)

    def _all_to(self, port: int) -> None:
        for source in self._sources:
            source.sendto(b"client", (self._address, port))

    def clients_speak(self) -> None:
        """One packet in each session of the sample."""
        for port in self._samples:
            self._all_to(port)

    def servers_speak(self) -> None:
        for target in self._targets:
            for number in range(len(self._sources)):
                with suppress(PermissionError):  # dropped on its way out
                    target.sendto(b"server", (self._far, FIRST_SOURCE + number))


def opened(stack: ExitStack, namespace: str, address: str, port: int) -> socket.socket:
    with netns.inside(namespace):
        made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind((address, port))
    return made


def tracked(lab: SessionLab) -> int:
    """Sessions in the table of the namespace that protects the instance."""
    with netns.inside(lab.site.netns):
        return int(sysctl.read("netfilter/nf_conntrack_count"))


@dataclass(frozen=True, slots=True)
class CrowdScene:
    """A lab, and the witnesses of the sample's packets at the protected instance and at the neighbour."""

    lab: SessionLab
    near: Witness
    far: Witness

    def check_sample(self, crowd: Crowd, *, passes: bool) -> None:
        """A packet in each session of the sample comes to our hooks, from either end; all of them pass, or none."""
        for speak, way, arrival in ((crowd.clients_speak, "in", None), (crowd.servers_speak, "out", "in")):
            before = self._counts()
            speak()
            wait_until(lambda: self._came(before, f"{way}_before") == crowd.size)  # noqa: B023  (called here only)
            expected = crowd.size if passes else 0
            assert self._came(before, f"{way}_after") == expected
            if arrival:
                assert self._came(before, arrival) == expected

    def _counts(self) -> Counts:
        return {**self.near.counts(), **self.far.counts()}

    def _came(self, before: Counts, place: str) -> int:
        return grown(before, self._counts())[place, "sample"]


@contextmanager
def crowd_scene(name: str, placement: str = "instance") -> Iterator[CrowdScene]:
    with session_lab(name, placement) as lab:
        near = lab.site.witness((watch(),))
        far = Witness(lab.far.netns, OUTSIDE, (watch(),))
        near.load()
        far.load()
        yield CrowdScene(lab, near, far)


def with_long_sessions(state: CloudState) -> CloudState:
    """The state, with UDP sessions that live longer than a test."""
    tracking = ConnectionTracking(udp_timeout=100)
    enis = tuple(replace(eni, connection_tracking=tracking) for eni in state.network_interfaces)
    return replace(state, network_interfaces=enis)
