"""What is on a path: nothing, the floor, our own filter in several forms, or a peer, each with a number of rules.

Owns the list, and how each is made. Must not know what is measured.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Protocol

from bench.errors import BenchError
from bench.ours import Ours
from bench.path import Path
from bench.peers import PEERS, Peer
from bench.policy import policy
from bench.shell import Shell
from sgdataplane.contract.sites import INSTANCE

# Rules of the ENI on the path where the namespace has as many ENIs as it can.
RULES_AMONG_ENIS = 100
FLOOR_RULES = """
table inet floor {
    chain input { type filter hook input priority 0; ct state established accept; }
    chain output { type filter hook output priority 0; ct state established accept; }
}
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to measure. `rules`: 0 if it has no policy."""

    name: str
    rules: int = 0

    def __str__(self) -> str:
        if not self.rules:
            return self.name
        return f"{self.name}, {self.rules:,} rule{'' if self.rules == 1 else 's'}"


NO_FILTER, FLOOR = Variant("no filter"), Variant("floor: one established rule a direction")
OURS, UNFENCED, MANY_ENIS = "ours", "ours without fence", f"ours, {INSTANCE.marks.max_links} ENIs"


class Filter(Protocol):
    """Something that filters in a namespace. `add` and `remove` put policy.CHANGE in force and take it back. All
    methods return when it is done, and raise an error of their own if it can't be done."""

    def load(self) -> None: ...
    def unload(self) -> None: ...
    def add(self) -> None: ...
    def remove(self) -> None: ...
    def close(self) -> None: ...


def ours(sizes: Sequence[int]) -> tuple[Variant, ...]:
    rules = tuple(Variant(OURS, size) for size in sizes)
    return (*rules, Variant(UNFENCED, sizes[-1]), Variant(MANY_ENIS, RULES_AMONG_ENIS))


def peers(sizes: Sequence[int]) -> tuple[Variant, ...]:
    return tuple(Variant(peer.name, size) for peer in PEERS for size in sizes)


class PeerFilter:
    """A peer, run with its own programs in the receiving namespace."""

    def __init__(self, peer: Peer, namespace: str, size: int, tree: FilePath) -> None:
        """BenchError if it isn't in the tree or doesn't start."""
        self._peer = peer
        self._shell = Shell(namespace, tree)
        try:
            self.version = self._packages()
            for path, text in peer.files(policy(size)).items():
                self._shell.write(path, text)
            self._shell.run(peer.start)
        except BenchError:
            self._shell.close()
            raise

    def _packages(self) -> str:
        """The peer's packages with their versions."""
        packages = self._peer.packages
        try:
            return self._shell.run(f"dpkg-query -W -f '${{Package}} ${{Version}} ' {packages}").strip()
        except BenchError as error:
            raise BenchError(f"not in the peers' tree, since this release of Debian has none: {packages}") from error

    def load(self) -> None:
        self._shell.run(self._peer.load)

    def unload(self) -> None:
        self._shell.run(self._peer.unload)

    def add(self) -> None:
        self._shell.run(self._peer.add)

    def remove(self) -> None:
        self._shell.run(self._peer.remove)

    def close(self) -> None:
        self._shell.close()


def make_filter(variant: Variant, path: Path, tree: FilePath) -> Filter | None:
    """None, as the floor is there already and has no policy to load or change."""
    if not variant.rules:
        if variant == FLOOR:
            subprocess.run(("ip", "netns", "exec", path.receiver, "nft", FLOOR_RULES), check=True)
        return None
    peer = next((peer for peer in PEERS if peer.name == variant.name), None)
    if peer is not None:
        return PeerFilter(peer, path.receiver, variant.rules, tree)
    enis = INSTANCE.marks.max_links if variant.name == MANY_ENIS else 1
    return Ours(path.receiver, path.mac, policy(variant.rules), enis=enis, is_fenced=variant.name != UNFENCED)
