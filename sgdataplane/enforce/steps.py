"""The apply: enforce() makes one network namespace obey a proven table, and reports what changed.

Owns the order of the steps. Its input is a namespace and what was built for it. Must not know nft syntax, how a policy
is compiled, or where the namespace came from.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from sgdataplane.collection import no_collection
from sgdataplane.compiler.fragments import fragment_bytes
from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP, Stamp, next_generation
from sgdataplane.contract.tables import ARP, NETDEV, TABLE, TRIALS
from sgdataplane.enforce.apply_plan import (
    ApplyPlan,
    ApplyRequest,
    foresee_next_epoch,
    plan_apply,
    slots_of,
    take_next_epoch,
)
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, ApplyReport, Desired, Settings
from sgdataplane.enforce.epochs import UNKNOWN, Ageing, Clearance, Epochs
from sgdataplane.enforce.fence import Fence, build_wanted_fence
from sgdataplane.enforce.hold import is_light, pace_of, weigh
from sgdataplane.enforce.proven import Proven
from sgdataplane.enforce.run import NOTHING, Ran, commits_of, run
from sgdataplane.enforce.sessions import KernelSessions, Longest, Sessions, end_refused, has_shorter
from sgdataplane.errors import KernelError, MarksError
from sgdataplane.host import modules, netns, routing
from sgdataplane.host.timeouts import set_timeouts
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Prefix
from sgdataplane.nft import commits
from sgdataplane.nft.delta import Plan, plan_removal, with_commits_beside
from sgdataplane.nft.ir import Map, Table
from sgdataplane.nft.kernel import Kernel, NetlinkKernel
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.nft.stamps import restamp
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb


def enforce(
    namespace: str,
    proven: Proven,
    previous: Proven | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    clearance: Clearance = UNKNOWN,
) -> ApplyReport:
    """Put a proven table in force in a namespace. It is in force when this returns.

    Applying the same twice changes nothing.

    Args:
        namespace: Its name, or a path to it.
        proven: What it has to obey.
        previous: What was enforced before, if the caller knows; then only the differences are changed. Without it, or
            if somebody else has changed nftables there since, all rules are written anew. That loses no packet either.
        settings: How to apply.
        clearance: The epochs that no session there is known to carry, and how many sessions may be looked through.

    Raises:
        MarksError: There are too many sessions to look through. Nothing was changed.
        KernelError: The kernel refused, and the policy is as it was. A fence that was there already is switched before
            the policy, so it may be the new one.
        UnsupportedError: The kernel can't load nftables or connection tracking, has no egress hook for the fence, or
            can't list TCP sockets (tcp_diag).
        HeldError: The change would hold the kernel too long. Nothing was changed.
    """
    started = time.monotonic()
    with NetlinkKernel(namespace) as kernel, no_collection():
        with netns.inside(namespace):
            modules.require(modules.NFTABLES)
            # Before the first rule, which makes conntrack track: sessions have these timeouts from their start.
            trackers = set_timeouts(settings.time_scale)
            if proven.desired.placement.is_outside:
                routing.make_room_for_fragments(_fragment_bytes(proven.desired))
        sessions = KernelSessions(namespace, proven.desired.site.marks, clearance)
        report = apply(kernel, sessions, proven, previous, settings)
        is_revoking = settings.on_change == "revoke"
        stamp = None if report.ageing is None else report.ageing.stamp
        flowtables = end_refused(kernel, namespace, proven.desired, stamp, is_asked=is_revoking)
    found = replace(report, untracked=trackers.untracked, unknown_timeouts=trackers.unknown, flowtables=flowtables)
    if report.ageing is not None:
        epochs = Epochs(proven.desired.site.marks.last_epoch)
        found = replace(found, ageing=report.ageing.after(clearance.ageing, epochs))
    return replace(found, seconds=proven.seconds + time.monotonic() - started)


def _fragment_bytes(desired: Desired) -> int:
    return fragment_bytes(routing.FRAGMENTS_WAIT_S, len(desired.interfaces), len(desired.uplinks))


def check_kernel(namespace: str) -> None:
    """Check that the kernel can load nftables and connection tracking. It changes nothing.

    Raises:
        UnsupportedError: It can't.
    """
    with netns.inside(namespace):
        modules.require(modules.NFTABLES)
        modules.require(modules.TRACKING)


def apply(
    kernel: Kernel, sessions: Sessions, proven: Proven, previous: Proven | None, settings: Settings
) -> ApplyReport:
    """Do what enforce() does, on a given kernel and sessions, and without setting the namespace's timeouts.

    1. Look at what the kernel holds.
    2. Plan, and weigh how long that holds the kernel.
    3. Make sure that no session carries the epoch from an earlier use.
    4. For ENIs that are new here: have conntrack track running sessions, and shorten sessions that have too much time
    left.
    5. Run the plan, waiting between its steps until no packet is inside the rules.
    6. If sessions may carry this epoch all the same: clear all other epochs, and apply again with the next one.

    At the first apply the policy is switched before the fence, which accepts only what the policy marks. Later the
    fence is switched first, so that a new interface never has a policy without a fence.
    """
    report = _apply_once(kernel, sessions, ApplyRequest(proven, previous, settings))
    if not report.is_unsettled:
        return report
    again = ApplyRequest(proven, proven, replace(settings, resync=False))
    return _combine_reports(report, _apply_once(kernel, sessions, again))


def _apply_once(kernel: Kernel, sessions: Sessions, request: ApplyRequest) -> ApplyReport:
    started = time.monotonic()
    desired, settings = request.proven.desired, request.settings
    inventory = _look(kernel, request)
    fence = build_wanted_fence(kernel, inventory, desired, settings, _last_enforced(request, inventory))
    slots = slots_of(inventory, request)
    # A change that takes too long is refused before any mark is cleared.
    foreseen = foresee_next_epoch(inventory, request, slots)
    apply_plan = plan_apply(kernel, inventory, request, fence.secret, foreseen)
    slow = weigh(kernel, apply_plan, request, fence)
    chosen = take_next_epoch(inventory, request, slots, sessions.forget_epochs)
    if chosen.is_held_up:
        raise MarksError(sessions.count(), inventory.stamp)
    if chosen != foreseen:
        apply_plan = plan_apply(kernel, inventory, request, fence.secret, chosen)
    # Before the first rules, which make conntrack track: it takes whoever sends the first packet that it sees for the
    # one who has opened the session.
    seeded = sessions.seed(_addresses(desired, apply_plan.adopting)) if apply_plan.adopting else 0
    late = _find_late(desired, apply_plan)
    shortened = sessions.shorten(_find_longest(desired, late, settings)) if late else 0
    ran, generation = _run(kernel, apply_plan, fence)
    stamp = chosen.make_stamp(Stamp(chosen.epoch, request.proven.summary.digest, generation, fence.secret))
    return replace(
        _make_apply_report(apply_plan.epoch, [apply_plan.steps, fence.steps, fence.arp], ran, settings),
        seconds=time.monotonic() - started,
        adopting=apply_plan.adopting,
        adoption_window=settings.adoption_window if apply_plan.adopting else 0.0,
        seeded=seeded,
        shortened=shortened,
        fenced=fence.ifnames,
        slow=slow,
        ageing=Ageing(inventory.stamp, stamp, stamp),
    )


def _combine_reports(first: ApplyReport, second: ApplyReport) -> ApplyReport:
    """Return the report of two applies of the same policy, of which the second one only went on."""
    numbers = {
        name: getattr(first, name) + getattr(second, name) for name in ("staged", "switched", "swept", "seconds")
    }
    leftover = "; ".join(filter(None, (first.leftover, second.leftover)))
    return replace(first, epoch=second.epoch, ageing=second.ageing, leftover=leftover, counted=first.counted, **numbers)


def _run(kernel: Kernel, apply_plan: ApplyPlan, fence: Fence) -> tuple[Ran, int | None]:
    """Run the plans of ARP, policy and fence; return the outcome with the generation of the policy's stamp.

    That stamp counts the commits of all three, and so vouches for all of them.
    """
    inventory = apply_plan.inventory
    is_fence_first = fence.is_first(inventory.stamp)

    def in_order(policy: Plan) -> tuple[Plan, Plan]:
        return (fence.steps, policy) if is_fence_first else (policy, fence.steps)

    steps, earlier = apply_plan.steps, commits_of(fence.arp)
    if steps.changes:
        beside = earlier + commits_of(*in_order(steps)) - commits_of(steps)
        steps = with_commits_beside(steps, beside)
    elif (fence.steps.changes or earlier) and inventory.is_untouched:
        commits = earlier + commits_of(*in_order(_plan_renewal(0)))
        steps = _plan_renewal(next_generation(inventory.generation, commits))
    run(kernel, fence.arp, is_live=False)
    ran = run(kernel, *in_order(steps), is_live=inventory.exists or fence.is_live)
    found = inventory.stamp.generation if inventory.stamp is not None else None
    return ran, _generation_of(steps) if steps.changes else found


def _generation_of(steps: Plan) -> int | None:
    """Return the generation in the stamp that a plan writes last."""
    maps = (entry.subject for entry in steps.changes[-1].switch.operations if entry.verb is Verb.ADD)
    stamps = (dict(entry.elements) for entry in maps if isinstance(entry, Map) and entry.name == STAMP_MAP)
    found = [stamp[GENERATION_KEY] for stamp in stamps if GENERATION_KEY in stamp]
    return int(found[-1]) if found and isinstance(found[-1], int) else None


def _plan_renewal(generation: int) -> Plan:
    """Return a plan that only renews the policy's stamp."""
    return Plan((replace(NOTHING, switch=restamp(generation)),))


