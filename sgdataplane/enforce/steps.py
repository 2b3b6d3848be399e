"""enforce(): a CloudState into the rules of one network namespace, and back to a report of what was changed.

Owns the order of the steps. Is given a namespace, a state and its interfaces.
Must not know nft syntax, how a policy is compiled, or where the namespace came from.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from sgdataplane.compiler.fence import held_fragments
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce.carried import end_refused
from sgdataplane.enforce.course import Course, Wish, look, plot
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, ApplyReport, Desired, Settings
from sgdataplane.enforce.epochs import Epochs, KernelSessions, Sessions
from sgdataplane.enforce.fence import put_in, wanted_fence
from sgdataplane.enforce.hold import is_light, weigh
from sgdataplane.enforce.idle import Longest, has_shorter
from sgdataplane.enforce.proven import Proven
from sgdataplane.enforce.run import Ran, run
from sgdataplane.errors import KernelError
from sgdataplane.host import modules, netns, routing
from sgdataplane.host.timeouts import set_timeouts
from sgdataplane.model.options import Placement
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Prefix
from sgdataplane.nft.delta import Plan, removal
from sgdataplane.nft.kernel import Kernel, NetlinkKernel


def enforce(
    namespace: str,
    proven: Proven,
    previous: Proven | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> ApplyReport:
    """Make the namespace of that name obey what is `proven`. When it returns, it does.

    `previous` is what was enforced before, if the caller knows: then only what differs is changed. Without it, or if
    anybody else has touched nftables there since, all rules are written anew, which loses no packet either.
    Applying the same twice changes nothing. KernelError: refused, and the policy is as it was; but the
    fence, which changes first, may be the new one already. UnsupportedError: the kernel can't load nftables or
    connection tracking, has no egress hook for the fence, or can't list TCP sockets (tcp_diag). HeldError: it would be
    held too long, and nothing was changed.
    """
    started = time.monotonic()
    with NetlinkKernel(namespace) as kernel:
        with netns.inside(namespace):
            modules.require(modules.NFTABLES)
            # Before the first rule, with which conntrack begins to track: its sessions have these from their start.
            trackers = set_timeouts(settings.time_scale)
            if proven.desired.placement is Placement.HOST:
                routing.make_room_for_fragments(_held_fragments(proven.desired))
        report = apply(kernel, KernelSessions(namespace, proven.desired.site.marks), proven, previous, settings)
        is_revoking = settings.on_change == "revoke"
        flowtables = end_refused(kernel, namespace, proven.desired, report.epoch, is_asked=is_revoking)
    found = replace(report, untracked=trackers.untracked, unknown_timeouts=trackers.unknown, flowtables=flowtables)
    return replace(found, seconds=proven.seconds + time.monotonic() - started)


def _held_fragments(desired: Desired) -> int:
    return held_fragments(routing.FRAGMENTS_WAIT_S, len(desired.interfaces), len(desired.uplinks))


def check_kernel(namespace: str) -> None:
    """UnsupportedError if the kernel has not, and can't load, what enforce() asks it for first. Changes nothing."""
    with netns.inside(namespace):
        modules.require(modules.NFTABLES)
        modules.require(modules.TRACKING)


