"""What is on a path: nothing, the floor, our own filter in several forms, or a peer, each at one size.

Owns the list, and how each is made. Must not know what is measured.
"""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Protocol

from bench import ours
from bench.errors import BenchError
from bench.morepeers import ENI_PEERS, MEMBER_PEERS, host_ends
from bench.ours import Make, Ours, OursOnTrial
from bench.path import Path, RoutedPath
from bench.peers import PEERS, Peer
from bench.shell import Shell
from sgdataplane.enforce import DEFAULT_SETTINGS
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Placement


class Axis(enum.Enum):
    """What grows from one size of a filter to the next."""

    RULES = "rule"
    ENIS = "ENI"
    MEMBERS = "member"


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to measure. `size`: how many rules, ENIs or members it has; 0 if it has no policy."""

    name: str
    size: int = 0

    @property
    def axis(self) -> Axis:
        return AXES.get(self.name, Axis.RULES)

    @property
    def is_observed(self) -> bool:
        """Whether it is ours with something that observes. Changes are measured without."""
        return self.name in OBSERVED

    @property
    def is_denying(self) -> bool:
        """Whether the filter drops what its policy refuses."""
        return bool(self.size) and self.name != AUDITED

    @property
    def is_routed(self) -> bool:
        """Whether the filter stands in a router between the path's ends."""
        return self.name in ROUTED

    @property
    def bare(self) -> Variant:
        """The same path without a filter."""
        return NO_FILTER_ROUTED if self.is_routed else NO_FILTER

    @property
    def floor(self) -> Variant:
        return FLOOR_ROUTED if self.is_routed else FLOOR

    def __str__(self) -> str:
        if not self.size:
            return self.name
        return f"{self.name}, {self.size:,} {self.axis.value}{'' if self.size == 1 else 's'}"


NO_FILTER, FLOOR = Variant("no filter"), Variant("floor: one established rule a direction")
NO_FILTER_ROUTED = Variant("no filter, through a router")
FLOOR_ROUTED = Variant("floor in a router: one established rule")
OURS, UNFENCED = "ours", "ours without fence"
AUDITED, ON_TRIAL = "ours in audit mode", "ours with a trial"
INSTANCE, HOST, MEMBERS = "ours, instance placement", "ours, host placement", "ours, a group"
OWN = (OURS, UNFENCED, AUDITED, ON_TRIAL, INSTANCE, HOST, MEMBERS)
OBSERVED = (AUDITED, ON_TRIAL)
ROUTED = {NO_FILTER_ROUTED.name, FLOOR_ROUTED.name, HOST, *(peer.name for peer in ENI_PEERS)}
AXES: Mapping[str, Axis] = {
    **dict.fromkeys((INSTANCE, HOST, *(peer.name for peer in ENI_PEERS)), Axis.ENIS),
    **dict.fromkeys((MEMBERS, *(peer.name for peer in MEMBER_PEERS)), Axis.MEMBERS),
}
ALL_PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (*PEERS, *ENI_PEERS, *MEMBER_PEERS)}
ESTABLISHED = "ct state established accept;"
HOOKS = {FLOOR: ("input", "output"), FLOOR_ROUTED: ("forward",)}  # of the floor's chains
STATES: Mapping[str, Callable[[str, int], Make]] = {
    OURS: ours.by_rules,
    UNFENCED: ours.by_rules,
    AUDITED: partial(ours.by_rules, mode=Mode.AUDIT),
    ON_TRIAL: ours.by_rules,
    INSTANCE: partial(ours.by_enis, placement=Placement.INSTANCE),
    HOST: partial(ours.by_enis, placement=Placement.HOST),
    MEMBERS: ours.by_members,
}


def variants(
    rules: Sequence[int], instance: Sequence[int], host: Sequence[int], members: Sequence[int], peers: Sequence[str]
) -> tuple[Variant, ...]:
    """At these sizes. `peers`: the names of those to run; they have the sizes that ours has."""
    sizes = {Axis.RULES: rules, Axis.ENIS: host, Axis.MEMBERS: members}
    most = dict.fromkeys((UNFENCED, *OBSERVED), rules[-1:])
    own = {OURS: rules, **most, INSTANCE: instance, HOST: host, MEMBERS: members}
    beside = {name: sizes[AXES.get(name, Axis.RULES)] for name in peers}
    bare = (NO_FILTER, FLOOR, NO_FILTER_ROUTED, FLOOR_ROUTED)
    return (*bare, *(Variant(name, size) for name, found in {**own, **beside}.items() for size in found))


class Filter(Protocol):
    """Something that filters in a namespace. `add` and `remove` put policy.CHANGE in force and take it back; `turn` is
    called before each of them, and isn't measured. All methods return when it is done, and raise an error of their own
    if it can't be done."""

    def load(self) -> None: ...
    def unload(self) -> None: ...
    def turn(self) -> None: ...
    def add(self) -> None: ...
    def remove(self) -> None: ...
    def close(self) -> None: ...


class PeerFilter:
    """A peer, run with its own programs in the filtering namespace."""

    def __init__(self, peer: Peer, namespace: str, size: int, tree: FilePath) -> None:
        """BenchError if it isn't in the tree or doesn't start."""
        self._peer = peer
        self._shell = Shell(namespace, tree)
        try:
            self.version = self._packages()
            for path, text in peer.files(size).items():
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

    def turn(self) -> None:
        """Do nothing: each command is a process of its own, and remembers nothing of earlier ones."""

    def add(self) -> None:
        self._shell.run(self._peer.add)

    def remove(self) -> None:
        self._shell.run(self._peer.remove)

    def close(self) -> None:
        self._shell.close()


def make_path(variant: Variant, name: str) -> Path:
    return RoutedPath(name) if variant.is_routed else Path(name)


def make_filter(variant: Variant, path: Path, tree: FilePath) -> Filter | None:
    """None if there is no policy to load or change: the floor is in force at once."""
    if variant in HOOKS:
        subprocess.run(("ip", "netns", "exec", path.filtering, "nft", _floor(variant)), check=True)
    if not variant.size:
        return None
    if isinstance(path, RoutedPath):
        path.add_ends(host_ends(variant.size))
    if variant.name in ALL_PEERS:
        return PeerFilter(ALL_PEERS[variant.name], path.filtering, variant.size, tree)
    settings = replace(DEFAULT_SETTINGS, fence=variant.name != UNFENCED)
    make = OursOnTrial if variant.name == ON_TRIAL else Ours
    return make(path.filtering, STATES[variant.name](path.mac, variant.size), settings)


def _floor(variant: Variant) -> str:
    chains = (f"chain {hook} {{ type filter hook {hook} priority 0; {ESTABLISHED} }}" for hook in HOOKS[variant])
    return "\n".join(("table inet floor {", *chains, "}"))
