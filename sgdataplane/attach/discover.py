"""Interfaces bound to the ENIs that they name: the producer of bindings beside `sgdp attach`.

Owns the look at named namespaces, and the writing of what follows (attach/claims.py). Must not know who asks, nor what
is enforced: the next reconcile does that, as of any binding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sgdataplane.attach.again import let_go
from sgdataplane.attach.claims import Claim, Place, claims_of, match
from sgdataplane.attach.contained import told
from sgdataplane.attach.registry import Binding, Means, Registry, current
from sgdataplane.attach.report import Refusal
from sgdataplane.host import netns
from sgdataplane.host.events import number_of
from sgdataplane.host.identity import Identity, held, identity_of, is_own, is_there
from sgdataplane.host.rtnetlink import labels_of
from sgdataplane.model.state import CloudState

OURS = "sgdataplane "  # so begins loopback's alias in routers and labs of ours


@dataclass(frozen=True, slots=True)
class Rule:
    """By what interfaces are bound (by nothing: none are), in which namespaces: shell patterns of their names."""

    means: tuple[Means, ...] = ()
    names: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was bound, and what not. `left`: namespaces where nothing is bound any more, since it is elsewhere; our
    rules stay there. `numbers`: of the namespaces that were looked at; to be listened to, since what happens in them
    may bind more. `error`: why not all could be looked at, or ""."""

    bound: tuple[Binding, ...] = ()
    left: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    numbers: frozenset[int] = frozenset()
    error: str = ""


NOT_LOOKED = Discovery()


def discover(registry: Registry, state: CloudState, rule: Rule) -> Discovery:
    """Bind what names an ENI clearly. BindingError or HostError if the bindings can't be read or written."""
    if not rule.means:
        return NOT_LOOKED
    with registry.locked():
        places, errors = look(rule.names)
        claims, bindings = claims_of(state, rule.means, places), registry.load()
        ended = _ended(claims, places, bindings)
        matched = match(claims, places, bindings, ended)
        again = {binding.eni_id for binding in matched.bindings}
        kept = (binding for binding in bindings if binding.superseded or binding.eni_id not in again)
        now = (*kept, *matched.bindings)
        for binding in current(bindings):
            if binding.eni_id in again & ended:
                let_go(binding)
        if again:
            registry.store(now)
    there = {binding.identity for binding in now}
    left = {binding.named for binding in bindings if binding.identity not in there and binding.eni_id not in ended}
    numbers = frozenset(place.number for place in places)
    return Discovery(matched.bindings, tuple(sorted(left)), matched.refusals, numbers, "; ".join(errors))


def look(patterns: Sequence[str]) -> tuple[tuple[Place, ...], list[str]]:
    """The named namespaces, each once, without ours, our own and the machine's; and why others can't be looked at. A
    namespace gets its number before its interfaces are read: who listens to all numbers then misses nothing."""
    places: dict[Identity, Place] = {}
    errors: list[str] = []
    for name in netns.list_names():
        if not netns.NAME.fullmatch(name) or not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        try:
            place = _seen(name) if netns.is_bound(name) else None
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this namespace's
            if netns.is_bound(name):  # else it went meanwhile
                errors.append(f"netns {name}: {error if isinstance(error, OSError) else told(error)}")
            continue
        if place is not None:
            places.setdefault(place.identity, place)
    return tuple(places.values()), errors


def _seen(name: str) -> Place | None:
    """None if no workload's."""
    path = str(netns.path_of(name))
    with held(path) as there:
        if is_own(there):
            return None
        identity, number = identity_of(there), number_of(there)
        labels = labels_of(number)
    if any(label.is_loopback and label.alias.startswith(OURS) for label in labels):
        return None
    return Place(name, path, identity, number, tuple(label for label in labels if not label.is_loopback))


def _ended(claims: Sequence[Claim], places: Sequence[Place], bindings: Sequence[Binding]) -> frozenset[str]:
    """Of the ENIs that are named, those whose binding's namespace is gone: only of those, as it means a search."""
    named, seen = {claim.eni_id for claim in claims}, {place.identity for place in places}
    asked = (binding for binding in current(bindings) if binding.eni_id in named and binding.identity not in seen)
    return frozenset(binding.eni_id for binding in asked if not is_there(binding.identity, binding.path))