def apply(
    kernel: Kernel, sessions: Sessions, proven: Proven, previous: Proven | None, settings: Settings
) -> ApplyReport:
    """enforce() on given doors; the namespace's timeouts are not its business.

    1 what the kernel holds   2 choose the epoch, and plan   3 weigh what that takes the kernel   4 take the epoch off
    sessions that carry it from long ago   5 of ENIs that are new here: tell conntrack of sessions that run, and leave
    none more time than it may have   6 run, waiting between the steps until no packet is on its way
    The fence goes up after the table that marks what may pass it, and once that is there, changes before it: what
    comes to an interface that is new passes neither.
    """
    started = time.monotonic()
    desired, wish = proven.desired, Wish(proven, previous, settings)
    inventory = look(kernel, wish)
    fence = wanted_fence(kernel, inventory.stamp, desired, settings)
    course = plot(kernel, inventory, wish, fence.secret)
    slow = weigh(kernel, course, wish, fence)
    is_fence_first = fence.is_first(inventory.stamp)
    plans = [put_in(kernel, inventory, fence)] if is_fence_first else []
    if any(steps.changes for steps in plans):
        inventory = kernel.inventory(TABLE, most=wish.most)
        course = plot(kernel, inventory, wish, fence.secret)
    epochs = Epochs(desired.site.marks.last_epoch)
    epochs.retire(kernel, sessions, course.stamp, course.epoch)
    # Now, since conntrack begins to work with the first rules that ask it, and takes who speaks first for the opener.
    seeded = sessions.seed(_addresses(desired, course.adopting)) if course.adopting else 0
    late = _late(desired, course)
    shortened = sessions.shorten(_longest(desired, late, settings)) if late else 0
    ran = run(kernel, course.steps, is_live=inventory.exists)
    if course.stamp is None and inventory.exists:
        # Until now the rules have marked sessions with an epoch that nobody knows: it may be this one.
        kernel.settle()
        sessions.forget_epochs(epochs.all)
    if not is_fence_first:
        kernel.settle()
        plans.append(put_in(kernel, kernel.inventory(TABLE, most=wish.most), fence))
    return replace(
        _counted(course.epoch, [course.steps, *plans], ran, settings),
        seconds=time.monotonic() - started,
        adopting=course.adopting,
        adoption_window=settings.adoption_window if course.adopting else 0.0,
        seeded=seeded,
        shortened=shortened,
        fenced=fence.ifnames,
        slow=slow,
    )


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


def _enis(desired: Desired, ifnames: Collection[str]) -> list[Eni]:
    return [desired.state.eni[eni] for eni, ifname in desired.interfaces.items() if ifname in ifnames]


def _addresses(desired: Desired, ifnames: Collection[str]) -> tuple[Prefix, ...]:
    """All that the ENIs on these interfaces may send from."""
    return tuple(prefix for eni in _enis(desired, ifnames) for prefix in eni.own_prefixes)


def _late(desired: Desired, course: Course) -> list[str]:
    """The interfaces of ENIs whose sessions may have longer left than they may: of those that are new here all, where
    the namespace's timeouts are new, too, and else those with shorter ones."""
    own = {ifname: desired.state.eni[eni].connection_tracking for eni, ifname in desired.interfaces.items()}
    return [name for name in course.newcomers if not course.inventory.exists or has_shorter(own[name])]


def _longest(desired: Desired, late: Collection[str], settings: Settings) -> Longest:
    others = set(desired.interfaces.values()).difference(late)
    return Longest.of(_enis(desired, late), _enis(desired, others), settings.time_scale)


def check_hold(namespace: str, proven: Proven, previous: Proven | None, settings: Settings) -> None:
    """HeldError if enforce() would refuse this as too long. Changes nothing."""
    if is_light(proven.visits):
        return
    wish = Wish(proven, previous, settings)
    with NetlinkKernel(namespace) as kernel:
        inventory = look(kernel, wish)
        fence = wanted_fence(kernel, inventory.stamp, proven.desired, settings)
        weigh(kernel, plot(kernel, inventory, wish, fence.secret), wish, fence)


def remove(namespace: str) -> bool:
    """Delete our tables there, and nothing else; False if there were none."""
    with NetlinkKernel(namespace) as kernel:
        there = {family: kernel.inventory(TABLE, family) for family in (NETDEV, "inet")}
        found = {family: inventory for family, inventory in there.items() if inventory.exists}
        for family, inventory in found.items():
            leftover = run(kernel, Plan((removal(inventory, TABLE, family),)), is_live=True).leftover
            if leftover:
                raise KernelError(leftover)
    return bool(found)
