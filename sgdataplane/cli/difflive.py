"""`sgdp diff --live`: the live sessions that a change would end, in a lab or at what is attached here.

Owns how they are found. Is given what a comparison found. Must not know how they are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.cli.scopes import Scopes, scopes
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.sessions import Session, read_sessions
from sgdataplane.terminal.arguments import require_root
from sgdataplane.trial.lines import TrialLine
from sgdataplane.trial.live import find_ending


def live_endings(
    arguments: argparse.Namespace, diff: StateDiff, changes: Iterable[VerdictChange]
) -> tuple[tuple[Session, TrialLine], ...]:
    """Return the sessions that live now, that the policy in force has accepted, and that these changes would end."""
    require_root("reading live sessions")
    with scopes(arguments) as there:
        return endings_there(there, diff, changes)


def endings_there(
    there: Scopes, diff: StateDiff, changes: Iterable[VerdictChange]
) -> tuple[tuple[Session, TrialLine], ...]:
    """Return these sessions of the ENIs in given scopes."""
    here = {eni_id for scope in there.all for eni_id in scope.interfaces}
    lines = [
        TrialLine(change, diff.view(change.eni_id, change.direction, change.family).judged)
        for change in changes
        if change.eni_id in here and not change.is_opening
    ]
    return tuple(find_ending(live_sessions(there), lines))


def live_sessions(there: Scopes) -> Iterator[Session]:
    """Yield all live sessions of ENIs in these scopes."""
    for scope in there.all:
        with scope.held() as path:
            if path is not None and scope.desired is not None:
                desired = scope.desired
                decider = Decider(desired.state, there.options)
                yield from read_sessions(path, desired.state, desired.interfaces, decider, desired.site)
