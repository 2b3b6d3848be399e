"""A traced packet's path in words: what it met at each gate, and what decided there.

Owns the way from events to gates, and from a counter to a decision. Is given events and what stands where. Must not
know how packets are traced, or who asks.

A gate is a base chain: the policy's (of one ENI and direction), the fence's, or one of somebody else's tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import DELIVERED, NETDEV, entry_name
from sgdataplane.model import words
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.net.headers import ETH_IPV4, ETH_IPV6, EXTENSIONS, IPV6_HEADER, NEXT_HEADER, family_of
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.nft.tracing import Event
from sgdataplane.observe.headers import Headers, parse_headers
from sgdataplane.observe.hits import FIXED
from sgdataplane.observe.tracewords import Step, is_policy, step_of

POLICY, AT_FENCE, OTHER = "policy", "fence", "other"
ALWAYS, SESSION, INTERFACE, UNKNOWN = "always", "session", "interface", "unknown"
COUNTER = re.compile(r"rule\.(?P<group>[A-Za-z0-9_-]+)\.(?P<rule>[A-Za-z0-9_-]+)")


def headers_of(event: Event) -> Headers:
    """Of a base chain's first event. The kernel tells the network's header and, from where it begins, the transport's,
    not what stands between: of a packet with IPv6 extension headers the first one is the protocol, and that is all."""
    network = event.network
    match family_of(network):
        case Family.IPV4:
            return parse_headers(ETH_IPV4, network[: 4 * (network[0] & 15)] + event.transport)
        case Family.IPV6:
            is_next = network[NEXT_HEADER] not in EXTENSIONS
            return parse_headers(ETH_IPV6, network[:IPV6_HEADER] + (event.transport if is_next else b""))
    return Headers()


@dataclass(frozen=True, slots=True)
class Gate:
    """`kind`: policy, fence, or other for somebody else's chain, which `name` is. `verdict`: drop or accept, "continue"
    where there was none. `decision`: None if nothing that counts decided; `reason` as of Decision, or session
    (the policy in force has accepted the packet's session), interface (no ENI's), unknown."""

    kind: str
    name: str
    eni_id: str
    direction: Direction | None
    verdict: str
    reason: str
    decision: Decision | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Scene:
    """What stands in the namespace. `enis`: by interface. `ifnames`: by number. `counter_of`: the counter of an event's
    rule. `decisions`: by counter."""

    site: Site
    enis: Mapping[str, str]
    ifnames: Mapping[int, str]
    counter_of: Callable[[Event], str]
    decisions: Mapping[str, Decision]

    def decision(self, counter: str) -> Decision | None:
        """What the counter counts; of a rule that is not known, what its name says."""
        found = self.decisions.get(counter) or FIXED.get(counter)
        said = COUNTER.fullmatch(counter)
        if found is None and said is not None:
            return Decision(Direction.INGRESS, Verdict.ACCEPT, RULE, said["group"], said["rule"])
        return found


def gates(scene: Scene, events: Iterable[Event]) -> tuple[Gate, ...]:
    """What the packet met, in order; but for the chain that gives the router's sessions their timeouts, and decides
    nothing."""
    return tuple(_gate(scene, group) for group in _groups(events) if not _is_for_timeouts(group[0]))


def _is_for_timeouts(first: Event) -> bool:
    return is_policy(first) and first.chain == DELIVERED


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    group: list[Event] = []
    for event in events:
        is_other = bool(group) and (event.family, event.table) != (group[-1].family, group[-1].table)
        if group and (event.network or is_other or group[-1].verdict in ("accept", "drop")):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _gate(scene: Scene, events: list[Event]) -> Gate:
    first, last = events[0], events[-1]
    verdict = last.verdict if last.verdict in ("accept", "drop") else "continue"
    if not is_policy(first):
        name = f"{first.family} {first.table} {first.chain}"
        return Gate(OTHER, name, "", None, verdict, UNKNOWN, None, ())
    direction = Direction.EGRESS
    if first.family == NETDEV:
        ifname = scene.ifnames.get(first.oif or first.iif, "")
    else:
        direction = next((one for one in Direction if first.chain == one.value), direction)
        ifname = scene.ifnames.get(first.oif if scene.site.is_leaving(direction) else first.iif, "")
    counted = [(event, scene.counter_of(event)) for event in events]
    found = (scene.decision(name) for _, name in reversed(counted))
    decision = next((entry for entry in found if entry is not None), None)
    steps = tuple(_steps(scene, counted))
    kind = AT_FENCE if first.family == NETDEV else POLICY
    reason = _reason(decision, steps, verdict)
    return Gate(kind, first.chain, scene.enis.get(ifname, ""), direction, verdict, reason, decision, steps)


def _steps(scene: Scene, counted: Iterable[tuple[Event, str]]) -> Iterator[Step]:
    """What was decided is said once."""
    said = ""
    for event, counter in counted:
        decision = scene.decision(counter)
        yield step_of(event, "" if decision is None or counter == said else words.sentence(decision))
        said = counter or said


def _reason(decision: Decision | None, steps: tuple[Step, ...], verdict: str) -> str:
    if decision is not None:
        return decision.reason
    stations = {step.station for step in steps} - {"timeouts"}
    if verdict == "accept" and stations <= {"entry", "session", "approved"} and steps:
        return INTERFACE if steps[-1].chain in _ENTRIES else SESSION
    return ALWAYS if verdict == "accept" and stations == {"fence"} else UNKNOWN


_ENTRIES = tuple(entry_name(hook) for hook in Direction)
