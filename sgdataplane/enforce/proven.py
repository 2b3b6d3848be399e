"""The build of a policy: build() turns what a namespace has to obey into a table that does it.

This is the only place where policies are compiled and proven for enforcement. Owns the order resolve, compile, prove,
count, and what one build leaves for the next. Must not know kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from sgdataplane.collection import no_collection
from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.memo import Memo
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.tables import ADOPTING, TABLE
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, Desired, Settings
from sgdataplane.enforce.inputs import Inputs
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.nft.outline import Outline, stamp_of
from sgdataplane.nft.validation import Visits
from sgdataplane.policy.resolve import EniPolicy, HostPolicy, PolicyMemo, resolve
from sgdataplane.proof.prove import Proof, require_proof
from sgdataplane.proof.spec.specification import Specification


@dataclass(frozen=True, slots=True)
class Made:
    """What a build makes."""

    table: Table  # the table at the first epoch
    visits: Visits  # how much of the table the kernel walks at a commit
    proof: Proof | None  # None if the settings asked for none
    memo: Memo  # what the compile left for the next one
    resolved: PolicyMemo | None  # what resolve() left for the next one


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What has to be known of a table that is in force and stays."""

    digest: str  # its stamp's
    counters: frozenset[str]  # the names of its counters
    paths: int  # how many the kernel walks through it

    @classmethod
    def of(cls, made: Made) -> TableSummary:
        """Return the summary of a build's table."""
        return cls(stamp_of(made.table).digest, frozenset(made.table.counter), made.visits.every_path)


class Build:
    """A build that was done, or will be if somebody asks for more than its summary."""

    def __init__(self, make: Callable[[], Made], summary: TableSummary | None = None) -> None:
        self._make, self._summary = make, summary

    @classmethod
    def wrap(cls, made: Made) -> Build:
        """Return a build that is done."""
        build = cls(lambda: made)
        build.made = made
        return build

    @cached_property
    def made(self) -> Made:
        """What the build makes. It is done when this is first asked for."""
        return self._make()

    @property
    def is_done(self) -> bool:
        """Whether the build is done."""
        return "made" in self.__dict__

    @cached_property
    def summary(self) -> TableSummary:
        """The table's summary. It needs no build if it is known."""
        return TableSummary.of(self.made) if self._summary is None else self._summary


@dataclass(frozen=True)
class Proven:
    """A table for `desired`, proven to do what that says if `is_proven`. Only build() and Cache make one."""

    desired: Desired
    time_scale: float
    is_proven: bool  # whether the settings asked for a proof
    build: Build = field(repr=False, compare=False)  # may be done later
    seconds: float = field(default=0.0, compare=False)  # how long the build took

    @property
    def made(self) -> Made:
        """What the build makes. It is done if it wasn't yet."""
        return self.build.made

    @property
    def summary(self) -> TableSummary:
        """The table's summary, which may need no build."""
        return self.build.summary

    @property
    def table(self) -> Table:
        """The table, at the first epoch."""
        return self.made.table

    @property
    def visits(self) -> Visits:
        """How much of the table the kernel walks at a commit."""
        return self.made.visits

    @property
    def proof(self) -> Proof | None:
        """The proof; None if the settings asked for none."""
        return self.made.proof

    @property
    def memo(self) -> Memo:
        """What the compile left for the next one."""
        return self.made.memo

    @property
    def outline(self) -> Outline:
        """The features by which the kernel's table is recognized."""
        ifnames = frozenset(self.desired.interfaces.values())
        return Outline(TABLE, "inet", self.summary.digest, ifnames, (ADOPTING,), lambda: self.table)

    def on(self, state: CloudState) -> Proven:
        """Return the same for another state that says the same about its ENIs (policy/reach.py). Nothing is built."""
        return self if state is self.desired.state else replace(self, desired=self.desired.on(state), seconds=0.0)

    def is_of(self, desired: Desired, settings: Settings) -> bool:
        """Whether it is for the same ENIs and built with these settings. The state may be another one."""
        is_built_so = self.time_scale == settings.time_scale and (self.is_proven or not settings.prove)
        return is_built_so and replace(self.desired, state=desired.state) == desired


def build(
    desired: Desired,
    settings: Settings = DEFAULT_SETTINGS,
    previous: Proven | None = None,
    similar: Proven | None = None,
) -> Proven:
    """Resolve, compile and prove a policy.

    The result depends on `desired` and `settings` alone. What it has in common with earlier builds isn't compiled or
    proven again.

    Args:
        desired: What to build.
        settings: Whether to prove it, and the factor of timeouts.
        previous: What was built for the same namespace.
        similar: What was built for one that has much in common with it (default: `previous`).

    Raises:
        ProofError: The table doesn't do what the state says, for every packet.
    """
    started = time.monotonic()
    with no_collection():
        made = _prove(desired, settings, previous, similar or previous)
    taken = time.monotonic() - started
    return Proven(desired, settings.time_scale, settings.prove, Build.wrap(made), taken)


