"""Which ENI an interface says that it carries, by its alias or MAC, and which bindings follow from that.

Owns what is ambiguous, and so refused. Is given values only: what was seen, and what is bound. Must not know kernels.

    one interface, one ENI, neither bound                       bound
    bound so before, and the interface is still there           stays, whatever it says now, and whatever others say
    bound so before, and it isn't: one other says the same      bound there (it was renamed, or moved, or came back)
    anything else                                               refused, with all places; what is bound stays bound

What is refused binds nothing, and ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.attach.registry import Binding, Means, current
from sgdataplane.attach.report import Refusal
from sgdataplane.host.identity import Identity
from sgdataplane.host.rtnetlink import Label
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import IFNAME

CLOUDS_OWN = re.compile(r"eni-[A-Za-z0-9._-]{1,59}")  # an alias that is an ENI's id, whether or not the state has it


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace with a name under /run/netns, and its interfaces, loopback aside. `number`: as of host/events.py."""

    name: str
    path: str
    identity: Identity
    number: int
    labels: tuple[Label, ...]

    def __str__(self) -> str:
        return f"netns {self.name}"


@dataclass(frozen=True, slots=True)
class Claim:
    """An interface that names an ENI. `doubt`: why that isn't clear, "" if it is."""

    eni_id: str
    means: Means
    place: Place
    ifname: str
    doubt: str = ""

    def __str__(self) -> str:
        return f"{self.ifname} of {self.place}"

    @property
    def interface(self) -> tuple[Identity, str]:
        return self.place.identity, self.ifname

    @property
    def binding(self) -> Binding:
        place = self.place
        return Binding(self.eni_id, self.ifname, str(place), place.path, place.identity, means=self.means)


@dataclass(frozen=True, slots=True)
class Matched:
    """Bindings to make, in place of those that their ENIs have, and what is refused."""

    bindings: tuple[Binding, ...]
    refusals: tuple[Refusal, ...]


def claims_of(state: CloudState, means: Collection[Means], places: Sequence[Place]) -> tuple[Claim, ...]:
    """All that interfaces say. An alias counts if it is an ENI of the state, or begins as the cloud's ids do: of an ENI
    that comes to the state later nothing passes until then."""
    by_mac: dict[str, set[str]] = {}
    if Means.MAC in means:
        for eni in state.network_interfaces:
            by_mac.setdefault(eni.mac_address, set()).add(eni.network_interface_id)
    is_alias = Means.ALIAS in means
    found: list[Claim] = []
    for place in places:
        for label in place.labels:
            is_id = is_alias and (label.alias in state.eni or CLOUDS_OWN.fullmatch(label.alias))
            found += _said(place, label, {label.alias} if is_id else set(), by_mac.get(label.mac, set()))
    return tuple(found)


def _said(place: Place, label: Label, alias: set[str], mac: set[str]) -> Iterator[Claim]:
    """One claim if it is clear; else one for each ENI that it might be."""
    both = alias & mac or alias | mac
    doubt = ""
    if alias and not alias & mac and mac:
        doubt = "the interface has the alias of one ENI and the MAC of another"
    elif len(both) > 1:
        doubt = "the interface has a MAC that several ENIs have"
    elif not IFNAME.fullmatch(label.ifname):
        doubt = "the interface has a name that can't stand in rules"
    for eni_id in sorted(both):
        yield Claim(eni_id, Means.ALIAS if eni_id in alias else Means.MAC, place, label.ifname, doubt)


def match(
    claims: Sequence[Claim], places: Sequence[Place], bindings: Sequence[Binding], ended: Collection[str]
) -> Matched:
    """What follows. `places`: all that were looked at. `ended`: ENIs whose binding's namespace is gone."""
    by_eni: dict[str, list[Claim]] = {}
    for claim in claims:
        by_eni.setdefault(claim.eni_id, []).append(claim)
    bound = {binding.eni_id: binding for binding in current(bindings)}
    owners = {(binding.identity, binding.ifname): binding.eni_id for binding in bindings}
    there = {(place.identity, label.ifname) for place in places for label in place.labels}
    seen = {place.identity for place in places}
    results = [
        _judged(mine, bound.get(eni_id), owners, is_gone=eni_id in ended or _is_gone(bound.get(eni_id), seen, there))
        for eni_id, mine in sorted(by_eni.items())
    ]
    made = tuple(result for result in results if isinstance(result, Binding))
    return Matched(made, tuple(result for result in results if isinstance(result, Refusal)))


def _is_gone(binding: Binding | None, seen: Collection[Identity], there: Collection[tuple[Identity, str]]) -> bool:
    """Whether what was bound by what it said isn't where it was. Of a namespace that was not looked at nobody knows; an
    interface whose other end is in a router is enforced there, wherever it is."""
    if binding is None:
        return True
    is_ours_to_move = binding.means is not Means.ATTACH and binding.host_end is None
    return is_ours_to_move and binding.identity in seen and (binding.identity, binding.ifname) not in there


def _judged(
    claims: Sequence[Claim], binding: Binding | None, owners: Mapping[tuple[Identity, str], str], *, is_gone: bool
) -> Binding | Refusal | None:
    """What becomes of one ENI. `owners`: who is bound to an interface."""
    eni_id = claims[0].eni_id
    where = tuple(map(str, claims))
    if binding is not None and not is_gone:
        others = [claim for claim in claims if claim.interface != (binding.identity, binding.ifname)]
        if others:
            return Refusal(eni_id, "it stays bound where it is, and others name it", (str(binding), *map(str, others)))
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
