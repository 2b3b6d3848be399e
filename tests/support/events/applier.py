"""Processes that apply states to a namespace, knowing nothing of what was there: python -m tests.support.events.applier

    restarts SITE FIRST COUNT           each step by a new process, which ends
    kills SITE FIRST COUNT SEED PART    processes that apply one step after the other die (SIGKILL): some with their
                                        first commit all but made, most just after a random number of their commits.
                                        One apply has to put things right each time. PART: how much a part of a stage
                                        adds; with a small one, most of an apply's commits are such parts

A process counts its commits itself, and dies by its own hand. So a machine may be as slow as it likes: nobody looks at
a clock, or asks the kernel over and over while that process has to do its work on the same processor.

SITE is the JSON of a sessionlab.Site. All are forked from this process, which has loaded everything, but keep nothing
of each other. Prints what happened, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import ApplyReport, Desired, Settings
from sgdataplane.nft import transaction
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Transaction
from tests.support.events.steps import state_at
from tests.support.inputs.building import enforce
from tests.support.scenes.sessionlab import Site

COMMITS = 8  # a process makes fewer; an apply makes two or more, and several times as many in small parts
QUICK = Settings(time_scale=0.03, adoption_window=0)  # sessions of UDP, and those that are closed, end after a second


@dataclass
class Outcome:
    """`step` is in force. `in_the_middle`: killed with part of an apply's commits made. `early`: before any commit."""

    step: int
    processes: int = 0
    in_the_middle: int = 0
    early: int = 0
    full_resyncs: int = 0


def restarts(site: Site, first: int, count: int) -> Outcome:
    for step in range(first, first + count):
        _check_ended(_forked(lambda: apply_step(site, step, None)))  # noqa: B023  (run before the next turn)
    return Outcome(first + count - 1, count)


def kills(site: Site, first: int, count: int, seed: int, part: int) -> Outcome:
    chance, outcome = random.Random(seed), Outcome(first)
    transaction.PART = part
    with NetlinkKernel(site.netns) as kernel:
        for step in range(first, first + count):
            outcome.step = step
            before = kernel.inventory(TABLE)
            start, commits = chance.randrange(1 << 20), chance.randrange(COMMITS)
            _check_killed(_forked(lambda: apply_until_dead(site, start, commits)))  # noqa: B023  (as above)
            after = kernel.inventory(TABLE)
            outcome.processes += 1
            outcome.early += after.generation == before.generation
            outcome.in_the_middle += not after.is_untouched
            report = _put_right(site, outcome.step)
            outcome.full_resyncs += report.is_full_resync
    return outcome


def _put_right(site: Site, step: int) -> ApplyReport:
    """One apply, after which there is nothing left to do."""
    desired = site.desired(state_at(step))
    report = enforce(site.netns, desired, None, QUICK)
    assert report.leftover == ""
    assert not enforce(site.netns, desired, None, QUICK).changed
    return report


def apply_step(site: Site, step: int, previous: Desired | None) -> Desired:
    desired = site.desired(state_at(step))
    report = enforce(site.netns, desired, previous, QUICK)
    assert report.leftover == ""
    return desired


def apply_until_dead(site: Site, first: int, commits: int) -> None:
    die_after(commits)
    previous = None
    for step in itertools.count(first):
        previous = apply_step(site, step, previous)


def die_after(commits: int) -> None:
    """Let this process kill itself once it has made so many commits; with 0, instead of its first one."""
    run, made = NetlinkKernel.run, itertools.count(1)

    def dying(kernel: NetlinkKernel, *transactions: Transaction) -> None:
        if commits:
            run(kernel, *transactions)
        if not commits or (any(entry.operations for entry in transactions) and next(made) == commits):
            os.kill(os.getpid(), signal.SIGKILL)

    NetlinkKernel.run = dying  # type: ignore[assignment]


def _forked(work: Callable[[], object]) -> int:
    """The process that does the work; its exit code says whether it went well."""
    pid = os.fork()
    if pid == 0:
        _do(work)
    return pid


def _do(work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  # nobody else says it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _check_ended(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _check_killed(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it ended by itself"


def main(arguments: Sequence[str]) -> None:
    role, text, *numbers = arguments
    words = json.loads(text)
    site = Site(words["placement"], words["netns"], words["ifname"], tuple(words["uplinks"]))
    roles: dict[str, Callable[..., Outcome]] = {"restarts": restarts, "kills": kills}
    print(json.dumps(asdict(roles[role](site, *map(int, numbers)))))


if __name__ == "__main__":
    main(sys.argv[1:])
