"""build(): what a namespace is to obey, made into the table that does it. The one place where policies are compiled and
proven for enforcement.

Owns the order resolve, compile, prove, count, and what one build leaves for the next. Must not know kernels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from sgdataplane.collection import no_collection
from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.memo import Memo
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, Desired, Settings
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.nft.validation import Visits
from sgdataplane.policy.resolve import HostPolicy, resolve
from sgdataplane.proof.prove import Proof, require_proof
from sgdataplane.proof.specification import Specification


@dataclass(frozen=True)
class Proven:
    """`desired`, and `table`, which does what it says, at the first epoch; build() alone makes one. `visits`: how much
    of the table the kernel walks at a commit. `proof` is None where the settings asked for none. `memo`: what the
    compile left for the next one. `seconds`: what the build took."""

    desired: Desired
    time_scale: float
    table: Table = field(repr=False)
    visits: Visits = field(repr=False, compare=False)
    proof: Proof | None = field(compare=False)
    memo: Memo = field(repr=False, compare=False)
    seconds: float = field(default=0.0, compare=False)

    def on(self, state: CloudState) -> Proven:
        """On another state, which says the same of its ENIs (policy/reach.py): nothing has to be built anew."""
        return self if state is self.desired.state else replace(self, desired=self.desired.on(state), seconds=0.0)

    def is_of(self, desired: Desired, settings: Settings) -> bool:
        """Whether it is of the same ENIs, built as these settings want it; the state may be another one."""
        is_built_so = self.time_scale == settings.time_scale and (self.proof is not None or not settings.prove)
        return is_built_so and replace(self.desired, state=desired.state) == desired


def build(
    desired: Desired,
    settings: Settings = DEFAULT_SETTINGS,
    before: Proven | None = None,
    like: Proven | None = None,
) -> Proven:
    """Resolve, compile and prove it. ProofError unless the table does what the state says, for every packet.

    The result depends on `desired` and `settings` alone. `before`: what was built for the same namespace, `like`: for
    one that has much in common with it (default: `before`). What is the same in these isn't compiled or proven again.
    """
    started, like = time.monotonic(), like or before
    memo = Memo() if like is None else like.memo.next()
    table = compile_policy(_policy(desired, settings.time_scale), desired.options, FIRST_EPOCH, memo=memo)
    proof = _proof(desired, settings, table, before, like) if settings.prove else None
    with no_collection():
        visits = Visits.of(table, None if like is None else like.visits)
    return Proven(desired, settings.time_scale, table, visits, proof, memo, time.monotonic() - started)


@dataclass
class Cache:
    """What was built, for the builds that come: those of namespaces whose ENIs are in the same groups are nearly the
    same. It never shows in a result."""

    _by_groups: dict[object, Proven] = field(default_factory=dict)
    _last: Proven | None = None

    def build(self, desired: Desired, settings: Settings, before: Proven | None = None) -> Proven:
        """As build(), from what is nearest to it."""
        groups = _groups(desired)
        like = self._by_groups.get(groups) or before or self._last
        made = build(desired, settings, before, like)
        self._by_groups[groups] = self._last = made
        return made


def _policy(desired: Desired, time_scale: float) -> HostPolicy:
    policy = resolve(desired.state, desired.interfaces, desired.options)
    enis = tuple(replace(e, connection_tracking=e.connection_tracking.scaled(time_scale)) for e in policy.enis)
    idle = policy.idle.scaled(time_scale)
    return replace(policy, enis=enis, placement=desired.placement, uplinks=desired.uplinks, idle=idle)


def _proof(desired: Desired, settings: Settings, table: Table, before: Proven | None, like: Proven | None) -> Proof:
    specification = Specification(
        desired.state,
        desired.interfaces,
        desired.options,
        placement=desired.placement,
        uplinks=desired.uplinks,
        time_scale=settings.time_scale,
    )
    proven = (None if other is None or other.proof is None else other.proof.proven for other in (before, like))
    return require_proof(specification, table, *proven)


def _groups(desired: Desired) -> object:
    """What makes profiles the same."""
    enis = (desired.state.eni[eni_id] for eni_id in desired.interfaces)
    return frozenset((tuple(sorted(eni.security_group_ids)), eni.nic_type) for eni in enis)