def _prove(desired: Desired, settings: Settings, previous: Proven | None, similar: Proven | None) -> Made:
    base = None if similar is None else similar.made
    memo = Memo() if base is None else base.memo.next()
    policy = _policy(desired, settings.time_scale, None if base is None else base.resolved)
    table = compile_policy(policy, desired.options, FIRST_EPOCH, memo=memo)
    proof = _prove_table(desired, settings, table, previous, similar) if settings.prove else None
    visits = Visits.of(table, None if base is None else base.visits)
    return Made(table, visits, proof, memo, policy.memo)


@dataclass
class Cache:
    """Makes builds for many namespaces faster: namespaces whose ENIs are in the same groups have nearly the same table.

    It never shows in a result. It keeps the last table of each set of groups; the owner of the cache calls
    `forget_others` now and then.
    """

    known: Mapping[str, TableSummary] = field(default_factory=dict)
    """Builds that this program did in earlier processes, by the digest of all that they depend on (inputs.py).

    For a namespace that hasn't been built here, such a build is done only when somebody asks for its table. Nobody
    does, as long as the kernel's stamp has its digest.
    """
    _inputs: Inputs | None = None
    _digests: dict[Build, str] = field(default_factory=dict)
    _by_groups: dict[object, Proven] = field(default_factory=dict)
    _last: Proven | None = None
    _most: int = 0

    def build(
        self,
        desired: Desired,
        settings: Settings,
        previous: Proven | None = None,
        known: TableSummary | None = None,
    ) -> Proven:
        """Build with the most similar table that was built, now or when the result is asked for.

        `known` is the table's summary, if another process of this program has built it.
        """
        if known is None and previous is None and settings.prove:
            known = self._find_summary(desired, settings.time_scale)
        if known is None:
            return self._build(desired, settings, previous)
        # A table that isn't built yet isn't waited for: it would wait for the one before it, and so on.
        built = previous if previous is not None and previous.build.is_done else None
        later = Build(lambda: self._rebuild(desired, settings, built, known), known)
        return Proven(desired, settings.time_scale, settings.prove, later)

    def _find_summary(self, desired: Desired, time_scale: float) -> TableSummary | None:
        digest = self._digest(desired, time_scale) if self.known else None
        return None if digest is None else self.known.get(digest)

    def _digest(self, desired: Desired, time_scale: float) -> str | None:
        if self._inputs is None or self._inputs.state is not desired.state:
            self._inputs = Inputs(desired.state, self._inputs)
        return self._inputs.digest(desired, time_scale)

    def _rebuild(self, desired: Desired, settings: Settings, previous: Proven | None, known: TableSummary) -> Made:
        made = self._build(desired, settings, previous).made
        if stamp_of(made.table).digest != known.digest:
            self.known = {}
            raise RuntimeError("another process of this program made another table of the same policy")
        return made

    def summaries(self, in_force: Collection[Proven]) -> Mapping[str, TableSummary] | None:
        """Return what a later process needs as `known`; None if it is the same as at the last call."""
        found: dict[Build, str] = {}
        for proven in in_force:
            digest = self._digests.get(proven.build) or self._digest(proven.desired, proven.time_scale)
            if proven.is_proven and digest is not None:
                found[proven.build] = digest
        if found.keys() == self._digests.keys():
            return None
        self._digests = found
        return {digest: build.summary for build, digest in found.items()}

    def _build(self, desired: Desired, settings: Settings, previous: Proven | None) -> Proven:
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


def _policy(desired: Desired, time_scale: float, previous: PolicyMemo | None) -> HostPolicy:
    policy = resolve(desired.state, desired.interfaces, desired.options, previous=previous)
    enis = tuple([_scale_timeouts(eni, time_scale) for eni in policy.enis])
    idle = policy.idle.scale(time_scale)
    return replace(policy, enis=enis, placement=desired.placement, uplinks=desired.uplinks, idle=idle)


def _scale_timeouts(eni: EniPolicy, time_scale: float) -> EniPolicy:
    scaled = eni.connection_tracking.scale(time_scale)
    return eni if scaled == eni.connection_tracking else replace(eni, connection_tracking=scaled)


def _prove_table(
    desired: Desired, settings: Settings, table: Table, previous: Proven | None, similar: Proven | None
) -> Proof:
    """Prove that a table does what the state says.

    `previous` was built for the same namespace, `similar` for one that has much in common with it.
    """
    specification = Specification(
        desired.state,
        desired.interfaces,
        desired.options,
        placement=desired.placement,
        uplinks=desired.uplinks,
        time_scale=settings.time_scale,
    )
    proofs = (None if each is None else each.proof for each in (previous, similar))
    proven = (None if proof is None else proof.proven for proof in proofs)
    return require_proof(specification, table, *proven)


def _groups(desired: Desired) -> object:
    """Return a value that is equal for namespaces whose ENIs have the same profiles."""
    enis = (desired.state.eni[eni_id] for eni_id in desired.interfaces)
    return frozenset((tuple(sorted(eni.security_group_ids)), eni.nic_type) for eni in enis)
