"""enforce(): a CloudState into the rules of one network namespace, and back to a report of what was changed.

Owns the order of the steps and the choice of the epoch. Is given a namespace, a state and its interfaces.
Must not know nft syntax, how a policy is compiled, or where the namespace came from.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from sgdataplane.compiler.compile import FIRST_EPOCH, compile_policy, with_adoption, with_epoch
from sgdataplane.compiler.fence import NETDEV, compile_fence
from sgdataplane.compiler.marks import EPOCH_FIELDS, LAST_EPOCH
from sgdataplane.compiler.skeleton import DEFAULT_WINDOW_MS, TABLE, dispatch_name
from sgdataplane.errors import KernelError, UnsupportedError
from sgdataplane.host import netns
from sgdataplane.host.marks import clear_mark_fields
from sgdataplane.host.seed import seed_sessions
from sgdataplane.host.timeouts import scaled, set_timeouts
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState, ConnectionTracking
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft.delta import Change, Plan, plan, undo
from sgdataplane.nft.ir import KeyType, Map, Table
from sgdataplane.nft.kernel import DRY_RUN_MISSING, Kernel, LibnftKernel
from sgdataplane.nft.snapshot import GENERATION_KEY, STAMP_MAP, Inventory, Stamp, next_generation, stamp_of
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.policy.resolve import resolve


@dataclass(frozen=True)
class Desired:
    """What a namespace is to obey: the state, and which interface carries which ENI (ENI id -> interface name)."""

    state: CloudState
    interfaces: Mapping[str, str]
    options: Options = DEFAULTS


@dataclass(frozen=True, slots=True)
class Settings:
    """How to apply.

    on_change: `revoke` judges running sessions again at their next packet, `keep` lets them be until they expire.
    time_scale: multiplies all timeouts, for labs.    resync: trust nothing of what the kernel holds.
    adoption_window: seconds for which TCP of no known session is judged instead of dropped when an ENI sends it that is
    protected for the first time, so that what it has running goes on; 0: never.
    fence: drop what the instance sends past the policy, through packet sockets (compiler/fence.py).
    """

    on_change: Literal["revoke", "keep"] = "revoke"
    time_scale: float = 1.0
    resync: bool = False
    adoption_window: float = DEFAULT_WINDOW_MS / 1000
    fence: bool = True


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did. Operations count rules and elements one each, by step; `seconds` is all of it, compiling
    included. `is_refill`: what the kernel held was not trusted. `untracked`: timeouts that this kernel has no tracker
    for. `leftover`: what the kernel refused after the policy was in force, "" if nothing: the next apply tidies up.
    `adopting`: interfaces whose adoption window this apply opened, for `adoption_window` seconds. `seeded`: their
    running TCP sessions of which conntrack was told. `fenced`: interfaces behind the fence; one that isn't there yet
    can't be. The fence's operations are among the others."""

    epoch: int
    staged: int
    switched: int
    swept: int
    seconds: float
    is_refill: bool = False
    time_scale: float = 1.0
    untracked: tuple[str, ...] = ()
    leftover: str = ""
    adopting: tuple[str, ...] = ()
    adoption_window: float = 0.0
    seeded: int = 0
    fenced: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.staged or self.switched or self.swept)


class Sessions(Protocol):
    """The running sessions of the namespace."""

    def forget_epochs(self, epochs: range) -> int:
        """Take these epochs off every session, so that its next packet is judged; how many there were."""

    def seed(self, own: Collection[Prefix]) -> int:
        """Have those tracked that sockets with these addresses have running already; how many were not yet."""


@dataclass(frozen=True, slots=True)
class KernelSessions:
    """The sessions in the conntrack table of a namespace."""

    namespace: str

    def forget_epochs(self, epochs: range) -> int:
        with netns.inside(self.namespace):
            return clear_mark_fields(EPOCH_FIELDS, epochs)

    def seed(self, own: Collection[Prefix]) -> int:
        with netns.inside(self.namespace):
            return seed_sessions(own)


DEFAULT_SETTINGS = Settings()


