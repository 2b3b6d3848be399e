"""What it means that a packet met a rule of one of our chains, in words.

Owns these words. Is given events in order. Must not know where they come from. The chains:
docs/design/ruleset.md and fence.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sgdataplane.contract.tables import TABLE
from sgdataplane.nft.tracing import Event


class Step(NamedTuple):
    """`station` is the part of the ruleset that `chain` belongs to; `words` are empty where nothing was decided."""

    station: str
    chain: str
    verdict: str
    target: str
    words: str


SESSION_WORDS = "the policy in force has accepted its session: no rule is asked"

# The first whose prefix fits. Words by what the rule did; "*" whatever it did.
STATIONS: tuple[tuple[tuple[str, ...], str, Mapping[str, str]], ...] = (
    (
        ("ingress-entry", "egress-entry"),
        "entry",
        {"accept": "by lo, an internal interface or an uplink: passes", "drop": "by an interface that no policy knows"},
    ),
    (("ingress-related", "egress-related", "errors-"), "related", {"accept": "an ICMP error of an accepted session"}),
    (
        ("ingress-original", "ingress-reply", "egress-original", "egress-reply"),
        "session",
        {"accept": SESSION_WORDS},
    ),
    (
        ("ingress-accept", "egress-accept", "ingress-marks", "egress-marks"),
        "accepted",
        {"continue": "", "goto": "", "accept": "passes; its session is noted as accepted"},
    ),
    (("ingress-refuse", "egress-refuse"), "refused", {"drop": "is dropped; its session is noted as refused"}),
    (("ingress-drop", "egress-drop"), "dropped", {"drop": "is dropped"}),
    (("ingress-link", "egress-link"), "link", {"accept": "neighbour discovery, MLD or DHCP: always passes"}),
    (("ingress-checks", "egress-checks"), "checks", {"accept": "neighbour discovery or DHCP: always passes"}),
    (("egress-midstream",), "mid-stream", {"return": "TCP of no known session, while its ENI is adopted: is judged"}),
    (("egress-pass",), "approved", {"accept": "passes the policy"}),
    (("uplink",), "uplink", {"accept": "from an uplink: passes"}),
    (("timeouts-",), "timeouts", {"*": ""}),
    (("eni-",), "ENI", {"goto": "addresses and session are as they must be: the rules are asked"}),
    (("profile-",), "profile", {"*": ""}),
    (("far-",), "remote", {"*": ""}),
    (("segments-",), "segment", {"goto": "by the address block that the other end is in"}),
    (("protocol-",), "class", {"goto": "by its protocol"}),
    (("port-",), "class", {"goto": "by its port"}),
    (("source-port-",), "class", {"goto": "by its source port"}),
    (("local-",), "class", {"goto": "by the ENI's own address"}),
    (("steps-",), "class", {"goto": "by a few rules, one by one"}),
    (("wide-",), "wide", {"goto": "by the rules for everywhere, as none for this other end alone decides"}),
)

DECIDING = ("leaf.", "ingress-drop.", "egress-drop.", "fence-drop.")  # chains that count, each in one counter


def step_of(event: Event, decided: str) -> Step:
    """`decided`: who decided, in words, if the rule counts that."""
    if event.family == "netdev":
        words = "the frame is as the fence wants it" if event.verdict == "accept" else decided
        return Step("fence", event.chain, event.verdict, event.target, words)
    for prefixes, station, words_of in STATIONS:
        if event.chain.startswith(prefixes):
            words = decided or words_of.get(event.verdict, words_of.get("*", ""))
            return Step(station, event.chain, event.verdict, event.target, words or _way(station, event))
    if event.chain.startswith("leaf."):
        return Step("leaf", event.chain, event.verdict, event.target, decided)
    return Step("entry", event.chain, event.verdict, event.target, decided or _entry(event))


def _entry(event: Event) -> str:
    """Of the base chain."""
    if event.verdict == "accept":
        return SESSION_WORDS
    if event.target.startswith(("ingress-original", "ingress-reply", "egress-original", "egress-reply")):
        return "of a session that the policy in force has accepted"
    if event.target.startswith("eni-"):
        return "of no session that the policy in force has accepted"
    return "by no ENI's interface" if event.target.startswith((*_ENTRIES,)) else ""


_ENTRIES = tuple(f"{hook}-entry" for hook in ("ingress", "egress"))


def _way(station: str, event: Event) -> str:
    if station == "session":
        is_own = event.target.startswith("egress-pass")
        return SESSION_WORDS if is_own else "another ENI has accepted its session: it is judged here, too"
    if station == "profile":
        return f"the other end is {'a' if '.kin-' in event.target else 'no'} member of groups that rules name"
    if station == "remote":
        return "by the groups of the other end" if ".kin-" in event.chain else ""
    return ""


def is_policy(event: Event) -> bool:
    """Of our tables."""
    return event.table == TABLE and event.family in ("inet", "netdev")
