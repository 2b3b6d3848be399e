"""The records of an apply: what a namespace has to obey, how to apply it, and what was done.

They are plain data. Must not know kernels, or how a table is made.
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
    """What a namespace has to obey.

    With `placement` host, the namespace is a VPC's router. The interfaces are the host ends of all ENIs of this VPC on
    this host, and `uplinks` lead to other hosts and outside. Any other interface passes nothing.
    """

    state: CloudState
    interfaces: Mapping[str, str]  # ENI id -> the name of the interface that carries it
    options: Options = DEFAULTS
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()  # names or patterns of a router's other interfaces

    def __post_init__(self) -> None:
        object.__setattr__(self, "interfaces", dict(self.interfaces))  # a copy, in case the caller changes theirs

    def on(self, state: CloudState) -> Desired:
        """Return the same with another state."""
        return self if state is self.state else replace(self, state=state)

    @property
    def site(self) -> Site:
        """The site where its table is attached."""
        return SITES[self.placement]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to apply."""

    on_change: Literal["revoke", "keep"] = "revoke"
    """`revoke` judges running sessions again at their next packet, `keep` keeps them until they expire."""
    time_scale: float = 1.0
    """A factor of all timeouts, for labs."""
    resync: bool = False
    """Whether to write everything anew, whatever the kernel holds."""
    adoption_window: float = DEFAULT_WINDOW_MS / 1000
    """Seconds for which running sessions may continue after an ENI is first protected.

    TCP that the ENI sends for no known session is judged then, instead of dropped. 0: never.
    """
    fence: bool = True
    """Whether to drop what the instance sends past the policy, through packet sockets (compiler/fence.py)."""
    prove: bool = True
    """Whether a table must be proven to do what the state says (proof/)."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did."""

    epoch: int  # the policy's
    staged: int  # rules, elements and the like that the stage added or removed, the fence's included
    switched: int  # those that the switch added or removed
    swept: int  # those that the sweep added or removed
    seconds: float  # how long all of it took, with the build
    is_full_resync: bool = False  # whether it was a full resync, as what the kernel held wasn't trusted
    time_scale: float = 1.0
    untracked: tuple[str, ...] = ()  # protocols without a tracker of their own in this kernel
    unknown_timeouts: tuple[str, ...] = ()  # timeouts of trackers that we don't know; they are bounded
    leftover: str = ""  # what the kernel refused after the policy was in force, or ""; the next apply tidies up
    adopting: tuple[str, ...] = ()  # interfaces whose mid-stream pickup window this apply opened
    adoption_window: float = 0.0  # seconds for which it opened that
    seeded: int = 0  # how many of their running TCP sessions conntrack didn't know
    shortened: int = 0  # how many sessions of new ENIs had more time left than they may have
    fenced: tuple[str, ...] = ()  # interfaces behind the fence; an interface that isn't there yet can't be
    counted: Mapping[str, Counted] = field(default_factory=dict)  # the last values of removed rules' counters
    slow: str = ""  # why each change of this policy holds the kernel for more than a second, or ""
    flowtables: tuple[Flowtable, ...] = ()  # those of other programs there, which carry sessions past the policy
    ageing: Ageing | None = None  # what the next apply has to know of this one

    @property
    def is_unsettled(self) -> bool:
        """Whether sessions with this epoch may pass that the policy refuses, until their marks are cleared."""
        return self.ageing is not None and self.ageing.stamp.is_unsettled

    @property
    def left_to_do(self) -> str:
        """What is left to do, or ""."""
        return self.leftover or (UNSETTLED if self.is_unsettled else "")

    @property
    def changed(self) -> bool:
        """Whether the apply has changed anything."""
        return bool(self.staged or self.switched or self.swept)

    @property
    def at_rest(self) -> ApplyReport:
        """The report of an apply that finds everything there already."""
        if not self.changed:
            return self
        nothing = replace(self, staged=0, switched=0, swept=0, seconds=0.0, is_full_resync=False)
        return replace(nothing, adopting=(), adoption_window=0.0, seeded=0, shortened=0, counted={})


DEFAULT_SETTINGS = Settings()