def enforce(
    namespace: str, desired: Desired, previous: Desired | None = None, settings: Settings = DEFAULT_SETTINGS
) -> ApplyReport:
    """Make the namespace of that name obey `desired`. When it returns, it does.

    `previous` is what was enforced before, if the caller knows: then only what differs is changed. Without it, or if
    anybody else has touched nftables there since, all rules are written anew, which loses no packet either.
    Applying the same twice changes nothing. KernelError: refused, and the kernel is as it was. UnsupportedError: it
    has no egress hook for the fence.
    """
    started = time.monotonic()
    with LibnftKernel(namespace) as kernel:
        with netns.inside(namespace):
            untracked = set_timeouts(settings.time_scale)
        report = apply(kernel, KernelSessions(namespace), desired, previous, settings)
    return replace(report, untracked=untracked, seconds=time.monotonic() - started)


def apply(
    kernel: Kernel, sessions: Sessions, desired: Desired, previous: Desired | None, settings: Settings
) -> ApplyReport:
    """enforce() on given doors; the namespace's timeouts are not its business.

    1 what the kernel holds   2 compile   3 choose the epoch   4 take it off sessions that carry it from long ago
    5 plan   6 run, waiting between the steps until no packet is on its way
    The fence goes up after the table that marks what may pass it, and once that is there, changes before it: what
    comes to an interface that is new passes neither.
    """
    started = time.monotonic()
    inventory = kernel.inventory(TABLE)
    fence = _wanted_fence(kernel, inventory.stamp, desired, settings)
    is_fence_first = not fence.ifnames or (inventory.stamp is not None and inventory.stamp.secret == fence.secret)
    plans = [_fence_in(kernel, inventory, fence)] if is_fence_first else []
    inventory = kernel.inventory(TABLE) if is_fence_first else inventory
    stamp = _usable(inventory.stamp)
    table = compiled(desired, settings.time_scale)
    on_change = settings.on_change if _is_same_links(inventory, previous, desired) else "revoke"
    epoch = _choose_epoch(stamp, stamp_of(table).digest, on_change)
    held = None if settings.resync else _held(stamp, table, previous, settings.time_scale)
    _retire(kernel, sessions, stamp, epoch)
    adopting = _newcomers(inventory, table) if settings.adoption_window else ()
    wanted = with_epoch(table, epoch, fence.secret)
    if adopting:
        wanted = with_adoption(wanted, adopting, round(settings.adoption_window * 1000))
    steps = plan(held, inventory, wanted)
    # Now, since conntrack begins to work with the first rules that ask it, and takes who speaks first for the opener.
    seeded = sessions.seed(_addresses(desired, adopting)) if adopting else 0
    leftover = _run(kernel, steps, is_live=inventory.exists)
    if stamp is None and inventory.exists:
        # Until now the rules have marked sessions with an epoch that nobody knows: it may be this one.
        kernel.settle()
        sessions.forget_epochs(ALL_EPOCHS)
    if not is_fence_first:
        kernel.settle()
        plans.append(_fence_in(kernel, kernel.inventory(TABLE), fence))
    changes = [change for entry in (steps, *plans) for change in entry.changes]
    return ApplyReport(
        epoch,
        sum(len(change.stage) for change in changes),
        sum(len(change.switch) for change in changes),
        sum(len(change.sweep) for change in changes),
        time.monotonic() - started,
        steps.is_refill,
        settings.time_scale,
        leftover=leftover,
        adopting=adopting,
        adoption_window=settings.adoption_window if adopting else 0.0,
        seeded=seeded,
        fenced=fence.ifnames,
    )


def compiled(desired: Desired, time_scale: float = 1.0) -> Table:
    """The table for it, at the first epoch."""
    policy = resolve(desired.state, desired.interfaces, desired.options)
    enis = tuple(replace(e, connection_tracking=_scaled(e.connection_tracking, time_scale)) for e in policy.enis)
    return compile_policy(replace(policy, enis=enis), desired.options, FIRST_EPOCH)


def _newcomers(inventory: Inventory, table: Table) -> tuple[str, ...]:
    """The interfaces that no table here has known so far."""
    wanted = (str(ifname) for ifname, _ in table.map[dispatch_name(Direction.EGRESS)].elements)
    return tuple(sorted(ifname for ifname in wanted if ifname not in inventory.ifnames))


