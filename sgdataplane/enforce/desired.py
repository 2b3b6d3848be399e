"""What a namespace is to obey, how to apply it, and what an apply did.

Owns these records. They are plain data. Must not know kernels, or how a table is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.tables import DEFAULT_WINDOW_MS
from sgdataplane.enforce.epochs import Ageing
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.others import Flowtable

UNSETTLED = "marks of unknown policies are being cleared from its sessions; until then some may pass that it refuses"


@dataclass(frozen=True)
class Desired:
    """What a namespace is to obey: the state, and which interface carries which ENI (ENI id -> interface name).

    With `placement` host, the namespace is a VPC's router. The interfaces are the host ends of all ENIs of this VPC on
    this host, and `uplinks` lead to other hosts and outside. Any other interface passes nothing."""

    state: CloudState
    interfaces: Mapping[str, str]
    options: Options = DEFAULTS
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "interfaces", dict(self.interfaces))  # a copy, in case the caller changes theirs

    def on(self, state: CloudState) -> Desired:
        """The same with another state."""
        return self if state is self.state else replace(self, state=state)

    @property
    def site(self) -> Site:
        """Where its table is attached."""
        return SITES[self.placement]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to apply.

    on_change: `revoke` judges running sessions again at their next packet, `keep` keeps them until they expire.
    time_scale: multiplies all timeouts, for labs.    resync: write everything anew, whatever the kernel holds.
    adoption_window: for that many seconds after an ENI is first protected, TCP that it sends for no known session is
    judged instead of dropped, so that its running sessions continue; 0: never.
    fence: drop what the instance sends past the policy, through packet sockets (compiler/fence.py).
    prove: build a table only if it is proven to do what the state says (proof/).
    """

    on_change: Literal["revoke", "keep"] = "revoke"
    time_scale: float = 1.0
    resync: bool = False
    adoption_window: float = DEFAULT_WINDOW_MS / 1000
    fence: bool = True
    prove: bool = True


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did. `staged`, `switched`, `swept`: rules, elements and the like that each step added or removed,
    the fence's included. `seconds`: all of it, with the build. `is_refill`: what the kernel held wasn't trusted.
    `untracked`: protocols without a tracker of their own in this kernel. `unknown_timeouts`: timeouts of trackers that
    we don't know; they are bounded. `leftover`: what the kernel refused after the policy was in force, or ""; the next
    apply tidies up. `adopting`: interfaces whose adoption window this apply opened, for `adoption_window` seconds.
    `seeded`: how many of their running TCP sessions conntrack didn't know. `shortened`: how many sessions of new ENIs
    had more time left than they may have. `fenced`: interfaces behind the fence; an interface that isn't there yet
    can't be. `counted`: the last values of removed rules' counters. `slow`: why each change of this policy holds the
    kernel for more than a second, or "". `flowtables`: those of other programs there, which carry sessions past the
    policy. `ageing`: what the next apply has to know of this one. `is_unsettled`: sessions with this epoch may pass
    that the policy refuses, until their marks are cleared."""

    epoch: int
    staged: int
    switched: int
    swept: int
    seconds: float
    is_refill: bool = False
    time_scale: float = 1.0
    untracked: tuple[str, ...] = ()
    unknown_timeouts: tuple[str, ...] = ()
    leftover: str = ""
    adopting: tuple[str, ...] = ()
    adoption_window: float = 0.0
    seeded: int = 0
    shortened: int = 0
    fenced: tuple[str, ...] = ()
    counted: Mapping[str, Counted] = field(default_factory=dict)
    slow: str = ""
    flowtables: tuple[Flowtable, ...] = ()
    ageing: Ageing | None = None

    @property
    def is_unsettled(self) -> bool:
        return self.ageing is not None and self.ageing.stamp.is_unsettled

    @property
    def undone(self) -> str:
        """What is left to do, or ""."""
        return self.leftover or (UNSETTLED if self.is_unsettled else "")

    @property
    def changed(self) -> bool:
        return bool(self.staged or self.switched or self.swept)

    @property
    def at_rest(self) -> ApplyReport:
        """The report of an apply that finds everything there already."""
        if not self.changed:
            return self
        nothing = replace(self, staged=0, switched=0, swept=0, seconds=0.0, is_refill=False)
        return replace(nothing, adopting=(), adoption_window=0.0, seeded=0, shortened=0, counted={})


DEFAULT_SETTINGS = Settings()
