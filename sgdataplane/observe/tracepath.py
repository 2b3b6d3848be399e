"""The path of a traced packet in words: what it met at each gate, what decided there, and what each step means.

Owns these words, the way from events to gates, and from a counter to a decision (the chains: docs/design/ruleset.md and
fence.md). Is given events and what exists in the namespace. Must not know how packets are traced, or who asks.

A gate is a base chain: the policy's (of one ENI and direction), the fence's, or one of another program's tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import DELIVERED, NETDEV, SENT, TABLE, UPLINK, entry_name, gate_name
from sgdataplane.model import words
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.net.headers import ETH_IPV4, ETH_IPV6, EXTENSIONS, IPV6_HEADER, NEXT_HEADER, family_of
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.nft.tracing import Event
from sgdataplane.observe.headers import Headers, parse_headers
from sgdataplane.observe.hits import FIXED


class TraceStep(NamedTuple):
    """One rule that a packet met."""

    station: str
    """The part of the ruleset to which `chain` belongs."""
    chain: str
    verdict: str
    """The rule's verdict, as the kernel names it."""
    target: str
    """The chain that the packet went to; empty if it didn't."""
    words: str
    """Empty if the rule decided nothing."""


ENTRIES = tuple(entry_name(hook) for hook in Direction)
GATES = tuple(gate_name(hook) for hook in Direction)
SESSION_WORDS = "session accepted by the policy in force: passes"
INTERFACE_WORDS = "its interface is lo, an internal one or an uplink: passes"

# The first entry with a fitting prefix holds. Its words depend on what the rule did. How the compiler finds the rule
# that decides (profiles, groups, rules) has no words: the leaf says which one that is.
STATIONS: tuple[tuple[tuple[str, ...], str, Mapping[str, str]], ...] = (
    (
        ENTRIES,
        "entry",
        {
            "accept": INTERFACE_WORDS,
            "drop": "no policy knows its interface",
        },
    ),
    (("ingress-related", "egress-related", "errors-"), "related", {"accept": "an ICMP error of an accepted session"}),
    (
        ("ingress-accept", "egress-accept", "ingress-epoch", "egress-epoch"),
        "accepted",
        {"continue": "", "accept": "passes; session marked as accepted"},
    ),
    (("ingress-refuse", "egress-refuse"), "refused", {"drop": "dropped; session marked as refused"}),
    (("ingress-drop", "egress-drop"), "dropped", {"drop": "is dropped"}),
    (
        ("ingress-link", "egress-link", "egress-far"),
        "link",
        {"accept": "neighbour discovery, MLD or DHCP: always passes"},
    ),
    (("ingress-checks", "egress-checks"), "checks", {"accept": "neighbour discovery or DHCP: always passes"}),
    (
        ("egress-midstream",),
        "mid-stream",
        {"return": "TCP without a known session, in its ENI's adoption window: is judged"},
    ),
    (
        ("limit-",),
        "session limit",
        {"continue": "its ENI may open another session", "return": "its session was accepted before"},
    ),
    (("egress-pass", "ingress-pass"), "approved", {"accept": "passes the policy"}),
    (("uplink",), "uplink", {"accept": "came from an uplink: passes"}),
    (("timeouts-",), "timeouts", {}),
    (("eni-",), "ENI", {}),
    (("audit-",), "audit", {}),
    (("profile-",), "profile", {}),
    (("groups-", "group-protocol-", "group-port-", "group-sets-", "rank-"), "groups", {}),
    (("address-", "protocol-", "port-", "source-port-", "local-", "remote-", "steps-", "rank."), "rules", {}),
)

LEAVES = ("leaf.", "audit.")
DECIDING = (*LEAVES, "ingress-drop.", "egress-drop.", "fence-drop.")  # chains that count, each in one counter


def step_of(event: Event, decided: str, *, is_elsewhere: bool = False) -> TraceStep:
    """Return an event as a step.

    Args:
        event: The event.
        decided: What decided, in words, if the rule counts that; else empty.
        is_elsewhere: Whether the packet's interface is known to carry no ENI.
    """
    if event.family == "netdev":
        words = "the frame passes the fence" if event.verdict == "accept" else decided
        return TraceStep("fence", event.chain, event.verdict, event.target, words)
    for prefixes, station, words_of in STATIONS:
        if event.chain.startswith(prefixes):
            words = decided or words_of.get(event.verdict, "")
            return TraceStep(station, event.chain, event.verdict, event.target, words)
    if event.chain.startswith(LEAVES):
        words = "" if event.verdict == "return" else decided  # a stronger rule on a group is there
        return TraceStep("leaf", event.chain, event.verdict, event.target, words)
    return TraceStep("entry", event.chain, event.verdict, event.target, decided or _entry(event, is_elsewhere))


