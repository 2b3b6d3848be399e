"""How `sgdp explain` reads for people.

Owns the tables, and the wording but for what decides (model/words.py). Is given what `analyse/explain.py` found. Must
not decide anything itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdataplane.analyse.explain import Explanation, Flow
from sgdataplane.analyse.nearmiss import NearMiss
from sgdataplane.cli.output import paint, render_table, say, say_block
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Protocol, Verdict

SHOWN = 5  # near misses, of each end
COLOURS = {"accept": "green", "drop": "red"}
OUTRANKED = {
    "fixed": "what is asked before any rule",
    "default_is_last": "",
    "inner_accept_first": "inner accept, which comes before rules",
    "rules_first": "rules, which come before inner accept here",
    "priority": "priority",
    "drop_before_accept": "a drop of the same priority",
    "same": "one that is as strong and says the same",
}


def say_flow(flow: Flow) -> None:
    """Each end, then the answer for both."""
    say_end(flow.asked)
    if flow.other is not None:
        say()
        say("The other end:")
        say_end(flow.other)
    say()
    say(summary(flow))


def say_end(end: Explanation) -> None:
    """The verdict and why, what would decide after it, and near misses."""
    say(f"{subject(end.packet)}: {painted(end.decision.verdict)}")
    rows = [("decides", *in_words(end.decision, end.packet), "")]
    rows += [("then", *in_words(entry.decision, end.packet), OUTRANKED[entry.outranked_by]) for entry in end.later]
    headers = ("", "VERDICT", "PRIORITY", "BECAUSE OF", "OUTRANKED BY")
    shown = len(headers) if any(row[-1] for row in rows) else -1
    say_block(render_table(headers[:shown], [row[:shown] for row in rows]))
    if end.near_misses:
        say_near_misses(end.near_misses)


def say_near_misses(misses: Sequence[NearMiss]) -> None:
    """The strongest of them."""
    say("Would match but for one thing:")
    rows = [
        (
            miss.decision.verdict.value,
            str(miss.decision.priority),
            words.name(miss.decision),
            miss.dimension.title,
            miss.asked,
            miss.found,
            "yes" if miss.would_decide else "no",
        )
        for miss in misses[:SHOWN]
    ]
    say_block(render_table(("VERDICT", "PRIORITY", "RULE", "BUT FOR", "ASKS FOR", "PACKET HAS", "WOULD DECIDE"), rows))
    if len(misses) > SHOWN:
        say(f"and {len(misses) - SHOWN} more (--json has them all)")


def summary(flow: Flow) -> str:
    """Whether the flow passes, and who keeps it from that."""
    droppers = [end.packet.eni_id for end in flow.ends if end.decision.verdict is Verdict.DROP]
    if droppers:
        return f"The flow {paint('does not pass', 'red')}: {' and '.join(droppers)} {_verb(droppers, 'drop')} it."
    if flow.other is None:
        known = f"{flow.asked.packet.remote} is no ENI of this state, so nothing is known of its end"
        return f"The flow {paint('passes', 'green')}: {flow.asked.packet.eni_id} accepts it; {known}."
    return f"The flow {paint('passes', 'green')}: both ends accept it."


def _verb(subjects: Sequence[str], verb: str) -> str:
    return verb if len(subjects) > 1 else f"{verb}s"


def subject(packet: Packet) -> str:
    """The packet in a line."""
    way = "from" if packet.direction is Direction.INGRESS else "to"
    ports = "" if packet.port is None else f" port {packet.port}"
    return f"{packet.eni_id} {packet.direction.value} {Protocol(packet.protocol)}{ports} {way} {packet.remote}"


def painted(verdict: Verdict) -> str:
    return paint(verdict.value, COLOURS[verdict.value])


def in_words(decision: Decision, packet: Packet) -> tuple[str, str, str]:
    """Verdict, priority and why, for a row of a table."""
    return decision.verdict.value, str(decision.priority or ""), words.because(decision, packet)
