"""What a change would open at ENIs that aren't there, in words; and which of it can't be judged.

Owns the sentences. Must not compare anything itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sgdataplane.analyse.diff import EniDiff
from sgdataplane.analyse.hypothetical import EniPlace, Occupancy, WouldOpen
from sgdataplane.analyse.members import FarMember
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.model import words
from sgdataplane.model.decision import DEFAULT, Decision
from sgdataplane.model.state import NicType
from sgdataplane.net.values import Direction
from sgdataplane.policy.dimensions import FURTHER, LOCAL, PORT, PROTOCOL, REMOTE, Dimension
from sgdataplane.policy.findings import Finding, Severity, subject

NAMED = 3  # so many places where the same opens are named; the others are only counted


def sentences(would_open: Iterable[WouldOpen], found: Iterable[EniDiff]) -> Iterator[str]:
    """Yield a sentence for each range of traffic that would open.

    One is "group sg-x (no ENI yet): tcp/22 from 0.0.0.0/0 would be accepted, by sgr-1". What the same rule opens at an
    ENI for the same protocol and ports isn't said again.
    """
    said = {_make_opening_key(change) for one in found for change in one.changes if change.is_opening}
    changes = ((one, change) for one in would_open for change in one.changes)
    told = (
        f"{place_name(one)}: {traffic(change, one.remote)} would be accepted, by {words.cite_decision(change.after)}"
        for one, change in changes
        if change.after.cause == DEFAULT or _make_opening_key(change) not in said
    )
    yield from dict.fromkeys(told)


def _make_opening_key(change: VerdictChange) -> tuple[object, ...]:
    return change.direction, change.after, change.of(PROTOCOL), change.of(PORT)


def is_blind(one: WouldOpen) -> bool:
    """Return whether it is about members of a group that a state lacks.

    Nobody can judge whom a rule lets in there when the rule changes. An ENI that joins a group whose rules stay doesn't
    change that.
    """
    return one.remote is not None and bool(one.remote.unknown) and not one.place.name


def unknown_members(blind: Iterable[WouldOpen]) -> tuple[Finding, ...]:
    """Return what such members would be let in for: a finding for each range of traffic and each rule."""
    places: dict[tuple[str, Decision], dict[str, None]] = {}
    for one in blind:
        for change in one.changes:
            told = places.setdefault((traffic(change, one.remote), change.after), {})
            told[group_names(one.place.security_group_ids)] = None
    return tuple(_unknown(text, by, tuple(told)) for (text, by), told in places.items())


def _unknown(text: str, by: Decision, places: Sequence[str]) -> Finding:
    message = f"{text} would be accepted at {words.first_of(places, NAMED)}, by {words.cite_decision(by)}"
    about = subject(security_group_id=by.security_group_id, security_group_rule_id=by.security_group_rule_id)
    return Finding("UnknownRemote", Severity.WARNING, message, about)


def place_name(one: WouldOpen) -> str:
    """Return the groups of a hypothetical ENI in words, with its name if it has one, and who is in them."""
    place, occupancy = one.place, one.occupancy
    groups = group_names(place.security_group_ids)
    name = f"{place.name} in {groups}" if place.name else groups
    return f"{name} ({note(place, occupancy)})"


def note(place: EniPlace, occupancy: Occupancy) -> str:
    """Return who is in the groups of a hypothetical ENI, in words."""
    alone = len(place.security_group_ids) == 1
    text = "no ENI is in it alone" if occupancy is Occupancy.APART and alone else occupancy.value
    return f"{text}, internet interface" if place.nic_type is NicType.INTERNET else text


def group_names(group_ids: Iterable[str]) -> str:
    """Return groups in words: "group sg-a", "groups sg-a + sg-b"."""
    ids = list(group_ids)
    return f"group {ids[0]}" if len(ids) == 1 else f"groups {' + '.join(ids)}"


def traffic(change: VerdictChange, remote: FarMember | None) -> str:
    """Return changed traffic in words: "tcp/22 from 0.0.0.0/0", "all to members of group sg-y"."""
    what = text_of(change, PROTOCOL)
    what = f"protocols {what}" if what[0].isdigit() and "-" in what else what
    ports = change.of(PORT)
    what += f"/{text_of(change, PORT)}" if ports is not None and ports != PORT.whole(change.family)[0] else ""
    more = [each.phrase.format(text_of(change, each)) for each in (*FURTHER, LOCAL) if change.of(each) is not None]
    word = "from" if change.direction is Direction.INGRESS else "to"
    return " ".join((what, word, far_name(change, remote), *more))


def far_name(change: VerdictChange, remote: FarMember | None) -> str:
    """Return the far end in words: addresses, or members of groups."""
    if remote is None:
        return text_of(change, REMOTE)
    groups = group_names(remote.groups)
    is_any = change.of(REMOTE) == REMOTE.whole(change.family)[0]
    if remote.unknown:
        who, note = f"whoever is in {groups}", f"the state doesn't have {' and '.join(sorted(remote.unknown))}"
    else:
        who = f"{remote.name} in {groups}" if remote.name else f"an ENI that joins {groups}"
        note = change.family.value
    return f"{who} ({note})" if is_any else f"{who}, if it is in {text_of(change, REMOTE)},"


def text_of(change: VerdictChange, dimension: Dimension) -> str:
    """Return the range of changed traffic in one dimension, in words."""
    interval = change.of(dimension)
    return "any" if interval is None else dimension.domain.short(interval, change.family)
