"""enforce(): a CloudState into the rules of one network namespace, and back to a report of what was changed.

Owns the order of the steps. Is given a namespace, a state and its interfaces.
Must not know nft syntax, how a policy is compiled, or where the namespace came from.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from sgdataplane.compiler.compile import with_adoption, with_epoch
from sgdataplane.compiler.fence import NETDEV
from sgdataplane.compiler.skeleton import TABLE, dispatch_name
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, ApplyReport, Desired, Settings
from sgdataplane.enforce.epochs import Epochs, KernelSessions, Sessions
from sgdataplane.enforce.fence import put_in, wanted_fence
from sgdataplane.enforce.logs import fitted
from sgdataplane.enforce.run import Ran, run
from sgdataplane.errors import KernelError
from sgdataplane.host import modules, netns
from sgdataplane.host.timeouts import set_timeouts
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft.delta import Plan, plan, removal
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import Kernel, LibnftKernel
from sgdataplane.nft.snapshot import Inventory, Stamp, stamp_of


def enforce(
    namespace: str,
    desired: Desired,
    previous: Desired | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> ApplyReport:
    """Make the namespace of that name obey `desired`. When it returns, it does.

    `previous` is what was enforced before, if the caller knows: then only what differs is changed. Without it, or if
    anybody else has touched nftables there since, all rules are written anew, which loses no packet either.
    Applying the same twice changes nothing. KernelError: refused, and the policy is as it was; but the
    fence, which changes first, may be that of `desired` already. UnsupportedError: the kernel can't load nftables or
    connection tracking, has no egress hook for the fence, or can't list TCP sockets (tcp_diag). ProofError: the
    compiled table is wrong.
    """
    started = time.monotonic()
    with LibnftKernel(namespace) as kernel:
        with netns.inside(namespace):
            modules.require(modules.NFTABLES)
            trackers = set_timeouts(settings.time_scale)
        report = apply(kernel, KernelSessions(namespace, desired.site.marks), desired, previous, settings)
    seconds = time.monotonic() - started
    return replace(report, untracked=trackers.untracked, unknown_timeouts=trackers.unknown, seconds=seconds)


def apply(
    kernel: Kernel, sessions: Sessions, desired: Desired, previous: Desired | None, settings: Settings
) -> ApplyReport:
    """enforce() on given doors; the namespace's timeouts are not its business.

    1 what the kernel holds   2 compile, and prove   3 choose the epoch   4 take it off sessions that carry it from long
    ago   5 plan   6 run, waiting between the steps until no packet is on its way
    The fence goes up after the table that marks what may pass it, and once that is there, changes before it: what
    comes to an interface that is new passes neither.
    """
    started = time.monotonic()
    inventory = _inventory(kernel, desired, previous, settings)
    table = desired.table(settings.time_scale, previous)
    if settings.prove:
        desired.prove(settings.time_scale, previous)
    fence = wanted_fence(kernel, inventory.stamp, desired, settings)
    is_fence_first = not fence.ifnames or (inventory.stamp is not None and inventory.stamp.secret == fence.secret)
    plans = [put_in(kernel, inventory, fence)] if is_fence_first else []
    if any(steps.changes for steps in plans):
        inventory = kernel.inventory(TABLE)
    epochs = Epochs(desired.site.marks.last_epoch)
    stamp = epochs.usable(inventory.stamp)
    on_change = settings.on_change if _is_same_links(inventory, previous, desired) else "revoke"
    epoch = epochs.choose(stamp, stamp_of(table).digest, on_change, is_certain=inventory.is_untouched)
    epochs.retire(kernel, sessions, stamp, epoch)
    adopting = _newcomers(inventory, table) if settings.adoption_window else ()
    if _is_there(inventory, Stamp(epoch, stamp_of(table).digest, inventory.generation, fence.secret), settings):
        steps = Plan()
    else:
        wanted = fitted(kernel, _wanted(table, epoch, fence.secret, adopting, settings))
        held = _held(stamp, table, previous, settings)
        steps = plan(None if held is None else fitted(kernel, held), inventory, wanted)
    # Now, since conntrack begins to work with the first rules that ask it, and takes who speaks first for the opener.
    seeded = sessions.seed(_addresses(desired, adopting)) if adopting else 0
    ran = run(kernel, steps, is_live=inventory.exists)
    if stamp is None and inventory.exists:
        # Until now the rules have marked sessions with an epoch that nobody knows: it may be this one.
        kernel.settle()
        sessions.forget_epochs(epochs.all)
    if not is_fence_first:
        kernel.settle()
        plans.append(put_in(kernel, kernel.inventory(TABLE), fence))
    return replace(
        _counted(epoch, [steps, *plans], ran, settings),
        seconds=time.monotonic() - started,
        adopting=adopting,
        adoption_window=settings.adoption_window if adopting else 0.0,
        seeded=seeded,
        fenced=fence.ifnames,
    )


def _wanted(table: Table, epoch: int, secret: int, adopting: Collection[str], settings: Settings) -> Table:
    wanted = with_epoch(table, epoch, secret)
    return with_adoption(wanted, adopting, round(settings.adoption_window * 1000)) if adopting else wanted


def _counted(epoch: int, plans: Sequence[Plan], ran: Ran, settings: Settings) -> ApplyReport:
    """The operations of plans, the policy's first, and what came of that one."""
    changes = [change for steps in plans for change in steps.changes]
    return ApplyReport(
        epoch,
        staged=sum(len(change.stage) for change in changes),
        switched=sum(len(change.switch) for change in changes),
        swept=sum(len(change.sweep) for change in changes),
        is_refill=plans[0].is_refill,
        time_scale=settings.time_scale,
        seconds=0.0,
        leftover=ran.leftover,
        counted=ran.counted,
    )


def _inventory(kernel: Kernel, desired: Desired, previous: Desired | None, settings: Settings) -> Inventory:
    """What the kernel holds: not read, where it certainly is what was applied last, or what is to be."""
    for known in () if settings.resync else (previous, desired):
        if known is None or not known.is_whole:
            continue
        found = kernel.trusted(known.table(settings.time_scale, previous))
        if found:
            return found
    return kernel.inventory(TABLE)


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


def _is_there(inventory: Inventory, wanted: Stamp, settings: Settings) -> bool:
    """Whether the kernel certainly holds what is wanted; interfaces that it knows are none to be adopted."""
    return inventory.stamp == wanted and not settings.resync


def _held(stamp: Stamp | None, table: Table, previous: Desired | None, settings: Settings) -> Table | None:
    """The table that the kernel should hold: the same policy has the same table but for the epoch."""
    if stamp is None or settings.resync:
        return None
    if stamp.digest == stamp_of(table).digest:
        return with_epoch(table, stamp.epoch, stamp.secret)
    if previous is None or not previous.is_whole:
        return None
    return with_epoch(previous.table(settings.time_scale), stamp.epoch, stamp.secret)


def remove(namespace: str) -> bool:
    """Delete our tables there, and nothing else; False if there were none."""
    with LibnftKernel(namespace) as kernel:
        there = {family: kernel.inventory(TABLE, family) for family in (NETDEV, "inet")}
        found = {family: inventory for family, inventory in there.items() if inventory.exists}
        for family, inventory in found.items():
            leftover = run(kernel, Plan((removal(inventory, TABLE, family),)), is_live=True).leftover
            if leftover:
                raise KernelError(leftover)
    return bool(found)
