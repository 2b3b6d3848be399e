"""The text of `sgdp explain` for people: the answer, what decides at each end, and more with --verbose.

Owns the layout and the wording, except what model/words.py says of the rule or cause that decides. Must not know where
an explanation comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sgdataplane.analyse.explain import Explanation, FlowExplanation, NearMiss
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, PortRange, Protocol, Verdict
from sgdataplane.policy.dimensions import REMOTE
from sgdataplane.terminal.output import paint, paint_verdict, render_table, say, say_block, say_hanging

FEW = 3  # of what would decide otherwise, and of near misses, at each end
SHOWN = 5  # near misses at each end, with --verbose
REASON, OTHERWISE, NEARLY = "  reason:     ", "  otherwise:  ", "  nearly:     "
OUTRANKED = {
    "fixed": "what is checked before any rule",
    "default_is_last": "",
    "inner_accept_first": "inner accept, which comes before rules",
    "rules_first": "rules, which come before inner accept here",
    "priority": "priority",
    "drop_before_accept": "a drop of the same priority",
    "same": "one that is as strong and says the same",
}


def say_ends(flow: FlowExplanation, *, ports: str = "", verbose: bool = False) -> None:
    """Print what decides at each end.

    Args:
        flow: The flow.
        ports: All ports that have the same result as the packet's, in words; empty for the packet's alone.
        verbose: Whether to print also which rules nearly match, and why each one that could decide comes where it
            stands.
    """
    for end in flow.ends:
        say()
        say(f"{subject(end.packet, ports)}: {paint_verdict(end.decision.verdict.value)}")
        if verbose:
            _say_tables(end)
        else:
            _say_few(end)


def _say_few(end: Explanation) -> None:
    """Print what decides at an end, and the first ones of what would decide otherwise and of near misses."""
    say_hanging(REASON, _give_reason(end.decision, end.packet))
    for entry in end.later[:FEW]:
        say_hanging(OTHERWISE, f"{entry.decision.verdict.value}, {_give_reason(entry.decision, end.packet)}")
    nearly = [miss for miss in end.near_misses if miss.would_decide and _differs(miss, end.decision)]
    for miss in nearly[:FEW]:
        rule = f"{miss.decision.verdict.value}, rule {words.cite_decision(miss.decision)}"
        say_hanging(NEARLY, f"{rule}, which {_miss(miss, end.packet)}")
    left = list(_describe_hidden(end, len(nearly)))
    if left:
        say(f"  --verbose shows {' and '.join(left)}")


def _miss(miss: NearMiss, packet: Packet) -> str:
    """Return what a rule requires in the one field that differs, and what the packet has there."""
    side = "from" if packet.direction is Direction.INGRESS else "to"
    found = f"is {side} {miss.found}" if miss.dimension is REMOTE else f"has {miss.found}"
    return f"requires {miss.dimension.title} {miss.asked}; the packet {found}"


def _give_reason(decision: Decision, packet: Packet) -> str:
    """Return why a decision is so, with its priority."""
    if decision.would is not None:
        return words.sentence(decision, packet)
    priority = f" (priority {decision.priority})" if decision.priority else ""
    return words.because(decision, packet) + priority


def _differs(miss: NearMiss, decision: Decision) -> bool:
    return miss.decision.verdict is not decision.enforced.verdict


def _describe_hidden(end: Explanation, nearly: int) -> Iterator[str]:
    """Yield what isn't shown of an end, in words."""
    later, misses = len(end.later[FEW:]), len(end.near_misses) - min(nearly, FEW)
    if later:
        yield f"{later:,} more that would decide otherwise"
    if misses:
        more, one = "more " if nearly else "", misses == 1
        yield f"{misses:,} {more}{'rule that nearly matches' if one else 'rules that nearly match'}"


def _say_tables(end: Explanation) -> None:
    """Print everything that could decide at an end, in order, and near misses."""
    rows = [("decides", *_in_words(end.decision, end.packet), "")]
    rows += [("then", *_in_words(entry.decision, end.packet), OUTRANKED[entry.outranked_by]) for entry in end.later]
    headers = ("", "VERDICT", "PRIORITY", "BECAUSE OF", "OUTRANKED BY")
    shown = len(headers) if any(row[-1] for row in rows) else -1
    say_block(render_table(headers[:shown], [row[:shown] for row in rows]))
    if end.near_misses:
        _say_near_misses(end.near_misses)


def _in_words(decision: Decision, packet: Packet) -> tuple[str, str, str]:
    """Return verdict, priority and why, for a row of a table."""
    return decision.verdict.value, str(decision.priority or ""), words.because(decision, packet)


def _say_near_misses(misses: Sequence[NearMiss]) -> None:
    """Print the strongest near misses."""
    say("Near misses (one field differs):")
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
    say_block(render_table(("VERDICT", "PRIORITY", "RULE", "FIELD", "REQUIRES", "PACKET HAS", "WOULD DECIDE"), rows))
    if len(misses) > SHOWN:
        say(f"and {len(misses) - SHOWN} more (--json has them all)")


def say_parts(parts: Sequence[tuple[PortRange, FlowExplanation]]) -> None:
    """Print a row for each part of a range: its ports, whether they pass, and what decides at each end."""
    ends = parts[0][1].ends
    headers = ("PORTS", "PASSES", *(f"{end.packet.eni_id} {end.packet.direction.value}" for end in ends))
    rows = [
        (
            write_ports(ports),
            paint("yes", "green") if flow.passes else paint("no", "red"),
            *(f"{end.decision.verdict.value}: {words.because(end.decision, end.packet)}" for end in flow.ends),
        )
        for ports, flow in parts
    ]
    say_block(render_table(headers, rows))
    say("Name one port to see what would decide otherwise, and which rules nearly match.")


def write_ports(ports: PortRange) -> str:
    """Return ports as people write them: 22 or 22-80."""
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def summary(flow: FlowExplanation, subject: str = "The flow") -> str:
    """Say whether the flow passes, and which ENI drops it if not."""
    droppers = [end.packet.eni_id for end in flow.ends if end.decision.verdict is Verdict.DROP]
    if droppers:
        drop = "drop" if len(droppers) > 1 else "drops"
        return f"{subject} {paint('does not pass', 'red')}: {' and '.join(droppers)} {drop} it."
    if flow.other is None:
        known = f"{flow.asked.packet.remote} is no ENI of this state, so its end isn't known"
        return f"{subject} {paint('passes', 'green')}: {flow.asked.packet.eni_id} accepts it; {known}."
    audited = [end.packet.eni_id for end in flow.ends if end.decision.would is not None]
    only = f", {' and '.join(audited)} only in audit mode" if audited else ""
    return f"{subject} {paint('passes', 'green')}: both ends accept it{only}."


def subject(packet: Packet, ports: str = "") -> str:
    """Return the packet in one line."""
    way = "from" if packet.direction is Direction.INGRESS else "to"
    named = f" port {packet.port}" if not ports else f" ports {ports}"
    port = "" if packet.port is None else named
    return f"{packet.eni_id} {packet.direction.value} {Protocol(packet.protocol)}{port} {way} {packet.remote}"
