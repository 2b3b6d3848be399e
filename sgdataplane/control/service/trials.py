"""Trials of a group's rules: SgdpTrialStart, SgdpTrialStop and SgdpTrialShow.

Owns what they are asked and what they answer. A trial is a part of the group's document (`trial` in the native format),
so it gets to the hosts of the group's members as the group does; they count, and their counts come back with their
reports. Must not know how anything is counted, or how reports travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sgdataplane.control.actions.rules import GroupDocument, propose_rules, rules_of, without_trial
from sgdataplane.control.actions.scope import Scope, write_time
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.control.hosts.status import HostBoard, HostStatus, TrialCounts
from sgdataplane.statefile.native_objects import NativeGroup, NativeTrial
from sgdataplane.store.documents import Documents, ResourceKind, Workspace, path_of
from sgdataplane.store.hosts import host_of
from sgdataplane.store.interface import Body, Json

DAY_S, LONGEST_S = 86_400, 30 * 86_400
MAX_LINES = 1_000  # in one answer; the others are only counted
NO_TRIAL = "InvalidTrial.NotFound"
WAITING = "the host hasn't said anything about it yet"


def start(scope: Scope, profile: str) -> Body:
    """Answer SgdpTrialStart: from now on, hosts count what would change if the group had these rules, or this policy.

    What a group couldn't have is refused as if it were to have it. A trial that runs for the group ends, and its counts
    with it.
    """
    group = scope.find_writable(scope.require("SecurityGroupId"))
    proposed: NativeGroup = {**without_trial(group.state), "rules": propose_rules(scope, rules_of(group))}
    if scope.has("InnerAccessPolicy"):
        proposed["inner_access_policy"] = scope.text("InnerAccessPolicy").capitalize()
    _require_valid(scope, group, proposed, profile)
    since = max(scope.call.now, _find_beginning(group) + 1)  # the time tells it from the trial before
    trial: NativeTrial = {
        "since": write_time(since),
        "until": write_time(since + _duration(scope)),
        "inner_access_policy": proposed.get("inner_access_policy", "Accept"),
        "rules": proposed["rules"],
    }
    scope.groups.change(group.id, {"trial": trial})
    return {"SecurityGroupId": group.id, "Since": trial["since"], "Until": trial["until"]}


def _require_valid(scope: Scope, group: GroupDocument, proposed: NativeGroup, profile: str) -> None:
    """Refuse what the group couldn't have, as if it were to have it.

    Raises:
        ApiError: It couldn't.
    """
    there = Workspace(scope.workspace.documents)
    there.put(ResourceKind.GROUP, group.id, proposed, group.about)
    validate(there, profile)


def _duration(scope: Scope) -> int:
    asked = scope.number("Duration", DAY_S)
    if not 0 < asked <= LONGEST_S:
        raise ApiError("InvalidParameter", f"Duration is 1 to {LONGEST_S} seconds")
    return asked


def _find_beginning(group: GroupDocument) -> int:
    """Return when the group's last trial began, in seconds since 1970; 0 if there was none."""
    trial = group.state.get("trial")
    return 0 if trial is None else _seconds(trial["since"])


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def stop(scope: Scope) -> Body:
    """Answer SgdpTrialStop: the trial of the group's rules ends. What it has counted is gone."""
    group = scope.find_writable(scope.require("SecurityGroupId"))
    _require_trial(group)
    scope.groups.put(group.id, without_trial(group.state), group.about)
    return {}


def _require_trial(group: GroupDocument) -> NativeTrial:
    """Return what is on trial for a group.

    Raises:
        ApiError: Nothing is.
    """
    trial = group.state.get("trial")
    if trial is None:
        raise ApiError(NO_TRIAL, f"Nothing is on trial for {group.id}.", NOT_FOUND)
    return trial


def show(scope: Scope, board: HostBoard) -> Body:
    """Answer SgdpTrialShow: what hosts have counted, as their last reports say; lines with the most packets first."""
    group = scope.groups.find(scope.require("SecurityGroupId"))
    trial = _require_trial(group)
    since, now, words = _seconds(trial["since"]), board.now, board.look()
    names = _hosts_of(scope.workspace.documents, scope.workspace.members(group.id))
    counts = {name: _counts_at(words.get(name), group.id, since) for name in names}
    lines = [(name, line) for name, one in counts.items() if one for line in one.lines]
    lines.sort(key=lambda found: (-_packets(found[1]), found[0]))
    known = [one for one in counts.values() if one is not None]
    return {
        "SecurityGroupId": group.id,
        "Since": trial["since"],
        "Until": trial["until"],
        "Ended": _seconds(trial["until"]) <= now,
        "Opens": sum(one.opens for one in known),
        "Closes": sum(one.closes for one in known),
        "Lines": [{**line, "host": name} for name, line in lines[:MAX_LINES]],
        "LinesTotalCount": sum(one.count for one in known),
        "Hosts": {"Host": [_describe_host(name, one, words.get(name), now) for name, one in counts.items()]},
    }


def _hosts_of(documents: Documents, enis: Iterable[str]) -> list[str]:
    """Return the hosts that these ENIs are bound to, sorted."""
    bodies = (documents.get(path_of(ResourceKind.ENI, eni)) for eni in enis)
    return sorted({host for body in bodies if body and (host := host_of(documents, body))})


def _counts_at(word: HostStatus | None, group_id: str, since: int) -> TrialCounts | None:
    """Return what a host has counted for this very trial; None if it hasn't said so."""
    found = word.trials if word else ()
    return next((one for one in found if (one.group, one.since) == (group_id, since)), None)


def _packets(line: Mapping[str, Json]) -> int:
    found = line.get("packets")
    return found if isinstance(found, int) else 0


def _describe_host(name: str, counts: TrialCounts | None, word: HostStatus | None, now: float) -> Json:
    """Return what a host says. Its age is that of its last report, in seconds; -1 if there is none."""
    return {
        "HostName": name,
        "Counting": counts is not None and not counts.paused,
        "Paused": WAITING if counts is None else counts.paused,
        "Opens": counts.opens if counts else 0,
        "Closes": counts.closes if counts else 0,
        "LinesTotalCount": counts.count if counts else 0,
        "AgeSeconds": round(max(0.0, now - word.heard), 1) if word else -1,
    }
