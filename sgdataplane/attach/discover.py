"""The binding of interfaces to the ENIs that they name, by alias or MAC: the agent's alternative to `sgdp attach`.

Owns the look at named namespaces (again only after an event there), which claims are ambiguous and so refused, and the
writing of new bindings. Must not know who asks, or what is enforced: the next reconcile treats these bindings like any
other.

    one interface names one ENI, and neither is bound            bound
    bound this way, and the interface is still there              stays, whatever it or others say now
    bound this way, the interface is gone, and one other says so  bound there (it was renamed, moved, or came back)
    anything else                                                 refused, with all places; what is bound stays bound

A refusal binds nothing, and unbinds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sgdataplane.attach.again import let_go
from sgdataplane.attach.registry import Binding, Means, Registry, current
from sgdataplane.attach.report import Refusal, contain_error
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.events import number_of
from sgdataplane.host.identity import Identity, hold_namespace, identity_of, is_own, is_there
from sgdataplane.host.rtnetlink import Label, labels_of
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import IFNAME

CLOUD_ID = re.compile(r"eni-[A-Za-z0-9._-]{1,59}")  # such an alias is an ENI's id, even if the state doesn't have it


@dataclass(frozen=True, slots=True)
class LabelledNamespace:
    """A namespace with a name under /run/netns, and the labels of its interfaces."""

    name: str
    path: str
    identity: Identity
    number: int  # by which our namespace knows it (host/events.py)
    labels: tuple[Label, ...]  # the labels of all interfaces but loopback

    def __str__(self) -> str:
        return f"netns {self.name}"


@dataclass(frozen=True, slots=True)
class EniClaim:
    """A claim: an interface names an ENI."""

    eni_id: str
    means: Means
    place: LabelledNamespace
    ifname: str
    doubt: str = ""  # why the claim is ambiguous; "" if it isn't

    def __str__(self) -> str:
        return f"{self.ifname} of {self.place}"

    @property
    def interface(self) -> tuple[Identity, str]:
        """The namespace and the name of the interface, by which bindings are compared."""
        return self.place.identity, self.ifname

    @property
    def binding(self) -> Binding:
        """The binding that the claim asks for."""
        place = self.place
        return Binding(self.eni_id, self.ifname, str(place), place.path, place.identity, means=self.means)


@dataclass(frozen=True, slots=True)
class Matched:
    """The bindings to make, which replace those of their ENIs, and the claims that are refused."""

    bindings: tuple[Binding, ...]
    refusals: tuple[Refusal, ...]


def claims_of(state: CloudState, means: Collection[Means], places: Sequence[LabelledNamespace]) -> tuple[EniClaim, ...]:
    """Return all claims that interfaces make.

    An alias counts if it is an ENI of the state, or looks like a cloud's ENI id. In the second case nothing passes
    until the state has that ENI.
    """
    by_mac: dict[str, set[str]] = {}
    if Means.MAC in means:
        for eni in state.judged_enis:
            by_mac.setdefault(eni.mac_address, set()).add(eni.network_interface_id)
    is_alias = Means.ALIAS in means
    found: list[EniClaim] = []
    for place in places:
        for label in place.labels:
            is_id = is_alias and (label.alias in state.eni or CLOUD_ID.fullmatch(label.alias))
            found += _read_claims(place, label, {label.alias} if is_id else set(), by_mac.get(label.mac, set()))
    return tuple(found)


def _read_claims(place: LabelledNamespace, label: Label, alias: set[str], mac: set[str]) -> Iterator[EniClaim]:
    """Yield one claim if it is unambiguous; else one for each ENI that it might be."""
    both = alias & mac or alias | mac
    doubt = ""
    if alias and not alias & mac and mac:
        doubt = "the interface has the alias of one ENI and the MAC of another"
    elif len(both) > 1:
        doubt = "the interface has a MAC that several ENIs have"
    elif not IFNAME.fullmatch(label.ifname):
        doubt = "the interface has a name that can't stand in rules"
    for eni_id in sorted(both):
        yield EniClaim(eni_id, Means.ALIAS if eni_id in alias else Means.MAC, place, label.ifname, doubt)


def match(
    claims: Sequence[EniClaim], places: Sequence[LabelledNamespace], bindings: Sequence[Binding], ended: Collection[str]
) -> Matched:
    """Return which bindings follow from the claims, and what is refused.

    Args:
        claims: All that interfaces claim.
        places: All namespaces that were looked at.
        bindings: Those that there are.
        ended: The ENIs whose namespace has ended.
    """
    by_eni: dict[str, list[EniClaim]] = {}
    for claim in claims:
        by_eni.setdefault(claim.eni_id, []).append(claim)
    bound = {binding.eni_id: binding for binding in current(bindings)}
    owners = {(binding.identity, binding.ifname): binding.eni_id for binding in bindings}
    there = {(place.identity, label.ifname) for place in places for label in place.labels}
    seen = {place.identity for place in places}
    results = [
        _judge_claims(
            mine, bound.get(eni_id), owners, is_gone=eni_id in ended or _is_gone(bound.get(eni_id), seen, there)
        )
        for eni_id, mine in sorted(by_eni.items())
    ]
    made = tuple(result for result in results if isinstance(result, Binding))
    return Matched(made, tuple(result for result in results if isinstance(result, Refusal)))


def _is_gone(binding: Binding | None, seen: Collection[Identity], there: Collection[tuple[Identity, str]]) -> bool:
    """Whether an interface that was bound by its label is no longer where it was.

    It is False if its namespace wasn't looked at. In host placement it is False, too: the policy is enforced in the
    router, wherever the interface is.
    """
    if binding is None:
        return True
    is_ours_to_move = binding.means.is_label and binding.host_end is None
    return is_ours_to_move and binding.identity in seen and (binding.identity, binding.ifname) not in there


def _judge_claims(
    claims: Sequence[EniClaim], binding: Binding | None, owners: Mapping[tuple[Identity, str], str], *, is_gone: bool
) -> Binding | Refusal | None:
    """Return what becomes of one ENI: a new binding, a refusal, or None if all stays.

    `owners` is the ENI that is bound to each interface.
    """
    eni_id = claims[0].eni_id
    where = tuple(map(str, claims))
    if binding is not None and not is_gone:
        others = [claim for claim in claims if claim.interface != (binding.identity, binding.ifname)]
        if others:
            return Refusal(
                eni_id,
                "it stays bound where it is, although other interfaces name it",
                (str(binding), *map(str, others)),
            )
        return None
    doubts = sorted({claim.doubt for claim in claims if claim.doubt})
    if doubts:
        return Refusal(eni_id, "; ".join(doubts), where)
    if len(claims) > 1:
        return Refusal(eni_id, "several interfaces name it", where)
    owner = owners.get(claims[0].interface)
    if owner is not None:
        return Refusal(eni_id, f"the interface stays bound to {owner}", where)
    return claims[0].binding


OURS = "sgdataplane "  # the alias of loopback begins so in our routers and labs


@dataclass(frozen=True, slots=True)
class BindRule:
    """The rule by which the agent binds interfaces itself."""

    means: tuple[Means, ...] = ()  # which labels bind; () for none
    names: tuple[str, ...] = ("*",)  # shell patterns of the names of namespaces to look at


@dataclass(frozen=True, slots=True)
class Discovery:
    """The result of a look for interfaces to bind."""

    bound: tuple[Binding, ...] = ()
    left: tuple[str, ...] = ()
    """Namespaces whose interfaces are bound elsewhere now; our rules stay there."""
    refusals: tuple[Refusal, ...] = ()
    numbers: frozenset[int] = frozenset()
    """Numbers of all namespaces that were looked at; the agent listens to them, as a change there may bind more."""
    error: str = ""
    """Why some could not be looked at, or ""."""


NOT_LOOKED = Discovery()


def discover(registry: Registry, state: CloudState, rule: BindRule, sights: Sights | None = None) -> Discovery:
    """Bind the interfaces that name an ENI unambiguously. `sights` is what was seen before.

    Raises:
        BindingError: The bindings can't be read.
        HostError: The bindings can't be read or written.
    """
    if not rule.means:
        return NOT_LOOKED
    with registry.lock():
        places, errors = look(rule.names, sights)
        claims, bindings = claims_of(state, rule.means, places), registry.load()
        ended = _find_ended(claims, places, bindings)
        matched = match(claims, places, bindings, ended)
        again = {binding.eni_id for binding in matched.bindings}
        kept = (binding for binding in bindings if binding.superseded or binding.eni_id not in again)
        now = (*kept, *matched.bindings)
        for binding in current(bindings):
            if binding.eni_id in again & ended:
                let_go(binding)
        try:
            if again:
                registry.store(now)
        except HostError as error:  # each that can't be bound says why
            refused = tuple(Refusal(new.eni_id, f"it can't be bound: {error}", (str(new),)) for new in matched.bindings)
            matched, now = Matched((), (*matched.refusals, *refused)), tuple(bindings)
    there = {binding.identity for binding in now}
    left = {binding.named for binding in bindings if binding.identity not in there and binding.eni_id not in ended}
    numbers = frozenset(place.number for place in places)
    return Discovery(matched.bindings, tuple(sorted(left)), matched.refusals, numbers, "; ".join(errors))


@dataclass
class Sights:
    """The named namespaces as they were seen, by name."""

    quiet: Collection[int] = frozenset()  # numbers of namespaces without any event since; they aren't looked at again
    _seen: dict[str, LabelledNamespace] = field(default_factory=dict)
    _others: dict[str, Identity] = field(default_factory=dict)

    def of(self, name: str, inode: int) -> LabelledNamespace | None:
        """Return the workload's namespace behind a name; None if it isn't a workload's.

        `inode` is of the namespace that the name leads to now.
        """
        known = self._seen.pop(name, None)
        if known is not None and known.number in self.quiet and known.identity.inode == inode:
            self._seen[name] = known
            return known
        with hold_namespace(str(netns.path_of(name))) as there:
            identity = identity_of(there)
            place = None if self._others.get(name) == identity else _look_at(name, there, identity)
        if place is None:
            self._others[name] = identity
        else:
            self._seen[name] = place
        return place

    def keep(self, names: Collection[str]) -> None:
        """Forget the namespaces without one of these names."""
        self._seen = {name: place for name, place in self._seen.items() if name in names}
        self._others = {name: identity for name, identity in self._others.items() if name in names}


def look(patterns: Sequence[str], sights: Sights | None = None) -> tuple[tuple[LabelledNamespace, ...], list[str]]:
    """Look at the named namespaces, each once, except our routers and labs, our own and the machine's.

    Also return why some can't be looked at. `sights` is what was seen before. A namespace gets its number before its
    interfaces are read, so that a listener to all numbers misses nothing afterwards.
    """
    places: dict[Identity, LabelledNamespace] = {}
    errors: list[str] = []
    bound, sights = netns.list_bound_names(), sights or Sights()
    for name in (name for name in bound if _is_meant(name, patterns)):
        try:
            place = sights.of(name, bound[name])
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
            if netns.is_bound(name):  # else it has gone meanwhile
                errors.append(f"netns {name}: {error if isinstance(error, OSError) else contain_error(error)}")
            continue
        if place is not None:
            places.setdefault(place.identity, place)
    sights.keep(bound)
    return tuple(places.values()), errors


def _is_meant(name: str, patterns: Sequence[str]) -> bool:
    return netns.NAME.fullmatch(name) is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def _look_at(name: str, there: str, identity: Identity) -> LabelledNamespace | None:
    """Look at a namespace; None if it isn't a workload's. `there` is a path that leads to it for certain."""
    if is_own(there):
        return None
    number = number_of(there)
    labels = labels_of(number)
    if any(label.is_loopback and label.alias.startswith(OURS) for label in labels):
        return None
    kept = tuple(label for label in labels if not label.is_loopback)
    return LabelledNamespace(name, str(netns.path_of(name)), identity, number, kept)


def _find_ended(
    claims: Sequence[EniClaim], places: Sequence[LabelledNamespace], bindings: Sequence[Binding]
) -> frozenset[str]:
    """Return the ENIs with claims whose bound namespace has ended.

    Others aren't looked for, as each costs a search.
    """
    named, seen = {claim.eni_id for claim in claims}, {place.identity for place in places}
    asked = (binding for binding in current(bindings) if binding.eni_id in named and binding.identity not in seen)
    return frozenset(binding.eni_id for binding in asked if not is_there(binding.identity, binding.path))
