"""What a namespace is to obey, how to apply it, and what an apply did.

Owns these records, and the table that a desired state compiles to. Must not know kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sgdataplane.compiler.collection import no_collection
from sgdataplane.compiler.compile import FIRST_EPOCH, compile_policy
from sgdataplane.compiler.fence import compile_fence
from sgdataplane.compiler.memo import Memo
from sgdataplane.compiler.site import SITES, Site
from sgdataplane.compiler.skeleton import DEFAULT_WINDOW_MS
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.placement import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.ir import Table
from sgdataplane.nft.visits import Visits
from sgdataplane.observe.flowtables import Flowtable
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.known import Known
from sgdataplane.proof.prove import require_proof
from sgdataplane.proof.specification import Specification


@dataclass(frozen=True)
class Desired:
    """What a namespace is to obey: the state, and which interface carries which ENI (ENI id -> interface name).

    `placement` host: the namespace is that of a VPC's router, the interfaces are the host ends of all ENIs of this VPC
    that this host has, and `uplinks` those that lead to other hosts and outside; an interface that is neither passes
    nothing.

    Its table, what the compile left (`memo`), what was counted of it (`visited`) and what is proven of it (`known`)
    stay with it."""

    state: CloudState
    interfaces: Mapping[str, str]
    options: Options = DEFAULTS
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()
    memo: list[Memo] = field(default_factory=list, init=False, compare=False, repr=False)
    known: list[Known] = field(default_factory=list, init=False, compare=False, repr=False)
    _tables: dict[float, Table] = field(default_factory=dict, init=False, compare=False, repr=False)
    visited: dict[float, Visits] = field(default_factory=dict, init=False, compare=False, repr=False)
    _proven: set[float] = field(default_factory=set, init=False, compare=False, repr=False)
    _fences: dict[tuple[tuple[str, ...], int, tuple[str, ...]], Table] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "interfaces", dict(self.interfaces))  # whatever the caller does to theirs later

    def on(self, state: CloudState) -> Desired:
        """The same on another state, which says the same of its ENIs (policy/reach.py): nothing is compiled or proven
        anew."""
        if state is self.state:
            return self
        other = replace(self, state=state)
        for name in ("memo", "known", "_tables", "visited", "_proven", "_fences"):
            object.__setattr__(other, name, getattr(self, name))
        return other

    @property
    def site(self) -> Site:
        """Where its table stands."""
        return SITES[self.placement]

    @property
    def is_whole(self) -> bool:
        """Whether the state has all of its ENIs."""
        return self.interfaces.keys() <= self.state.eni.keys()

    def table(self, time_scale: float = 1.0, previous: Desired | None = None) -> Table:
        """The table for it, at the first epoch. It is compiled once: who applied a state has the table to compare the
        next one with. `previous`: only what differs from it is compiled anew; the table is the same."""
        if time_scale not in self._tables:
            memo = Memo() if previous is None or not previous.memo else previous.memo[0].next()
            self._tables[time_scale] = _compiled(self, time_scale, memo)
            self.memo[:] = [memo]
        return self._tables[time_scale]

    def visits(self, time_scale: float = 1.0, previous: Desired | None = None) -> Visits:
        """How much of the table the kernel walks at a commit; as `table`, counted once, and only what differs."""
        if time_scale not in self.visited:
            before = None if previous is None else previous.visited.get(time_scale)
            table = self.table(time_scale, previous)
            with no_collection():
                self.visited[time_scale] = Visits.of(table, before)
        return self.visited[time_scale]

    def fence(self, ifnames: tuple[str, ...], secret: int, uplinks: tuple[str, ...] = ()) -> Table:
        """The fence of these interfaces, with the mark of what may pass it. Kept, as the table is."""
        key = ifnames, secret, uplinks
        if key not in self._fences:
            owners = {ifname: self.state.eni[eni] for eni, ifname in self.interfaces.items() if ifname in ifnames}
            enis = {ifname: owners[ifname] for ifname in ifnames}
            self._fences.clear()  # there is one at a time
            self._fences[key] = compile_fence(enis, self.options, secret, self.placement, uplinks)
        return self._fences[key]

    def prove(self, time_scale: float = 1.0, previous: Desired | None = None, like: Desired | None = None) -> None:
        """ProofError unless the table does what the state says, for every packet: it is compared once. `previous`: what
        is proven of it, and is the same here, isn't proven again; nor are profiles of `like`, which is elsewhere."""
        if time_scale in self._proven:
            return
        known, alike = (next(iter(other.known), None) if other is not None else None for other in (previous, like))
        specification = Specification(
            self.state,
            self.interfaces,
            self.options,
            placement=self.placement,
            uplinks=self.uplinks,
            time_scale=time_scale,
        )
        proof = require_proof(specification, self.table(time_scale, previous), known, alike)
        self.known[:] = [] if proof.known is None else [proof.known]
        self._proven.add(time_scale)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to apply.

    on_change: `revoke` judges running sessions again at their next packet, `keep` lets them be until they expire.
    time_scale: multiplies all timeouts, for labs.    resync: trust nothing of what the kernel holds.
    adoption_window: seconds for which TCP of no known session is judged instead of dropped when an ENI sends it that is
    protected for the first time, so that what it has running goes on; 0: never.
    fence: drop what the instance sends past the policy, through packet sockets (compiler/fence.py).
    prove: enforce a table only if it is proven to do what the state says (proof/).
    """

    on_change: Literal["revoke", "keep"] = "revoke"
    time_scale: float = 1.0
    resync: bool = False
    adoption_window: float = DEFAULT_WINDOW_MS / 1000
    fence: bool = True
    prove: bool = True


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did. Operations count rules and elements one each, by step; `seconds` is all of it, compiling
    included. `is_refill`: what the kernel held was not trusted. `untracked`: protocols that this kernel has no tracker
    of their own for. `unknown_timeouts`: of trackers of its that we don't know; they are bounded. `leftover`: what the
    kernel refused after the policy was in force, "" if nothing: the next apply tidies up.
    `adopting`: interfaces whose adoption window this apply opened, for `adoption_window` seconds. `seeded`: their
    running TCP sessions of which conntrack was told. `shortened`: sessions of ENIs that are new here, which had longer
    left than they may have. `fenced`: interfaces behind the fence; one that isn't there yet can't be. The fence's
    operations are among the others. `counted`: what the counters of rules that it removed had counted at last. `slow`:
    why each change of this policy holds the kernel for more than a second, "" if none does.
    `flowtables`: those of others there, which carry sessions past the policy."""

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

    @property
    def changed(self) -> bool:
        return bool(self.staged or self.switched or self.swept)

    @property
    def at_rest(self) -> ApplyReport:
        """Of an apply that would find all of it there."""
        if not self.changed:
            return self
        nothing = replace(self, staged=0, switched=0, swept=0, seconds=0.0, is_refill=False)
        return replace(nothing, adopting=(), adoption_window=0.0, seeded=0, shortened=0, counted={})


DEFAULT_SETTINGS = Settings()


def _compiled(desired: Desired, time_scale: float, memo: Memo) -> Table:
    policy = resolve(desired.state, desired.interfaces, desired.options)
    enis = tuple(replace(e, connection_tracking=e.connection_tracking.scaled(time_scale)) for e in policy.enis)
    idle = policy.idle.scaled(time_scale)
    standing = replace(policy, enis=enis, placement=desired.placement, uplinks=desired.uplinks, idle=idle)
    return compile_policy(standing, desired.options, FIRST_EPOCH, memo=memo)
