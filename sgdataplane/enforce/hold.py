"""The time for which a change will hold the kernel: before it is made, it passes, is warned of, or is refused.

Owns the bounds and the wording. Its input is what is planned, and the kernel's pace. Must not change anything.

While the kernel is held, nobody can change a rule in the namespace, and one processor does nothing else. Packets pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sgdataplane.enforce.apply_plan import ApplyPlan, ApplyRequest
from sgdataplane.enforce.fence import Fence
from sgdataplane.errors import HeldError, HostError, KernelError
from sgdataplane.model.options import Placement
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.validation import NOTHING, REMEMBERING, Pace, Visits, count_validations

LOGGER = logging.getLogger("sgdataplane.hold")
USUAL = 3  # a change usually walks a table so many times: stage, switch, base chains that are written anew
MATTERS = 1_000_000  # visits; fewer take no kernel half a second
MAX_PLANS = 10  # a plan walks its table at most so many times
WARN_S, MAX_S = 1.0, 10.0
NEWER = "Linux 6.12.66 or newer"
HELP = {  # by whether the placement is outside the instance
    True: f"{NEWER}, or instance placement, or fewer ENIs of one VPC on this host",
    False: f"{NEWER}, or fewer rules, or fewer members in the groups that rules name",
}


@dataclass(frozen=True, slots=True)
class Burden:
    """How much a change makes a kernel without memory do."""

    visits: int  # how many chains it visits for the change
    paths: int  # how many paths go through the table that the change puts in force
    placement: Placement
    is_needed: bool = False  # whether leaving it undone would be worse, however long it takes


def judge(burden: Burden, pace: Pace) -> str:
    """Return the warning about a change, or "".

    Raises:
        HeldError: It takes too long.
    """
    seconds = pace.seconds(burden.visits)
    cause = (
        f"before a commit, this kernel walks each of the {burden.paths:,} paths through the policy's chains, "
        "since it doesn't remember which chains it has checked"
    )
    if seconds > MAX_S and not burden.is_needed:
        raise HeldError(seconds, MAX_S, cause, HELP[burden.placement.is_outside])
    if seconds <= WARN_S:
        return ""
    what_helps = HELP[burden.placement.is_outside]
    return f"a change holds the kernel for about {seconds:,.1f} s: {cause}; what helps is {what_helps}"


def weigh(kernel: Kernel, apply_plan: ApplyPlan, request: ApplyRequest, fence: Fence) -> str:
    """Return the warning about the apply, or "". If there is something to change, it is logged, too.

    If there is nothing to change, the warning is about the next change. Two changes are never refused: one that repairs
    a policy in force that others have changed, and one that makes the table cheaper than the one in force.

    Raises:
        HeldError: The change would hold the kernel too long.
    """
    is_change, paths = bool(apply_plan.steps.changes), request.proven.summary.paths
    if not is_change and USUAL * paths <= MATTERS:
        return ""
    visits = request.proven.visits
    in_force = _visits_in_force(apply_plan, request, visits)
    walked = visits.of_plan(apply_plan.steps, in_force) if is_change else USUAL * paths
    if walked <= MATTERS:
        return ""
    pace = pace_of(kernel)
    if pace.is_wide:  # then the fence's commits validate the policy's table, too
        meanwhile = in_force or visits if fence.is_first(apply_plan.inventory.stamp) else visits
        walked += count_validations(fence.steps) * meanwhile.every_path
    is_repair = apply_plan.stamp is not None and apply_plan.stamp.digest == request.proven.summary.digest
    is_less = in_force is not None and in_force.every_path > paths
    is_needed = not is_change or is_repair or is_less
    words = judge(Burden(walked, paths, request.proven.desired.placement, is_needed), pace)
    if words and is_change:
        LOGGER.warning("policy of %s: %s", _enis(request.proven.desired.interfaces), words)
    return words


def is_light(paths: int) -> bool:
    """Whether no change to a table with so many paths takes long enough to matter."""
    return MAX_PLANS * paths <= MATTERS


def _enis(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more ENIs" if others else first


def _visits_in_force(apply_plan: ApplyPlan, request: ApplyRequest, visits: Visits) -> Visits | None:
    """Return the visits of the table that the kernel holds; None if it isn't known."""
    if not apply_plan.inventory.exists or apply_plan.inventory.is_inert:
        return NOTHING
    if apply_plan.steps.is_full_resync or apply_plan.stamp is None:
        return None
    if request.previous is None or apply_plan.stamp.digest == request.proven.summary.digest:
        return visits
    return request.previous.visits


def pace_of(kernel: Kernel) -> Pace:
    """Return the kernel's pace, which is measured once in a process.

    If it can't be measured, no change is refused.
    """
    try:
        return kernel.pace()
    except (KernelError, HostError) as error:
        LOGGER.warning("can't measure how fast this kernel checks chains: %s", error)
        return REMEMBERING
