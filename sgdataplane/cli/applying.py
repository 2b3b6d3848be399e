"""`sgdp apply --dry-run`, `--diff`, `--confirm`: what an apply would change, and the way back.

Owns the wording, where applied policies are kept, and the process that goes back. Must not know how a policy is put in
force.

A process of its own waits for the confirmation and goes back without it. So the old policy comes back, too, if the
terminal is cut off or `sgdp apply` is killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import compare
from sgdataplane.attach.registry import APPLIED, Binding, Registry
from sgdataplane.attach.report import Manner
from sgdataplane.cli.diff import print_text
from sgdataplane.cli.difflive import endings_there
from sgdataplane.cli.ending import EndingSessions
from sgdataplane.cli.scopes import Scopes, of_bindings
from sgdataplane.daemon.config import Config
from sgdataplane.daemon.pastpolicies import PastPolicies
from sgdataplane.enforce import build
from sgdataplane.errors import HostError, SgDataplaneError
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.output import Exit, complain, say, say_aside
from sgdataplane.terminal.progress import Progress

IN_FORCE, KEEP = b"a", b"k"  # what the waiting process is told
YES = ("", "y", "yes")


def find_applied_policies(registry: Registry) -> PastPolicies:
    """Return the policies that `sgdp apply` has put in force since the machine started."""
    return PastPolicies(registry.folder / APPLIED)


@dataclass(frozen=True, slots=True)
class Before:
    """The policy in force now, as far as it is known."""

    state: CloudState
    """An empty state if nothing is known."""
    name: str  # "policy 7", or that nothing is known

    @classmethod
    def of(cls, past: PastPolicies) -> Before:
        """Return the last policy that was applied; nothing, with a warning, if it can't be read."""
        if past.entries:
            try:
                entry = past.entries[-1]
                return cls(past.state(entry.digest), f"policy {entry.number}, applied from {entry.source}")
            except SgDataplaneError as error:
                complain(f"what was applied before can't be read: {error}")
        return cls(CloudState(), "")


def say_change(before: Before, after: CloudState, bindings: Iterable[Binding], manner: Manner) -> None:
    """Print what changes in traffic, at how many attached ENIs, what that costs, and which live sessions would end."""
    if not before.name:
        say_aside("note: no earlier policy is known; everything that STATE accepts is shown as opening")
    diff = StateDiff(before.state, after, manner.options)
    with Progress("comparing", 0) as progress:
        found = compare(diff, (), progress)
    print_text(found)
    attached = tuple(bindings)
    there = of_bindings(attached, before.state, manner.options)
    here = {eni_id for scope in there.all for eni_id in scope.interfaces}
    concerned = here & {one.eni_id for one in found.enis}
    say(f"changes the policy of {len(concerned):,} of {pluralize(len(here), 'attached ENI')}")
    _say_cost(of_bindings(attached, after, manner.options, manner.uplinks), concerned, manner)
    EndingSessions(endings_there(there, diff, found.changes)).say(is_always=True)


def _say_cost(there: Scopes, concerned: Collection[str], manner: Manner) -> None:
    """Say how long it takes to make the new rules of these ENIs. Put nothing in force."""
    scopes = [scope.desired for scope in there.all if not scope.interfaces.keys().isdisjoint(concerned)]
    with Progress("compiling", len(scopes)) as progress:
        seconds = 0.0
        for desired in scopes:
            seconds += 0.0 if desired is None else build(desired, manner.settings).seconds
            progress.advance()
    if scopes:
        say(f"cost: {pluralize(len(scopes), 'namespace')} to compile and prove, which takes {seconds:.1f} s here")


def require_way_back(before: Before, config: Config) -> None:
    """Raise HostError if nothing could come back, or if an agent would undo it anyway."""
    if config.socket.exists():
        words = "an agent runs here and enforces its own state; use `sgdp rollback` with --for"
        raise HostError("apply --confirm", words)
    if not before.name:
        words = "no policy was applied here before, so there is nothing to return to; apply one without --confirm first"
        raise HostError("apply --confirm", words)


class WayBack:
    """A process that goes back unless it hears that what was applied is kept."""

    def __init__(self, go_back: Callable[[], bool], seconds: float) -> None:
        """Fork the process. `go_back` runs in it and returns whether it worked."""
        self._seconds = seconds
        heard, self._told = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._told)
            os._exit(_wait(heard, go_back, seconds))
        os.close(heard)

    def report_applied(self) -> None:
        """Say that the policy is applied: from now on the time runs."""
        os.write(self._told, IN_FORCE)

    def ask(self) -> bool:
        """Ask the user whether to keep it, and return the answer: no, if there is none in time."""
        keep = "Press Enter to keep it; any other answer, or none, restores the old policy."
        say(f"In force for {self._seconds:g} s. {keep}")
        sys.stdout.flush()
        readable, _, _ = select.select([sys.stdin], [], [], self._seconds)
        answer = sys.stdin.readline() if readable else ""
        return answer.endswith("\n") and answer.strip().lower() in YES

    def keep(self) -> None:
        """Keep what was applied. HostError if it was too late for that."""
        with suppress(BrokenPipeError):
            os.write(self._told, KEEP)
        if self._end() != Exit.DONE:
            raise HostError("apply --confirm", "too late: the old policy is in force again")

    def go_back(self) -> bool:
        """Go back now; return whether that worked."""
        return self._end() == Exit.NO

    def _end(self) -> int:
        """End the process, and return its exit code."""
        os.close(self._told)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _wait(heard: int, go_back: Callable[[], bool], seconds: float) -> int:
    """Wait for the confirmation, in the process of its own, and go back without it.

    Returns:
        The exit code: 0 if it is kept, 1 if the old policy is back, 3 if that failed.
    """
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        if os.read(heard, 1) == IN_FORCE and _is_kept(heard, time.monotonic() + seconds):
            return Exit.DONE
        return Exit.NO if go_back() else Exit.KERNEL
    except BaseException as error:  # noqa: BLE001  # this process ends here, whatever goes wrong
        complain(f"the old policy could not be put in force again: {error}")
        return Exit.KERNEL


def _is_kept(heard: int, until: float) -> bool:
    """Return whether the user keeps it before that time, by time.monotonic()."""
    readable, _, _ = select.select([heard], [], [], max(0.0, until - time.monotonic()))
    return bool(readable) and os.read(heard, 1) == KEEP
