"""How long a change will hold the kernel, before it is made: nothing is said of it, or a warning, or it is refused.

Owns the bounds and the wording. Is given what is planned, and the kernel's pace. Must not change anything.

Meanwhile nobody can change a rule in the namespace, and one processor does nothing else. Packets pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce.course import Course, Wish
from sgdataplane.enforce.fence import MOST, Fence, way_to
from sgdataplane.errors import HeldError, HostError, KernelError
from sgdataplane.model.options import Placement
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.snapshot import stamp_of
from sgdataplane.nft.validation import NOTHING, REMEMBERING, Pace, Visits, validations

LOGGER = logging.getLogger("sgdataplane.hold")
USUAL = 3  # times the visits of a table are those of a change: stage, switch, base chains that are written anew
MATTERS = 1_000_000  # visits: fewer take no kernel half a second
MOST_PLANS = 10  # times the visits of a table, at most, are those of a plan to it
WARN_S, MOST_S = 1.0, 10.0
NEWER = "Linux 6.12.66 or newer"
HELP: Mapping[Placement, str] = {
    Placement.HOST: f"{NEWER}, or instance placement, or fewer ENIs of one VPC on this host",
    Placement.INSTANCE: f"{NEWER}, or fewer rules, or fewer members in the groups that rules name",
}


@dataclass(frozen=True, slots=True)
class Burden:
    """`visits`: of a change, by a kernel without memory. `paths`: of the table that it puts in force. `is_needed`: to
    leave it undone would be worse, however long it takes."""

    visits: int
    paths: int
    placement: Placement
    is_needed: bool = False


def judge(burden: Burden, pace: Pace) -> str:
    """The warning, "" if there is none. HeldError if it is too long."""
    seconds = pace.seconds(burden.visits)
    cause = (
        f"before a commit, this kernel walks each of the {burden.paths:,} paths through the policy's chains, "
        "since it doesn't remember which chains it has checked"
    )
    if seconds > MOST_S and not burden.is_needed:
        raise HeldError(seconds, MOST_S, cause, HELP[burden.placement])
    if seconds <= WARN_S:
        return ""
    return f"a change holds the kernel for about {seconds:,.1f} s: {cause}; what helps is {HELP[burden.placement]}"


def weigh(kernel: Kernel, course: Course, wish: Wish, fence: Fence) -> str:
    """The warning; it is logged, too, if there is something to change. If there is nothing, it is of the next change.

    Never refused is what repairs a policy that is in force and that others have changed, and what makes the table
    cheaper than the one that is in force."""
    visits = wish.proven.visits
    before = _before(course, wish, visits)
    is_change = bool(course.steps.changes)
    walked = visits.of_plan(course.steps, before) if is_change else USUAL * visits.every_path
    if walked <= MATTERS:
        return ""
    pace = _pace(kernel)
    if pace.is_wide:  # so the fence's commits have the policy's table validated
        steps = way_to(kernel, kernel.inventory(TABLE, NETDEV, MOST), course.inventory, fence)
        meanwhile = before or visits if fence.is_first(course.inventory.stamp) else visits
        walked += validations(steps) * meanwhile.every_path
    is_repair = course.stamp is not None and course.stamp.digest == stamp_of(wish.table).digest
    is_less = before is not None and before.every_path > visits.every_path
    is_needed = not is_change or is_repair or is_less
    words = judge(Burden(walked, visits.every_path, wish.desired.placement, is_needed), pace)
    if words and is_change:
        LOGGER.warning("policy of %s: %s", _enis(wish.desired.interfaces), words)
    return words


def is_light(visits: Visits) -> bool:
    """Whether no change to such a table can matter."""
    return MOST_PLANS * visits.every_path <= MATTERS


def _enis(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more ENIs" if others else first


def _before(course: Course, wish: Wish, visits: Visits) -> Visits | None:
    """Of what the kernel holds, as far as that is known."""
    if not course.inventory.exists:
        return NOTHING
    if course.steps.is_refill or course.stamp is None:
        return None
    if wish.previous is None or course.stamp.digest == stamp_of(wish.table).digest:
        return visits
    return wish.previous.visits


def _pace(kernel: Kernel) -> Pace:
    """A kernel that can't be measured is asked to do what it did before there was a bound."""
    try:
        return kernel.pace()
    except (KernelError, HostError) as error:
        LOGGER.warning("how fast this kernel checks chains can't be measured: %s", error)
        return REMEMBERING