def _entry(event: Event, is_elsewhere: bool) -> str:
    """Return the words for a rule of the base chain, or of the one that leads to the ENI's."""
    if event.verdict == "accept":
        return INTERFACE_WORDS if is_elsewhere else SESSION_WORDS
    if event.target.startswith(GATES):
        return "new session: evaluating rules"
    return "its interface carries no ENI" if event.target.startswith((*ENTRIES, UPLINK)) else ""


def is_policy(event: Event) -> bool:
    """Return whether the event comes from sgdataplane's tables."""
    return event.table == TABLE and event.family in ("inet", "netdev")


POLICY, AT_FENCE, OTHER = "policy", "fence", "other"
ALWAYS, SESSION, INTERFACE, UNKNOWN = "always", "session", "interface", "unknown"
COUNTER = re.compile(r"rule\.(?P<group>[A-Za-z0-9_-]+)\.(?P<rule>[A-Za-z0-9_-]+)")


def headers_of(event: Event) -> Headers:
    """Return the headers in a base chain's first event.

    The kernel reports the network header and the transport header, and not what is between. For a packet with IPv6
    extension headers we know only that its protocol is the first of these.
    """
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
    """What happened at one base chain."""

    kind: str
    """POLICY, AT_FENCE, or OTHER for another program's chain."""
    name: str
    eni_id: str
    """Empty if the interface carries no ENI, or the chain is another program's."""
    direction: Direction | None
    verdict: str
    """`drop`, `accept`, or `continue` if there was none."""
    reason: str
    """As in Decision, or one of three more.

    SESSION: the policy in force has accepted the packet's session. INTERFACE: it carries no ENI. UNKNOWN: nothing
    tells.
    """
    decision: Decision | None
    """None if no counting rule decided."""
    steps: tuple[TraceStep, ...]


@dataclass(frozen=True)
class Scene:
    """Everything in the namespace that events are explained by."""

    site: Site
    enis: Mapping[str, str]
    """ENI ids by interface."""
    ifnames: Mapping[int, str]
    """Interfaces by index."""
    counter_of: Callable[[Event], str]
    """Returns the counter of an event's rule."""
    decisions: Mapping[str, Decision]
    """What each counter counts."""

    def decision(self, counter: str) -> Decision | None:
        """Return what the counter counts; for an unknown rule, what the counter's name says; else None."""
        found = self.decisions.get(counter) or FIXED.get(counter)
        said = COUNTER.fullmatch(counter)
        if found is None and said is not None:
            return Decision(Direction.INGRESS, Verdict.ACCEPT, RULE, said["group"], said["rule"])
        return found


def gates(scene: Scene, events: Iterable[Event]) -> tuple[Gate, ...]:
    """Return what the packet met, in order, without the chains that judge nothing.

    These are the chain that sets timeouts of the router's own sessions, and the one that lets the router's own packets
    go on.
    """
    return tuple(_gate(scene, group) for group in _groups(events) if not _judges_nothing(group))


def _judges_nothing(events: Sequence[Event]) -> bool:
    """Return whether these events are of a chain that judges nothing."""
    first, last = events[0], events[-1]
    is_sent = first.chain == SENT and last.verdict != "drop"
    return is_policy(first) and (first.chain == DELIVERED or is_sent)


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield the events of one base chain after the other."""
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
        direction = Direction.INGRESS if first.oif and scene.site.placement.is_outside else direction
    else:
        direction = next((one for one in Direction if first.chain == one.value), direction)
        ifname = scene.ifnames.get(first.oif if scene.site.is_leaving(direction) else first.iif, "")
    counted = [(event, scene.counter_of(event)) for event in events]
    found = (scene.decision(name) for _, name in reversed(counted))
    decision = next((entry for entry in found if entry is not None), None)
    is_elsewhere = bool(ifname) and ifname not in scene.enis
    steps = tuple(_steps(scene, counted, is_elsewhere))
    kind = AT_FENCE if first.family == NETDEV else POLICY
    reason = _reason(decision, steps, verdict, is_elsewhere)
    return Gate(kind, first.chain, scene.enis.get(ifname, ""), direction, verdict, reason, decision, steps)


def _steps(scene: Scene, counted: Iterable[tuple[Event, str]], is_elsewhere: bool) -> Iterator[TraceStep]:
    """Yield the events as steps; each decision is put into words once."""
    said = ""
    for event, counter in counted:
        decision = scene.decision(counter)
        decided = "" if decision is None or counter == said else words.sentence(decision)
        yield step_of(event, decided, is_elsewhere=is_elsewhere)
        said = counter or said


def _reason(decision: Decision | None, steps: tuple[TraceStep, ...], verdict: str, is_elsewhere: bool) -> str:
    """Return why the packet fared as it did at a base chain."""
    if decision is not None:
        return decision.reason
    stations = {step.station for step in steps} - {"timeouts"}
    if verdict == "accept" and stations <= {"entry", "approved", "uplink"} and steps:
        return INTERFACE if is_elsewhere or steps[-1].chain in ENTRIES else SESSION
    if verdict == "accept" and stations == {"fence"}:
        return INTERFACE if is_elsewhere else ALWAYS
    return UNKNOWN