def _addresses(desired: Desired, ifnames: Collection[str]) -> tuple[Prefix, ...]:
    """All that the ENIs on these interfaces may send from."""
    enis = (desired.state.eni[eni] for eni, ifname in desired.interfaces.items() if ifname in ifnames)
    return tuple(prefix for eni in enis for prefix in eni.own_prefixes)


def _is_same_links(inventory: Inventory, previous: Desired | None, desired: Desired) -> bool:
    """Whether each slot of the mark still stands for the same ENI: only the one that accepted a session may keep it."""
    is_known = previous is None or previous.interfaces == desired.interfaces
    return is_known and inventory.ifnames == frozenset(desired.interfaces.values())


def _scaled(timeouts: ConnectionTracking, time_scale: float) -> ConnectionTracking:
    """The default ones are the namespace's, which are scaled already."""
    if timeouts == ConnectionTracking():
        return timeouts
    return ConnectionTracking(
        scaled(timeouts.tcp_established_timeout, time_scale),
        scaled(timeouts.tcp_closed_and_time_wait_timeout, time_scale),
        scaled(timeouts.udp_timeout, time_scale),
    )


def _held(stamp: Stamp | None, table: Table, previous: Desired | None, time_scale: float) -> Table | None:
    """The table that the kernel should hold: the same policy has the same table but for the epoch."""
    if stamp is None:
        return None
    if stamp.digest == stamp_of(table).digest:
        return with_epoch(table, stamp.epoch, stamp.secret)
    if previous is None or not previous.interfaces.keys() <= previous.state.eni.keys():
        return None
    return with_epoch(compiled(previous, time_scale), stamp.epoch, stamp.secret)


# the fence: a table of its own. Its commits move the namespace's generation on, so they write the stamp of the policy's
# table anew, if that was trusted: it then speaks for both.


@dataclass(frozen=True, slots=True)
class _Fence:
    """The interfaces to be fenced, the mark of what may pass, and the table; None: there is to be none. `is_anew`: it
    is written even if it seems to be there."""

    ifnames: tuple[str, ...]
    secret: int
    table: Table | None
    is_anew: bool = False


def _wanted_fence(kernel: Kernel, stamp: Stamp | None, desired: Desired, settings: Settings) -> _Fence:
    """Of interfaces that are there, or that the fence has already: some kernels keep it while an interface is gone."""
    if not settings.fence:
        return _Fence((), 0, None)
    there = kernel.inventory(TABLE, NETDEV)
    known = stamp.secret if stamp is not None and stamp.secret else there.stamp.secret if there.stamp else 0
    fenceable = kernel.interfaces() | {hook.device for hook in there.chains.values() if hook is not None}
    enis = {name: desired.state.eni[eni] for eni, name in sorted(desired.interfaces.items()) if name in fenceable}
    if not enis:
        return _Fence((), known, None)
    secret = known or 1 + secrets.randbelow(0xFFFFFFFF)
    fence = _Fence(tuple(sorted(enis)), secret, compile_fence(enis, desired.options, secret), settings.resync)
    if fence.table is not None and not there.exists:
        _check_support(kernel, plan(None, there, fence.table))
    return fence


def _check_support(kernel: Kernel, steps: Plan) -> None:
    """UnsupportedError, naming what it takes, if this kernel can't have the fence; nothing is changed."""
    (change,) = steps.changes
    try:
        kernel.check(replace(change.stage, operations=change.stage.operations + change.switch.operations))
    except UnsupportedError as error:
        if error.feature == DRY_RUN_MISSING:
            raise
        needs = "Linux 5.16 or newer with CONFIG_NETFILTER_EGRESS and CONFIG_IP_ROUTE_CLASSID"
        raise UnsupportedError("the netdev egress hook, which fences an instance,", needs) from error


def _fence_in(kernel: Kernel, inventory: Inventory, fence: _Fence) -> Plan:
    """Put the fence in force, or take it away; what was done."""
    there = kernel.inventory(TABLE, NETDEV)
    if fence.table is None:
        steps = Plan((_removal(NETDEV),)) if there.exists else Plan()
    elif inventory.is_untouched and not fence.is_anew and _is_fence_there(there, fence.table):
        steps = Plan()
    else:
        steps = plan(None, there, fence.table)
    is_whole = _run(kernel, steps, is_live=there.exists) == ""
    if is_whole and steps.changes and inventory.is_untouched:
        commits = sum(change.commits for change in steps.changes)
        kernel.run(_restamp(next_generation(inventory.generation, commits + 1)))
    return steps


