"""build(): turn what a namespace is to obey into a table that does it. The only place where policies are compiled and
proven for enforcement.

Owns the order resolve, compile, prove, count, and what one build leaves for the next. Must not know kernels.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from sgdataplane.collection import no_collection
from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.memo import Memo
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, Desired, Settings
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.nft.validation import Visits
from sgdataplane.policy.resolve import EniPolicy, HostPolicy, PolicyMemo, resolve
from sgdataplane.proof.prove import Proof, require_proof
from sgdataplane.proof.specification import Specification


@dataclass(frozen=True)
class Proven:
    """`desired`, and a `table` at the first epoch that does what it says. Only build() makes one. `visits`: how much of
    the table the kernel walks at a commit. `proof`: None if the settings asked for none. `memo`, `resolved`: what the
    compile and resolve() left for the next ones. `seconds`: how long the build took."""

    desired: Desired
    time_scale: float
    table: Table = field(repr=False)
    visits: Visits = field(repr=False, compare=False)
    proof: Proof | None = field(compare=False)
    memo: Memo = field(repr=False, compare=False)
    resolved: PolicyMemo | None = field(repr=False, compare=False)
    seconds: float = field(default=0.0, compare=False)

    def on(self, state: CloudState) -> Proven:
        """The same for another state that says the same about its ENIs (policy/reach.py); nothing is built anew."""
        return self if state is self.desired.state else replace(self, desired=self.desired.on(state), seconds=0.0)

    def is_of(self, desired: Desired, settings: Settings) -> bool:
        """Whether it is for the same ENIs and built with these settings. The state may be another one."""
        is_built_so = self.time_scale == settings.time_scale and (self.proof is not None or not settings.prove)
        return is_built_so and replace(self.desired, state=desired.state) == desired


def build(
    desired: Desired,
    settings: Settings = DEFAULT_SETTINGS,
    previous: Proven | None = None,
    similar: Proven | None = None,
) -> Proven:
    """Resolve, compile and prove it. ProofError unless the table does what the state says, for every packet.

    The result depends on `desired` and `settings` alone. `previous`: what was built for the same namespace. `similar`:
    what was built for one that has much in common with it (default: `previous`). What these have in common with it
    isn't compiled or proven again.
    """
    started, similar = time.monotonic(), similar or previous
    memo = Memo() if similar is None else similar.memo.next()
    policy = _policy(desired, settings.time_scale, None if similar is None else similar.resolved)
    table = compile_policy(policy, desired.options, FIRST_EPOCH, memo=memo)
    proof = _proof(desired, settings, table, (previous, similar)) if settings.prove else None
    with no_collection():
        visits = Visits.of(table, None if similar is None else similar.visits)
    return Proven(desired, settings.time_scale, table, visits, proof, memo, policy.memo, time.monotonic() - started)


@dataclass
class Cache:
    """Makes builds for many namespaces faster: namespaces whose ENIs are in the same groups have nearly the same table.
    It never shows in a result. It keeps the last table of each set of groups; who keeps the cache itself calls
    `forget_others` now and then."""

    _by_groups: dict[object, Proven] = field(default_factory=dict)
    _last: Proven | None = None
    _most: int = 0

    def build(self, desired: Desired, settings: Settings, previous: Proven | None = None) -> Proven:
        """Call build() with the most similar table that was built."""
        groups = _groups(desired)
        similar = self._by_groups.get(groups) or previous or self._last
        made = build(desired, settings, previous, similar)
        self._by_groups[groups] = self._last = made
        return made

    def forget_others(self, in_force: Collection[Proven]) -> None:
        """Forget the sets of groups that no ENI is in any more, once there may be as many of them as of others."""
        if len(self._by_groups) <= self._most:
            return
        there = {_groups(proven.desired) for proven in in_force}
        self._by_groups = {groups: made for groups, made in self._by_groups.items() if groups in there}
        self._last, self._most = None, 2 * len(self._by_groups)


def _policy(desired: Desired, time_scale: float, before: PolicyMemo | None) -> HostPolicy:
    policy = resolve(desired.state, desired.interfaces, desired.options, before=before)
    enis = tuple([_scaled(eni, time_scale) for eni in policy.enis])
    idle = policy.idle.scaled(time_scale)
    return replace(policy, enis=enis, placement=desired.placement, uplinks=desired.uplinks, idle=idle)


def _scaled(eni: EniPolicy, time_scale: float) -> EniPolicy:
    scaled = eni.connection_tracking.scaled(time_scale)
    return eni if scaled == eni.connection_tracking else replace(eni, connection_tracking=scaled)


def _proof(desired: Desired, settings: Settings, table: Table, known: tuple[Proven | None, Proven | None]) -> Proof:
    """`known`: what was built for the same namespace, and for a similar one."""
    specification = Specification(
        desired.state,
        desired.interfaces,
        desired.options,
        placement=desired.placement,
        uplinks=desired.uplinks,
        time_scale=settings.time_scale,
    )
    proven = (None if made is None or made.proof is None else made.proof.proven for made in known)
    return require_proof(specification, table, *proven)


def _groups(desired: Desired) -> object:
    """Equal for namespaces whose ENIs have the same profiles."""
    enis = (desired.state.eni[eni_id] for eni_id in desired.interfaces)
    return frozenset((tuple(sorted(eni.security_group_ids)), eni.nic_type) for eni in enis)