def _look(kernel: Kernel, request: ApplyRequest) -> Inventory:
    """Return what the kernel holds.

    Only the stamp is read if that proves that the kernel holds what was applied last, or what is wanted.
    """
    for known in () if request.settings.resync else (request.previous, request.proven):
        found = None if known is None else kernel.read_trusted(known.outline)
        if found:
            return found
    return kernel.inventory(TABLE, most=request.most)


def _last_enforced(request: ApplyRequest, inventory: Inventory) -> Desired | None:
    """Return what was enforced before, if that is known.

    The caller may know it, or the stamp does, which vouches for the fence, too.
    """
    return request.proven.desired if request.previous is None and inventory.is_derived else request.previously_desired


def _make_apply_report(epoch: int, plans: Sequence[Plan], ran: Ran, settings: Settings) -> ApplyReport:
    """Return the report's numbers: operations of all plans, the policy's first, and the outcome of that one."""
    changes = [change for steps in plans for change in steps.changes]
    return ApplyReport(
        epoch,
        staged=sum(len(change.stage) for change in changes),
        switched=sum(len(change.switch) for change in changes),
        swept=sum(len(change.sweep) for change in changes),
        is_full_resync=plans[0].is_full_resync,
        time_scale=settings.time_scale,
        seconds=0.0,
        leftover=ran.leftover,
        counted=ran.counted,
    )