def _is_fence_there(there: Inventory, wanted: Table) -> bool:
    """Given that nobody has committed anything since. But a chain may have gone with its interface."""
    stamp = stamp_of(wanted)
    is_same = there.stamp is not None and (there.stamp.digest, there.stamp.secret) == (stamp.digest, stamp.secret)
    return is_same and there.chains == {chain.name: chain.hook for chain in wanted.chains}


def _restamp(generation: int) -> Transaction:
    """The policy's table is still what its stamp says, at this generation."""
    stamp = Map(STAMP_MAP, KeyType.MARK, ((GENERATION_KEY, generation),), holds_marks=True)
    return Transaction(TABLE, tuple(Operation(verb, Kind.ELEMENTS, stamp) for verb in (Verb.DELETE, Verb.ADD)))


def _removal(family: str) -> Change:
    table = Table(TABLE, family=family)
    nothing = Transaction.of(table, ())
    return Change(nothing, Transaction.of(table, [Operation(Verb.DELETE, Kind.TABLE, table)]), nothing)


# epochs: 1..LAST_EPOCH and again from 1. They are two halves; before one is entered, all its epochs, given a long time
# ago, are taken off the sessions that still carry them. The present epoch is in the other half, so no packet renews
# them.

ALL_EPOCHS = range(FIRST_EPOCH, LAST_EPOCH + 1)
SECOND_HALF = (LAST_EPOCH + 1) // 2


def _usable(stamp: Stamp | None) -> Stamp | None:
    return stamp if stamp is not None and stamp.epoch in ALL_EPOCHS else None


def _choose_epoch(stamp: Stamp | None, digest: str, on_change: str) -> int:
    """A new epoch for a changed policy, so that every session is judged once more."""
    if stamp is None:
        return FIRST_EPOCH
    if stamp.digest == digest or on_change == "keep":
        return stamp.epoch
    return FIRST_EPOCH if stamp.epoch == LAST_EPOCH else stamp.epoch + 1


def _half_of(epoch: int) -> range:
    return range(FIRST_EPOCH, SECOND_HALF) if epoch < SECOND_HALF else range(SECOND_HALF, LAST_EPOCH + 1)


def _retire(kernel: Kernel, sessions: Sessions, stamp: Stamp | None, epoch: int) -> None:
    """Make sure that no session carries `epoch` yet, if it is about to be used anew."""
    old = ALL_EPOCHS if stamp is None else _half_of(epoch)
    if stamp is not None and stamp.epoch in old:
        return
    if sessions.forget_epochs(old):
        kernel.settle()  # a packet that read such a mark just before may have written it back
        sessions.forget_epochs(old)


def _run(kernel: Kernel, steps: Plan, *, is_live: bool) -> str:
    """Run the changes; what was refused after the policy came into force, or "". Any refusal before that is raised,
    and the policy is what it was."""
    for change in steps.changes:
        try:
            _switch(kernel, change, is_live=is_live)
        except KernelError as error:
            if change is steps.changes[0]:
                raise
            return error.detail
        refusal = _sweep(kernel, change.sweep)
        if refusal:
            return refusal
    return ""


def _switch(kernel: Kernel, change: Change, *, is_live: bool) -> None:
    kernel.run(change.stage)
    try:
        if is_live:
            kernel.settle()
        kernel.run(change.switch)
    except KernelError:
        with suppress(KernelError):  # what is staged does nothing; the next apply finds and removes it
            kernel.run(undo(change.stage))
        raise


def _sweep(kernel: Kernel, sweep: Transaction) -> str:
    if not len(sweep):
        return ""
    kernel.settle()
    try:
        kernel.run(sweep)
    except KernelError as error:
        return error.detail
    return ""


def remove(namespace: str) -> bool:
    """Delete our tables there, and nothing else; False if there were none."""
    with LibnftKernel(namespace) as kernel:
        found = [family for family in (NETDEV, "inet") if kernel.inventory(TABLE, family).exists]
        for family in found:
            kernel.run(_removal(family).switch)
    return bool(found)