def _enis(desired: Desired, ifnames: Collection[str]) -> list[Eni]:
    return [desired.state.eni[eni] for eni, ifname in desired.interfaces.items() if ifname in ifnames]


def _addresses(desired: Desired, ifnames: Collection[str]) -> tuple[Prefix, ...]:
    """Return all addresses from which the ENIs on these interfaces may send."""
    return tuple(prefix for eni in _enis(desired, ifnames) for prefix in eni.own_prefixes)


def _find_late(desired: Desired, apply_plan: ApplyPlan) -> list[str]:
    """Return the interfaces of ENIs whose sessions may have too much time left.

    These are all new ENIs if the namespace's timeouts are new, too; else the new ENIs whose own timeouts are shorter
    than the namespace's.
    """
    own = {ifname: desired.state.eni[eni].connection_tracking for eni, ifname in desired.interfaces.items()}
    return [name for name in apply_plan.newcomers if not apply_plan.inventory.exists or has_shorter(own[name])]


def _find_longest(desired: Desired, late: Collection[str], settings: Settings) -> Longest:
    """Return how long sessions of the ENIs on these interfaces may last; the sessions of all others keep their time."""
    others = set(desired.interfaces.values()).difference(late)
    return Longest.of(_enis(desired, late), _enis(desired, others), settings.time_scale)


def check_hold(namespace: str, proven: Proven, previous: Proven | None, settings: Settings) -> None:
    """Check that enforce() wouldn't refuse this change as taking too long. It changes nothing.

    Raises:
        HeldError: It would.
    """
    if is_light(proven.summary.paths):
        return
    request = ApplyRequest(proven, previous, settings)
    with NetlinkKernel(namespace) as kernel:
        if pace_of(kernel).remembers:
            return
        inventory = _look(kernel, request)
        fence = build_wanted_fence(kernel, inventory, proven.desired, settings, request.previously_desired)
        foreseen = foresee_next_epoch(inventory, request, slots_of(inventory, request))
        weigh(kernel, plan_apply(kernel, inventory, request, fence.secret, foreseen), request, fence)


def is_in_force(namespace: str, proven: Proven) -> bool:
    """Whether the kernel certainly has what is proven, and nobody has committed anything since it was put there."""
    with NetlinkKernel(namespace) as kernel:
        return kernel.read_trusted(proven.outline) is not None


def is_enforced(namespace: str, *, fence: bool) -> bool:
    """Whether some policy is in force there, as far as our tables and their stamps tell; and its fence, if asked."""
    with NetlinkKernel(namespace) as kernel:
        families = ("inet", NETDEV) if fence else ("inet",)
        return all(kernel.inventory(TABLE, family).stamp is not None for family in families)


def generation_and_process(namespace: str) -> tuple[int, int]:
    """Return how many commits the namespace has seen, and this thread's number.

    By that number the kernel knows the thread in commits.
    """
    with netns.inside(namespace):
        return commits.generation_and_process()


def remove(namespace: str) -> bool:
    """Delete our tables there, trials too, and nothing else; return whether there were any of a policy.

    The fence goes first: it would drop all packets that no policy marks any more.
    """
    with NetlinkKernel(namespace) as kernel:
        there = {family: kernel.inventory(TABLE, family) for family in (NETDEV, ARP, "inet")}
        found = {family: inventory for family, inventory in there.items() if inventory.exists}
        for family, inventory in found.items():
            leftover = run(kernel, Plan((plan_removal(inventory, TABLE, family),)), is_live=True).leftover
            if leftover:
                raise KernelError(leftover)
        for name in kernel.tables(TRIALS):
            table = Table(name)
            kernel.run(Transaction.of(table, (Operation(Verb.DELETE, Kind.TABLE, table),)))
    return bool(found)
